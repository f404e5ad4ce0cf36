"""What ``dropchute dlq …`` does, and how it shows it."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
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
from infra.letter_queue import HIDDEN_SECONDS, Looked
from infra.logs import configure_logs
from infra.provision import locate
from infra.s3_store import S3ObjectStore

SHOWN = 50
COLUMNS = ("id", "when", "code", "queue", "job", "stage", "attempts")
WITH_A_FATE = (*COLUMNS[:5], "fate")
ID_CHARS = 8
# Nothing can be done about these by sending them again.
STUCK = frozenset({Fate.CUT, Fate.NO_QUEUE, Fate.REFUSED})


@dataclass(frozen=True, slots=True)
class Line:
    """What a list says of a letter. Its body, which may be long, is not kept."""

    id: str
    buried_at: datetime
    code: str
    columns: tuple[str, ...]
    progress: tuple[str, str]
    facts: Mapping[str, Any]


def list_them(choice: Choice, *, as_json: bool) -> None:
    """Raises Ending if not all letters could be looked at."""
    lines: list[Line] = []

    def tell(looked: Looked) -> None:
        lines.sort(key=_oldest_first)
        if as_json:
            print_json({"letters": [line.facts for line in lines]} | asdict(looked))
            return
        console = Console()
        if not lines:
            _say_none(console, choice, looked)
            return
        _list(console, lines)
        codes = Counter(line.code for line in lines).most_common()
        told = ", ".join(f"{code} {number:,}" for code, number in codes)
        show.say(console, f"{show.count(len(lines), 'dead letter')}: {told}. More: dropchute dlq show --id ID")

    _fail_unless_whole(_told(lambda box: _look(box, choice, lines), tell, lines))


def show_them(choice: Choice, *, as_json: bool) -> None:
    """Raises Ending if there is none, or if not all letters could be looked at."""
    letters: list[Letter] = []

    def tell(looked: Looked) -> None:
        letters.sort(key=_oldest_first)
        if as_json:
            told = [_facts(letter) | {"body": letter.body} for letter in letters]
            print_json({"letters": told} | asdict(looked))
            return
        for letter in letters:
            _show(Console(), letter)

    looked = _told(lambda box: box.look(choice, now=utc_now(), on_letter=letters.append), tell, letters)
    _fail_unless_whole(looked)
    if not letters:
        raise wrong_usage(_none(choice))


def redrive(choice: Choice, *, dry_run: bool, as_json: bool) -> None:
    """Raises Ending if a message could not be sent back, or if not all letters could be looked at."""
    fates: list[tuple[Line, Fate]] = []

    def tell(looked: Looked) -> None:
        sent = sum(fate is Fate.SENT_BACK for _, fate in fates)
        if as_json:
            told = [{**line.facts, "fate": fate} for line, fate in fates]
            counts = {"dry_run": dry_run, "sent_back": sent, "left": len(fates) - sent}
            print_json(counts | {"letters": told} | asdict(looked))
        elif fates:
            _show_fates(Console(), fates, sent, dry_run=dry_run)
        else:
            _say_none(Console(), choice, looked)

    def send_back(box: DeadLetterBox) -> Awaitable[Looked]:
        return box.redrive(
            choice, now=utc_now(), dry_run=dry_run, on_letter=lambda letter, fate: fates.append((_line(letter), fate))
        )

    looked = _told(send_back, tell, fates)
    stuck = sum(fate in STUCK for _, fate in fates)
    _fail_unless_whole(looked, *([f"{show.count(stuck, 'message')} cannot be sent back."] if stuck else []))


def purge(choice: Choice, *, dry_run: bool, is_sure: bool, as_json: bool) -> None:
    """Asks about what is there now, and deletes exactly that.

    Raises Ending if not all letters could be looked at.
    """
    human, lines, deleted = Console(stderr=as_json), list[Line](), list[Line]()

    def tell(looked: Looked) -> None:
        told = lines if dry_run else deleted
        if as_json:
            counts = {"dry_run": dry_run, "deleted": len(deleted)}
            print_json(counts | {"letters": [line.facts for line in told]} | asdict(looked))
        elif not lines:
            _say_none(human, choice, looked)
        elif dry_run:
            _list(human, lines)
            show.say(human, f"Would delete {show.count(len(lines), 'dead letter')}.", style="yellow")
        else:
            show.say(human, f"Deleted {show.count(len(deleted), 'dead letter')}.", style="green")

    looked = asyncio.run(_with_a_box(lambda box: _look(box, choice, lines)))
    lines.sort(key=_oldest_first)
    if lines and not dry_run and (is_sure or _is_sure(human, lines)):
        # Only what was shown, however old it has become meanwhile.
        ids = frozenset(line.id for line in lines)
        done = _told(lambda box: _delete(box, ids, deleted), tell, deleted)
        looked = Looked(looked.to_the_end and done.to_the_end, looked.hidden)
    else:
        tell(looked)
    _fail_unless_whole(looked)


# ---------------------------------------------------------------- the queue


def _told(
    work: Callable[[DeadLetterBox], Awaitable[Looked]], tell: Callable[[Looked], None], done: Sequence[object]
) -> Looked:
    """Do it, and tell of it; also when it fails or is stopped, if anything was ``done`` by then."""
    looked = None
    try:
        looked = asyncio.run(_with_a_box(work))
    finally:
        if looked is not None or done:
            tell(looked or Looked(to_the_end=False))
    return looked


async def _with_a_box(work: Callable[[DeadLetterBox], Awaitable[Looked]]) -> Looked:
    configure_logs(level=logging.WARNING)
    settings = read_settings()
    stack = await asyncio.to_thread(locate, settings)
    async with Clients(settings) as clients:
        return await work(DeadLetterBox(clients, stack, S3ObjectStore(clients.s3, stack.bucket)))


async def _look(box: DeadLetterBox, choice: Choice, lines: list[Line]) -> Looked:
    return await box.look(choice, now=utc_now(), on_letter=lambda letter: lines.append(_line(letter)))


async def _delete(box: DeadLetterBox, ids: frozenset[str], deleted: list[Line]) -> Looked:
    return await box.purge(ids, now=utc_now(), on_letter=lambda letter: deleted.append(_line(letter)))


def _is_sure(console: Console, lines: Sequence[Line]) -> bool:
    _list(console, lines)
    try:
        return typer.confirm(f"Delete {show.count(len(lines), 'dead letter')} for good?", err=True)
    except typer.Abort:
        raise wrong_usage("Nothing was deleted: nobody is here to say yes. Say --yes.") from None


def _fail_unless_whole(looked: Looked, *failures: str) -> None:
    """Raises Ending if there is anything to say."""
    sentences = list(failures)
    if not looked.to_the_end:
        sentences.append("Not all letters were looked at. Say it again for the others.")
    if looked.hidden:
        sentences.append(
            f"{show.count(looked.hidden, 'letter')} more: hidden by another command, for up to "
            f"{HIDDEN_SECONDS} seconds after it ends or is killed. Look again then."
        )
    if sentences:
        raise Ending(ExitCode.FAILED, " ".join(sentences))


# ---------------------------------------------------------------- what is shown


def _none(choice: Choice) -> str:
    return "There are no dead letters." if choice == Choice() else "There are no such dead letters."


def _say_none(console: Console, choice: Choice, looked: Looked) -> None:
    """Only who has looked at all of them can say that there are none."""
    if looked.is_whole:
        show.say(console, _none(choice), style="green")
    else:
        show.say(console, "None was seen.", style="yellow")


def _oldest_first(each: Line | Letter) -> tuple[datetime, str]:
    return each.buried_at, each.id


def _line(letter: Letter) -> Line:
    columns = (
        letter.id[:ID_CHARS],
        f"{letter.buried_at:%Y-%m-%d %H:%M}",
        letter.code,
        letter.queue or "?",
        _jobs(letter),
    )
    return Line(letter.id, letter.buried_at, letter.code, columns, _progress(letter), _facts(letter))


def _jobs(letter: Letter) -> str:
    return ", ".join(map(str, letter.jobs))


def _progress(letter: Letter) -> tuple[str, str]:
    told = letter.envelope
    return (told.stage or "", str(told.attempts or "")) if told else ("", "")


def _list(console: Console, lines: Sequence[Line]) -> None:
    _table(console, COLUMNS, [(*line.columns, *line.progress) for line in lines])


def _table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    show.rows_of(console, columns, rows[:SHOWN])
    if len(rows) > SHOWN:
        show.say(console, f"… and {len(rows) - SHOWN:,} more", style="dim")


def _show_fates(console: Console, fates: Sequence[tuple[Line, Fate]], sent: int, *, dry_run: bool) -> None:
    _table(console, WITH_A_FATE, [(*line.columns, _fate(fate, dry_run=dry_run)) for line, fate in fates])
    did = "Would send back" if dry_run else "Sent back"
    show.say(console, f"{did} {show.count(sent, 'message')}.", style="yellow" if dry_run else "green")
    if any(fate is Fate.JOB_ENDED for _, fate in fates):
        why = "A job that has ended stays as it ended: its files are gone. A new answer takes a new drop."
        show.say(console, why, style="dim")
    if any(fate is Fate.REFUSED for _, fate in fates):
        why = "What no worker understands comes back here at once. dropchute dlq show says why, purge deletes it."
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
        ("at", f"{letter.buried_at:%Y-%m-%d %H:%M:%S} UTC"),
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
