"""The flow of a query: drop → tables → answer → delivered."""

from consumers.answering import Answering
from consumers.delivery.download import Downloads
from consumers.drop import Answer, Drop
from consumers.ports import Report
from consumers.s3_file_management import Scratch
from events.keys import Flow
from events.manifest import DownloadDestination
from events.results import Stage


async def process_query(
    drop: Drop, *, report: Report, answering: Answering, downloads: Downloads, scratch: Scratch
) -> Answer:
    """Answer a request about tables with a table, in the format that the manifest asks for."""
    async with scratch.of(drop.job) as folder:
        analysis, notes = await answering.run(drop, Flow.QUERY, report=report, scratch=folder)
        await report(Stage.DELIVER, "Writing the result.")
        destination = drop.manifest.destination
        assert isinstance(destination, DownloadDestination)
        delivered = await downloads.table(drop, analysis.file, file_format=destination.format, scratch=folder)
    return Answer(delivered.files, text=analysis.answer, notes=(*notes, *delivered.notes))
