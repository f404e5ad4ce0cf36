"""The flow of a visualization: drop → tables → chart."""

from consumers.answering import Answering
from consumers.delivery.download import Downloads
from consumers.drop import Answer, Drop
from consumers.ports import Report
from consumers.s3_file_management import Scratch
from events.keys import Flow
from events.results import Stage


async def visualize_data(
    drop: Drop, *, report: Report, answering: Answering, downloads: Downloads, scratch: Scratch
) -> Answer:
    """Draw what the request asks for: a chart as PNG, SVG and Vega-Lite."""
    async with scratch.of(drop.job) as folder:
        analysis, notes = await answering.run(drop, Flow.VISUALIZATION, report=report, scratch=folder)
        await report(Stage.DELIVER, "Drawing the chart.")
        delivered = await downloads.chart(drop, analysis.file, scratch=folder)
    return Answer(delivered.files, text=analysis.answer, notes=(*notes, *delivered.notes))
