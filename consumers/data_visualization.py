"""The flow of a visualization: drop → tables → chart."""

from pathlib import Path

from consumers.answering import Answering
from consumers.delivery.download import Downloads
from consumers.drop import Answer, Drop
from consumers.ports import Report
from consumers.s3_file_management import scratch_folder
from events.keys import Flow
from events.results import Stage


async def visualize_data(
    drop: Drop, *, report: Report, answering: Answering, downloads: Downloads, scratch_root: Path | None
) -> Answer:
    """Draw what the request asks for: a chart as PNG, SVG and Vega-Lite."""
    with scratch_folder(scratch_root, drop.job) as scratch:
        analysis, notes = await answering.run(drop, Flow.VISUALIZATION, report=report, scratch=scratch)
        await report(Stage.DELIVER, "Drawing the chart.")
        delivered = await downloads.chart(drop, analysis.file, scratch=scratch)
    return Answer(delivered.files, text=analysis.answer, notes=(*notes, *delivered.notes))
