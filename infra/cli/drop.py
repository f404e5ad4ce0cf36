"""``dropchute drop``: hand files and a request in, follow the job, save what it answers."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from events.fields import MAX_QUERY_CHARS
from events.keys import JobRef
from events.manifest import MAX_FILES, MAX_TAB_CHARS, Destination, DownloadDestination, GoogleSheetDestination
from events.results import Completed, Failed
from events.sheet_url import parse_sheet_url
from events.status import CompletedOutcome, FailedOutcome, JobStatus, State
from events.text import sendable
from infra.cli import show
from infra.cli.endings import Ending, ExitCode, ending_of, wrong_usage
from infra.cli.environment import read_settings
from infra.drop_client import DropClient, Request, drop_client
from infra.logs import configure_logs
from infra.provision import locate
from infra.settings import Settings

RESULTS = Path("dropchute-results")


@dataclass(slots=True)
class Handed:
    """What is known of a drop so far; ``files`` are where its results were saved."""

    job: JobRef | None = None
    status: JobStatus | None = None
    files: Sequence[Path] = ()


def run(files: Sequence[Path], request: Request, *, out: Path | None, as_json: bool, embedded: bool) -> None:
    """Hand in, follow, save, show; with ``as_json``, one object on stdout however it ends."""
    handed, human = Handed(), Console(stderr=as_json)
    try:
        asyncio.run(_drop(files, request, handed, out=out, human=human, embedded=embedded))
    except KeyboardInterrupt:
        raise Ending(ExitCode.INTERRUPTED, _how_to_look_again(handed.job, embedded=embedded)) from None
    except Exception as error:
        ending = ending_of(error)
        if as_json and ending is not None:
            print_json(facts(handed) | {"code": ending.code, "message": ending.sentence})
        raise
    if as_json:
        print_json(facts(handed))


def destination_of(
    file_format: str | None, *, bom: bool, sheet: str | None, tab: str | None, new_tab: bool, chart: bool
) -> Destination:
    """Where the answer goes, as the options say; raises Ending for options that exclude each other."""
    if sheet is None:
        if tab is not None or new_tab:
            raise wrong_usage("--tab and --new-tab say where in a sheet: give its link with --sheet.")
        if bom and file_format != "csv":
            raise wrong_usage("--bom is a choice of --format csv.")
        return DownloadDestination.model_validate({"format": file_format or "xlsx", "bom": bom})
    if chart or file_format is not None or bom:
        raise wrong_usage("--sheet excludes --chart, --format and --bom: the answer goes to the sheet.")
    if parse_sheet_url(sheet) is None:
        raise _no_sheet()
    mode = "new_tab" if new_tab else "append"
    try:
        return GoogleSheetDestination.model_validate({"type": "google_sheet", "url": sheet, "sheet": tab, "mode": mode})
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("url",):
            raise _no_sheet() from error
        raise wrong_usage(f"--tab must be 1 to {MAX_TAB_CHARS} characters on one line.") from error


def _no_sheet() -> Ending:
    return wrong_usage(
        "--sheet must be the address of a Google Sheet, without blanks: https://docs.google.com/spreadsheets/d/…"
    )


async def _drop(
    files: Sequence[Path], request: Request, handed: Handed, *, out: Path | None, human: Console, embedded: bool
) -> None:
    if not request.query.strip():
        raise wrong_usage("--ask must say what to do with the files.")
    if len(request.query) > MAX_QUERY_CHARS:
        raise wrong_usage(f"--ask has {len(request.query):,} characters; {MAX_QUERY_CHARS:,} are allowed.")
    if len(files) > MAX_FILES:
        raise wrong_usage(f"{len(files)} files are too many; one drop has {MAX_FILES} at the most.")
    settings = read_settings()
    async with _own_stack(settings, human) if embedded else _deployed(settings) as here, drop_client(here) as client:
        completed = await hand_in(client, files, request, handed, out=out, human=human)
        show.answer(human, completed, handed.files)


async def hand_in(
    client: DropClient, files: Sequence[Path], request: Request, handed: Handed, *, out: Path | None, human: Console
) -> Completed:
    """One drop from its files to its saved results, by default in a folder of the job's own.

    Raises:
        Ending: the job failed.
    """
    with show.uploading(human, files) as bar:
        handed.job = await client.drop(files, request, on_bytes=bar.advance)
    show.say(human, f"handed in as {handed.job}", style="dim")
    handed.status = await show.following(human, client.follow(handed.job))
    match handed.status.outcome:
        case CompletedOutcome(data=Completed() as completed):
            handed.files = await client.save(completed, out or RESULTS / handed.job.job_id)
            return completed
        case FailedOutcome(data=Failed() as failed):
            raise job_failed(failed)
        case _:
            raise AssertionError("followed to its end")


def job_failed(failed: Failed) -> Ending:
    return Ending(ExitCode.FAILED, failed.message, code=failed.code)


@asynccontextmanager
async def _deployed(settings: Settings) -> AsyncIterator[Settings]:
    await asyncio.to_thread(locate, settings)
    yield settings


@asynccontextmanager
async def _own_stack(settings: Settings, human: Console) -> AsyncIterator[Settings]:
    # Optional: moto and the replayed model come with the extra "embedded".
    from infra.cli.embedded import own_stack  # noqa: PLC0415

    configure_logs(level=logging.ERROR)
    async with own_stack(settings, human) as embedded:
        yield embedded.settings


def facts(handed: Handed) -> dict[str, Any]:
    """What ``--json`` prints: the same names however far the job is, and ``code`` and ``message`` if it failed."""
    status = handed.status
    told: dict[str, Any] = {
        "job_id": handed.job.job_id if handed.job else None,
        "session_id": handed.job.session_id if handed.job else None,
        "state": status.state if status else State.WAITING if handed.job else None,
        "answer": None,
        "files": [str(path) for path in handed.files],
        "sheet": None,
        "notes": [],
        "seconds": {},
    }
    match status.outcome if status else None:
        case CompletedOutcome(data=completed):
            told |= {"answer": completed.answer, "notes": completed.notes, "seconds": completed.seconds}
            told["sheet"] = completed.sheet.model_dump(mode="json") if completed.sheet else None
        case FailedOutcome(data=failed):
            told |= {"code": failed.code, "message": failed.message}
    return told


def print_json(told: dict[str, Any]) -> None:
    sys.stdout.write(sendable(json.dumps(told, ensure_ascii=False)) + "\n")


def _how_to_look_again(job: JobRef | None, *, embedded: bool) -> str:
    if job is None:
        return "Stopped before anything was handed in."
    if embedded:
        return "Stopped; the embedded stack is gone, and the job with it."
    return f"Stopped watching; the job goes on. Look again with: dropchute status {job}"
