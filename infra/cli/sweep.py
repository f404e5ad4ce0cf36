"""``dropchute sweep``: remove what nobody will read, or say what it is."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

from rich.console import Console
from rich.filesize import decimal
from rich.status import Status

from consumers.sweep import Abandoned, Swept, sweep
from consumers.worker.ledger import utc_now
from infra.cli import show
from infra.cli.drop import print_json
from infra.cli.environment import read_settings
from infra.cli.minutes import as_time
from infra.clients import Clients
from infra.logs import configure_logs
from infra.provision import locate
from infra.s3_store import S3ObjectStore
from infra.settings import Settings

SHOWN_JOBS = 50
COLUMNS = ("job", "why", "objects", "size", "open uploads", "untouched since")


def run(*, dry_run: bool, as_json: bool, older_than: int | None) -> None:
    """Sweep what has been untouched for ``older_than`` minutes, or for what the settings say."""
    configure_logs(level=logging.WARNING)
    settings, human, found = read_settings(), Console(stderr=as_json), list[Abandoned]()
    minutes = settings.abandoned_after_minutes if older_than is None else older_than
    untouched = as_time(minutes, "DROPCHUTE_ABANDONED_AFTER_MINUTES" if older_than is None else "--older-than")
    with Status("looking", console=human) as spinner:
        swept = asyncio.run(_sweep(settings, untouched, found, spinner, dry_run=dry_run))
    if as_json:
        print_json(_facts(swept, found, dry_run=dry_run, minutes=minutes))
    else:
        _show(human, swept, found, dry_run=dry_run, minutes=minutes)


async def _sweep(
    settings: Settings, older_than: timedelta, found: list[Abandoned], spinner: Status, *, dry_run: bool
) -> Swept:
    def on_listed(keys: int) -> None:
        if keys % 1000 == 0:
            spinner.update(f"looking: {keys:,} objects so far")

    stack = await asyncio.to_thread(locate, settings)
    async with Clients(settings) as clients:
        return await sweep(
            S3ObjectStore(clients.s3, stack.bucket),
            older_than=older_than,
            now=utc_now(),
            dry_run=dry_run,
            on_listed=on_listed,
            on_abandoned=found.append,
        )


def _show(console: Console, swept: Swept, found: Sequence[Abandoned], *, dry_run: bool, minutes: int) -> None:
    if not swept.jobs:
        show.say(console, f"Nothing was abandoned for {show.count(minutes, 'minute')} or more.", style="green")
        return
    rows = [
        (
            str(each.job),
            each.reason.value,
            f"{each.objects:,}",
            decimal(each.bytes),
            f"{each.uploads:,}",
            f"{each.last_active:%Y-%m-%d %H:%M} UTC",
        )
        for each in found[:SHOWN_JOBS]
    ]
    show.rows_of(console, COLUMNS, rows)
    if swept.jobs > len(rows):
        show.say(console, f"… and {swept.jobs - len(rows):,} more jobs", style="dim")
    what = (
        f"{show.count(swept.objects, 'object')} ({decimal(swept.bytes)}) and {show.count(swept.uploads, 'open upload')}"
    )
    did = "Would remove" if dry_run else "Removed"
    show.say(console, f"{did} {what} of {show.count(swept.jobs, 'job')}.", style="yellow" if dry_run else "green")


def _facts(swept: Swept, found: Sequence[Abandoned], *, dry_run: bool, minutes: int) -> dict[str, object]:
    abandoned = [
        asdict(each.job)
        | {"reason": each.reason, "objects": each.objects, "bytes": each.bytes, "uploads": each.uploads}
        | {"last_active": each.last_active.isoformat()}
        for each in found
    ]
    return {"dry_run": dry_run, "older_than_minutes": minutes, **asdict(swept), "abandoned": abandoned}
