"""``dropchute dev``: S3, SQS, a worker and Google Sheets in this process, for another terminal, until Ctrl-C."""

import asyncio
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from infra.cli import show
from infra.cli.embedded import own_stack
from infra.cli.environment import read_settings
from infra.cli.worker import stopping_on_signals
from infra.embedded.sheets import SheetsEmulator
from infra.embedded.stack import EmbeddedStack, emulated_sheets
from infra.logs import configure_logs
from infra.settings import Settings

SHEET_ID = "dropchute-dev-sheet"
SHEET_URL = f"https://docs.google.com/spreadsheets/d/{SHEET_ID}/edit"


def run() -> None:
    configure_logs()
    asyncio.run(_serve(read_settings(), Console()))


async def _serve(settings: Settings, console: Console) -> None:
    with stopping_on_signals() as stop, _sheets(settings) as (here, emulator):
        async with own_stack(here, console) as embedded:
            _tell(console, embedded, emulator)
            await stop.wait()
            show.say(console, "Stopping; what was kept here is forgotten.")


@contextmanager
def _sheets(settings: Settings) -> Iterator[tuple[Settings, SheetsEmulator | None]]:
    """Google's own with a service account that is configured; else an emulator, with one empty spreadsheet."""
    if settings.google_service_account_file is not None:
        yield settings, None
        return
    with emulated_sheets(settings) as (here, emulator):
        book = emulator.service.create("Try me", spreadsheet_id=SHEET_ID)
        emulator.service.share(book.id, emulator.service_account_info()["client_email"], "writer")
        yield here, emulator


def _tell(console: Console, embedded: EmbeddedStack, emulator: SheetsEmulator | None) -> None:
    here = embedded.settings
    show.say(console, f"S3 and SQS are at {here.aws_endpoint_url}, with a worker, until Ctrl-C.", style="bold")
    show.say(console, "In another terminal:")
    exported = {
        "AWS_ENDPOINT_URL": here.aws_endpoint_url or "",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": here.region,
        "AWS_TEMP_BUCKET": embedded.stack.bucket,
        "DROPCHUTE_STACK": here.stack,
    }
    for name, value in exported.items():
        # For copying: no wrapping, no colour.
        console.out(f"  export {name}={shlex.quote(value)}", highlight=False)
    console.out('  dropchute drop FILE --ask "…"', highlight=False)
    if emulator is not None:
        show.say(console, f"A spreadsheet of an emulator of Google Sheets; look at it at {emulator.base_url}:")
        console.out(f'  dropchute drop FILE --ask "…" --sheet {SHEET_URL}', highlight=False)
        console.out("  dropchute undo JOB", highlight=False)
