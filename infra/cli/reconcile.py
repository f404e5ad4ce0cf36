"""``dropchute reconcile``: ask again for what was handed in and never came to its end, or say what that is."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta

from rich.console import Console
from rich.status import Status

from consumers.reconcile import Reconciled, Stuck, reconcile
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
from infra.work_queues import WorkQueues, work_queue_of

SHOWN = 50
COLUMNS = ("job", "why", "queue", "unchanged since")


def run(*, dry_run: bool, as_json: bool, older_than: int | None) -> None:
    """Reconcile what has not changed for ``older_than`` minutes, or for what the settings say."""
    configure_logs(level=logging.WARNING)
    settings, human, found = read_settings(), Console(stderr=as_json), list[Stuck]()
    minutes = settings.stuck_after_minutes if older_than is None else older_than
    unchanged = as_time(minutes, "DROPCHUTE_STUCK_AFTER_MINUTES" if older_than is None else "--older-than")
    with Status("looking", console=human) as spinner:
        reconciled = asyncio.run(_reconcile(settings, unchanged, found, spinner, dry_run=dry_run))
    if as_json:
        print_json(_facts(reconciled, found, dry_run=dry_run, minutes=minutes))
    else:
        _show(human, reconciled, found, dry_run=dry_run, minutes=minutes)


async def _reconcile(
    settings: Settings, older_than: timedelta, found: list[Stuck], spinner: Status, *, dry_run: bool
) -> Reconciled:
    def on_listed(keys: int) -> None:
        if keys % 1000 == 0:
            spinner.update(f"looking: {keys:,} objects so far")

    stack = await asyncio.to_thread(locate, settings)
    async with Clients(settings) as clients:
        queues = WorkQueues(clients.control, stack)
        return await reconcile(
            S3ObjectStore(clients.s3, stack.bucket),
            queues.ask_again,
            queues.waiting,
            older_than=older_than,
            now=utc_now(),
            dry_run=dry_run,
            on_listed=on_listed,
            on_stuck=found.append,
        )


def _show(console: Console, reconciled: Reconciled, found: Sequence[Stuck], *, dry_run: bool, minutes: int) -> None:
    if found:
        rows = [
            (
                str(each.job or each.session_id),
                each.reason.value,
                work_queue_of(each.key) or "",
                f"{each.since:%Y-%m-%d %H:%M} UTC",
            )
            for each in found[:SHOWN]
        ]
        show.rows_of(console, COLUMNS, rows)
        if len(found) > len(rows):
            show.say(console, f"… and {len(found) - len(rows):,} more", style="dim")
        what = f"{show.count(reconciled.jobs, 'job')} and {show.count(reconciled.controls, 'control')}"
        did = "Would ask" if dry_run else "Asked"
        show.say(console, f"{did} again for {what}.", style="yellow" if dry_run else "green")
    elif not reconciled.waiting:
        show.say(console, f"Nothing has been stuck for {show.count(minutes, 'minute')} or more.", style="green")
    if reconciled.waiting:
        what = show.count(reconciled.waiting, "job")
        show.say(console, f"Waiting in its queue, so not asked again: {what}. Is there a worker?", style="yellow")
    if reconciled.unreadable:
        left = show.count(reconciled.unreadable, "job")
        show.say(console, f"Left alone: {left} with a status of another version.", style="yellow")


def _facts(reconciled: Reconciled, found: Sequence[Stuck], *, dry_run: bool, minutes: int) -> dict[str, object]:
    stuck = [
        {
            "session_id": each.session_id,
            "job_id": each.job.job_id if each.job else None,
            "key": each.key,
            "queue": work_queue_of(each.key),
            "reason": each.reason,
            "since": each.since.isoformat(),
        }
        for each in found
    ]
    return {"dry_run": dry_run, "older_than_minutes": minutes, **asdict(reconciled), "stuck": stuck}
