"""Marks: what a job leaves in a spreadsheet so that its rows are found again, by a retry or by an undo.

All of them are developer metadata with one key, ``dropchute.<token>``: invisible to readers of the sheet,
and visible to our own Google project only. On the spreadsheet is the record, whose id is derived from the
job, so that no second one can be made; on the first and the last row, and on each column that was added,
an anchor that moves along with it. The token is a digest: whoever may look at the sheet learns no session's id.

Google keeps at most 30,000 characters of metadata for a spreadsheet, and as many for each tab, so marks
are removed when their job is forgotten. Source: Sheets API guides, "Read & write developer metadata".
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consumers.delivery.sheet.book import Book, Metadata
from events.keys import JobRef

PREFIX = "dropchute."
FIRST, LAST, COLUMN = "first", "last", "column "
# A job and its bucket's objects are forgotten after two days at the most.
KEPT_DAYS = 2
MAX_MARKS = 150
MAX_MARK_CHARS = 20_000
HIDDEN_TAB = "dropchute"


def token_of(job: JobRef) -> str:
    return hashlib.sha256(str(job).encode()).hexdigest()[:16]


def key_of(job: JobRef) -> str:
    return f"{PREFIX}{token_of(job)}"


def mark_id(job: JobRef) -> int:
    """The id that the job's record has: positive, 31 bits."""
    return _positive(f"mark {job}")


def undo_id(job: JobRef) -> int:
    """The id that the mark of its undo has: one undo that comes twice, late, is refused the second time."""
    return _positive(f"undo {job}")


def tab_id(job: JobRef, epoch: int) -> int:
    """The id of the tab that one epoch of a job makes."""
    return _positive(f"tab {job} {epoch}")


def hidden_title(job: JobRef, epoch: int) -> str:
    """Of the tab that rows wait in until they are shown all at once; says when it may be removed."""
    return f"{HIDDEN_TAB} {_today().isoformat()} {token_of(job)} {epoch}"


def _positive(text: str) -> int:
    return 1 + int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % (2**31 - 1)


class Record(BaseModel):
    """What the sheet itself knows of a delivery. Short names, because every character counts."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    on: date
    state: Literal["rows", "tab", "undone"] = Field(alias="s")
    epoch: int = Field(default=0, alias="e")
    tab_id: int = Field(default=0, alias="t")
    rows: int = Field(default=0, alias="n")
    places: str = Field(default="", alias="c")
    """In which columns of the sheet the result's columns are, as ``spelled`` writes them."""
    digest: str = Field(default="", alias="d")
    """Of the rows' digests, one after another."""
    header: bool = Field(default=False, alias="h")
    """Whether the job wrote the header row too, right above its first row."""

    @property
    def value(self) -> str:
        return json.dumps(self.model_dump(mode="json", by_alias=True, exclude_defaults=True), separators=(",", ":"))


def undone() -> Record:
    """A record that stands for no rows, and keeps a late writer from adding any."""
    return Record(on=_today(), state="undone")


def new_record(state: Literal["rows", "tab"], **facts: object) -> Record:
    return Record.model_validate({"on": _today(), "state": state, **facts})


def record_of(metadata: Sequence[Metadata], job: JobRef) -> Record | None:
    """The job's record among a spreadsheet's metadata."""
    found = [each for each in metadata if each.metadata_id == mark_id(job) and each.metadata_key == key_of(job)]
    return _parsed(found[0]) if found else None


def outdated_keys(book: Book) -> list[str]:
    """The keys of jobs that are forgotten by now, or that must make room."""
    made: dict[str, date] = {}
    chars: Counter[str] = Counter()
    for each in book.developer_metadata:
        if each.metadata_key.startswith(PREFIX):
            record = _parsed(each)
            made[each.metadata_key] = max(record.on if record else date.min, made.get(each.metadata_key, date.min))
            chars[each.metadata_key] += len(each.metadata_key) + len(each.metadata_value)
    limit = _today() - timedelta(days=KEPT_DAYS)
    outdated, total = [], 0
    for number, (on, key) in enumerate(sorted(((on, key) for key, on in made.items()), reverse=True)):
        total += chars[key]
        if on < limit or number >= MAX_MARKS - 1 or total > MAX_MARK_CHARS:
            outdated.append(key)
    return outdated


def own_hidden_tabs(book: Book, job: JobRef) -> list[int]:
    """The tabs in which tries of this job keep rows that are not shown yet."""
    return [tab for tab, _, token in _hidden_tabs(book) if token == token_of(job)]


def forgotten_tabs(book: Book) -> list[int]:
    """The same of jobs that nobody works on any more."""
    limit = _today() - timedelta(days=KEPT_DAYS)
    return [tab for tab, made, _ in _hidden_tabs(book) if made < limit]


def _hidden_tabs(book: Book) -> list[tuple[int, date, str]]:
    return [(tab.id, *made) for tab in book.sheets if tab.properties.hidden and (made := _made(tab.title)) is not None]


def spelled(places: Sequence[int]) -> str:
    """Column indices in a few characters: ``0-4,7``; runs are of rising neighbours."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][1] + 1:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def places_of(text: str) -> list[int]:
    """The inverse of ``spelled``."""
    places: list[int] = []
    for run in filter(None, text.split(",")):
        first, _, last = run.partition("-")
        places += range(int(first), int(last or first) + 1)
    return places


def _parsed(metadata: Metadata) -> Record | None:
    try:
        return Record.model_validate_json(metadata.metadata_value)
    except ValidationError:
        return None


def _made(title: str) -> tuple[date, str] | None:
    try:
        name, day, token, epoch = title.split(" ")
        made = (date.fromisoformat(day), token)
    except ValueError:
        return None
    return made if name == HIDDEN_TAB and epoch.isdigit() else None


def _today() -> date:
    return datetime.now(UTC).date()
