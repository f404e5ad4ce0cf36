"""What ``dropchute dlq …`` does, and how it shows it."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import typer
from rich.console import Console

from consumers.sandbox.text import without_control_characters
from consumers.worker.ledger import utc_now
from events.json_object import JsonError, load_object
from infra.cli import show
from infra.cli.drop import print_json
from infra.cli.endings import Ending, ExitCode, wrong_usage
from infra.cli.environment import read_settings
from infra.clients import Clients
from infra.dead_letters import DeadLetterBox, Fate
from infra.letter import Choice, Letter
from infra.logs import configure_logs
from infra.provision import locate
from infra.s3_store import S3ObjectStore

SHOWN = 50
COLUMNS = ("id", "when", "code", "queue", "job", "stage", "attempts")
WITH_A_FATE = (*COLUMNS[:5], "fate")
ID_CHARS = 8
# Nothing can be done about these by sending them again.
STUCK = frozenset({Fate.CUT, Fate.NO_QUEUE})


def list_them(choice: Choice, *, as_json: bool) -> None:
    letters = asyncio.run(_find(choice))
    if as_json:
        print_json({"letters": [_facts(letter) for letter in letters]})
        return
    console = Console()
    if not letters:
        show.say(console, _none(choice), style="green")
        return
    _table(console, COLUMNS, [(*_columns(letter), *_progress(letter)) for letter in letters])
    codes = Counter(letter.code for letter in letters).most_common()
    told = ", ".join(f"{code} {number:,}" for code, number in codes)
    show.say(console, f"{show.count(len(letters), 'dead letter')}: {told}. More: dropchute dlq show --id ID")


def show_them(choice: Choice, *, as_json: bool) -> None:
    """Raises Ending if there is none."""
    letters = asyncio.run(_find(choice))
    if as_json:
        print_json({"letters": [_facts(letter) | {"body": letter.body} for letter in letters]})
    if not letters:
        raise wrong_usage(_none(choice))
    if not as_json:
        for letter in letters:
            _show(Console(), letter)


def redrive(choice: Choice, *, dry_run: bool, as_json: bool) -> None:
    """Raises Ending if a message could not be sent back."""
    fates: list[tuple[Letter, Fate]] = []

    async def send_back() -> None:
        async with _box() as box:
            await box.redrive(
                choice, now=utc_now(), dry_run=dry_run, on_letter=lambda letter, fate: fates.append((letter, fate))
            )

    asyncio.run(send_back())
    sent = sum(fate is Fate.SENT_BACK for _, fate in fates)
    if as_json:
        told = [_facts(letter) | {"fate": fate} for letter, fate in fates]
        print_json({"dry_run": dry_run, "sent_back": sent, "left": len(fates) - sent, "letters": told})
    elif not fates:
        show.say(Console(), _none(choice), style="green")
    else:
        _show_fates(Console(), fates, sent, dry_run=dry_run)
    stuck = sum(fate in STUCK for _, fate in fates)
    if stuck:
        raise Ending(ExitCode.FAILED, f"{show.count(stuck, 'message')} cannot be sent back.")


def purge(choice: Choice, *, dry_run: bool, is_sure: bool, as_json: bool) -> None:
    """Asks about what is there now, and deletes exactly that."""
    human, deleted = Console(stderr=as_json), list[Letter]()
    letters = asyncio.run(_find(choice))
    if letters and not dry_run and (is_sure or _is_sure(human, letters)):
        only_these = replace(choice, ids=frozenset(letter.id for letter in letters))
        asyncio.run(_delete(only_these, deleted))
    if as_json:
        told = [_facts(letter) for letter in (letters if dry_run else deleted)]
        print_json({"dry_run": dry_run, "deleted": len(deleted), "letters": told})
    elif not letters:
        show.say(human, _none(choice), style="green")
    elif dry_run:
        _table(human, COLUMNS, [(*_columns(letter), *_progress(letter)) for letter in letters])
        show.say(human, f"Would delete {show.count(len(letters), 'dead letter')}.", style="yellow")
    else:
        show.say(human, f"Deleted {show.count(len(deleted), 'dead letter')}.", style="green")


# ---------------------------------------------------------------- the queue


@asynccontextmanager
async def _box() -> AsyncIterator[DeadLetterBox]:
    configure_logs(level=logging.WARNING)
    settings = read_settings()
    stack = await asyncio.to_thread(locate, settings)
    async with Clients(settings) as clients:
        yield DeadLetterBox(clients, stack, S3ObjectStore(clients.s3, stack.bucket))


async def _find(choice: Choice) -> list[Letter]:
    async with _box() as box:
        return await box.find(choice, now=utc_now())


async def _delete(choice: Choice, deleted: list[Letter]) -> None:
    async with _box() as box:
        await box.purge(choice, now=utc_now(), on_letter=deleted.append)


def _is_sure(console: Console, letters: Sequence[Letter]) -> bool:
    _table(console, COLUMNS, [(*_columns(letter), *_progress(letter)) for letter in letters])
    try:
        return typer.confirm(f"Delete {show.count(len(letters), 'dead letter')} for good?", err=True)
    except typer.Abort:
        raise wrong_usage("Nothing was deleted: nobody is here to say yes. Say --yes.") from None


# ---------------------------------------------------------------- what is shown


def _none(choice: Choice) -> str:
    return "There are no dead letters." if choice == Choice() else "There are no such dead letters."


def _jobs(letter: Letter) -> str:
    return ", ".join(map(str, letter.jobs))


def _columns(letter: Letter) -> tuple[str, ...]:
    when = f"{letter.sent_at:%Y-%m-%d %H:%M}"
    return letter.id[:ID_CHARS], when, letter.code, letter.queue or "?", _jobs(letter)


def _progress(letter: Letter) -> tuple[str, str]:
    told = letter.envelope
    return (told.stage or "", str(told.attempts or "")) if told else ("", "")


def _table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    show.rows_of(console, columns, rows[:SHOWN])
    if len(rows) > SHOWN:
        show.say(console, f"… and {len(rows) - SHOWN:,} more", style="dim")


def _show_fates(console: Console, fates: Sequence[tuple[Letter, Fate]], sent: int, *, dry_run: bool) -> None:
    _table(console, WITH_A_FATE, [(*_columns(letter), _fate(fate, dry_run=dry_run)) for letter, fate in fates])
    did = "Would send back" if dry_run else "Sent back"
    show.say(console, f"{did} {show.count(sent, 'message')}.", style="yellow" if dry_run else "green")
    if any(fate is Fate.JOB_ENDED for _, fate in fates):
        why = "A job that has ended stays as it ended: its files are gone. A new answer takes a new drop."
        show.say(console, why, style="dim")


def _fate(fate: Fate, *, dry_run: bool) -> str:
    return "would be sent back" if dry_run and fate is Fate.SENT_BACK else fate.value


def _show(console: Console, letter: Letter) -> None:
    told, attributes = letter.envelope, letter.message.attributes
    received = (told.attributes if told else attributes).get("ApproximateReceiveCount", "")
    rows = [
        ("letter", letter.id),
        ("code", letter.code),
        ("reason", told.reason if told else "It was received too often; no worker said why. Its message is as it was."),
        ("job", _jobs(letter)),
        ("queue", letter.queue or "nothing tells which"),
        ("stage", (told.stage or "") if told else ""),
        ("attempts", str(told.attempts or "") if told else ""),
        ("worker", (told.worker or "") if told else ""),
        ("trace", _trace_id(told.traceparent) if told and told.traceparent else ""),
        ("at", f"{(told.at if told and told.at else letter.sent_at):%Y-%m-%d %H:%M:%S} UTC"),
        ("message", (told.message_id or "") if told else ""),
        ("received", f"{received} times" if received else ""),
        ("cut", "The message was too long to be kept whole." if letter.is_cut else ""),
    ]
    show.pairs(console, rows)
    text = without_control_characters(_pretty(letter.body))
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print()


def _trace_id(traceparent: str) -> str:
    # W3C Trace Context: version, trace id, parent id, flags.
    return "".join(traceparent.split("-")[1:2]) or traceparent


def _pretty(body: str) -> str:
    try:
        return json.dumps(load_object(body), indent=2, ensure_ascii=False)
    except (JsonError, RecursionError):
        return body


def _facts(letter: Letter) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "id": letter.id,
        "sent_at": letter.sent_at.isoformat(),
        "code": letter.code,
        "queue": letter.queue,
        "jobs": [str(job) for job in letter.jobs],
        "keys": list(letter.keys),
        "is_cut": letter.is_cut,
    }
    told = letter.envelope
    if told is None:
        return facts | {"reason": None}
    return facts | told.model_dump(mode="json", include={"reason", "worker", "at", "stage", "attempts", "traceparent"})
