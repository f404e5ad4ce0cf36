"""The flow of a query: drop → tables → answer → delivered."""

from pathlib import Path

from consumers.answering import Answering
from consumers.delivery.download import Downloads
from consumers.delivery.google_sheet import GoogleSheets
from consumers.drop import Answer, Drop
from consumers.errors import Permanent
from consumers.ports import Report
from consumers.s3_file_management import Scratch
from events.keys import Flow
from events.manifest import DownloadDestination, GoogleSheetDestination
from events.results import FailureCode, Stage


async def process_query(
    drop: Drop, *, report: Report, answering: Answering, downloads: Downloads, sheets: GoogleSheets, scratch: Scratch
) -> Answer:
    """Answer a request about tables with a table: as a file, or as rows of the user's sheet."""
    async with scratch.of(drop.job) as folder:
        match drop.manifest.destination:
            case DownloadDestination() as download:
                return await _as_files(
                    drop, download, report=report, answering=answering, downloads=downloads, folder=folder
                )
            case GoogleSheetDestination() as sheet:
                return await _in_a_sheet(drop, sheet, report=report, answering=answering, sheets=sheets, folder=folder)


async def _as_files(
    drop: Drop,
    destination: DownloadDestination,
    *,
    report: Report,
    answering: Answering,
    downloads: Downloads,
    folder: Path,
) -> Answer:
    analysis, notes = await answering.run(drop, Flow.QUERY, report=report, scratch=folder)
    await report(Stage.DELIVER, "Writing the result.")
    delivered = await downloads.table(drop, analysis.tables, destination=destination, scratch=folder)
    return Answer(delivered.files, text=analysis.answer, notes=(*notes, *delivered.notes))


async def _in_a_sheet(
    drop: Drop,
    destination: GoogleSheetDestination,
    *,
    report: Report,
    answering: Answering,
    sheets: GoogleSheets,
    folder: Path,
) -> Answer:
    # Before the work: a sheet that cannot be written to is told in a second, not after minutes.
    opened = await sheets.open(drop, destination)
    if isinstance(opened, Answer):
        return opened
    analysis, notes = await answering.run(drop, Flow.QUERY, report=report, scratch=folder)
    if len(analysis.tables) > 1:
        raise Permanent(
            FailureCode.NOT_SUPPORTED,
            f"The answer has {len(analysis.tables)} tables, and a sheet takes one. Ask for one table, or choose a "
            "download as xlsx, which holds them all.",
        )
    await report(Stage.DELIVER, "Adding the rows to the sheet.")
    answer = Answer((), text=analysis.answer, notes=notes)
    return await sheets.append(opened, analysis.file, answer, report=report, scratch=folder)
