"""What is shown of dead letters: a line each, what became of them, and all that one says."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console

from consumers.sandbox.text import without_control_characters
from events.json_object import JsonError, load_object
from infra.cli import show
from infra.dead_letters import Fate
from infra.letter import Choice, Letter
from infra.letter_queue import Looked

SHOWN = 50
COLUMNS = ("id", "when", "code", "queue", "job", "stage", "attempts")
WITH_A_FATE = (*COLUMNS[:5], "fate")
ID_CHARS = 8


@dataclass(frozen=True, slots=True)
class Line:
    """What a list says of a letter. Its body, which may be long, is not kept."""

    id: str
    buried_at: datetime
    code: str
    columns: tuple[str, ...]
    progress: tuple[str, str]
    facts: Mapping[str, Any]


def none(choice: Choice) -> str:
    return "There are no dead letters." if choice == Choice() else "There are no such dead letters."


def say_none(console: Console, choice: Choice, looked: Looked) -> None:
    """Only who has looked at all of them can say that there are none."""
    if looked.is_whole:
        show.say(console, none(choice), style="green")
    else:
        show.say(console, "None was seen.", style="yellow")


def oldest_first(each: Line | Letter) -> tuple[datetime, str]:
    return each.buried_at, each.id


def line_of(letter: Letter) -> Line:
    columns = (
        letter.id[:ID_CHARS],
        f"{letter.buried_at:%Y-%m-%d %H:%M}",
        letter.code,
        letter.queue or "?",
        _jobs(letter),
    )
    return Line(letter.id, letter.buried_at, letter.code, columns, _progress(letter), facts_of(letter))


def _jobs(letter: Letter) -> str:
    return ", ".join(map(str, letter.jobs))


def _progress(letter: Letter) -> tuple[str, str]:
    told = letter.envelope
    return (told.stage or "", str(told.attempts or "")) if told else ("", "")


def table_of(console: Console, lines: Sequence[Line]) -> None:
    _table(console, COLUMNS, [(*line.columns, *line.progress) for line in lines])


def _table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    show.rows_of(console, columns, rows[:SHOWN])
    if len(rows) > SHOWN:
        show.say(console, f"… and {len(rows) - SHOWN:,} more", style="dim")


def fates_of(console: Console, fates: Sequence[tuple[Line, Fate]], sent: int, *, dry_run: bool) -> None:
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


def show_letter(console: Console, letter: Letter) -> None:
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


def facts_of(letter: Letter) -> dict[str, Any]:
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
