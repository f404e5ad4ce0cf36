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
import re
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from consumers.delivery.sheet.book import MAX_COLUMNS, Book, Metadata
from events.keys import JobRef

PREFIX = "dropchute."
FIRST, LAST, COLUMN = "first", "last", "column "
FIRST_COLUMN, LAST_COLUMN = f"{COLUMN}first", f"{COLUMN}last"
# A job and its bucket's objects are forgotten after two days at the most.
KEPT_DAYS = 2
# Longer than all tries of a job take: a retry that does not find the record adds the rows again.
KEPT_HOURS = 6
MAX_MARK_CHARS = 20_000
MAX_ROWS = 10_000_000
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


_RUNS = re.compile(r"(?:[0-9]{1,5}(?:-[0-9]{1,5})?(?:,[0-9]{1,5}(?:-[0-9]{1,5})?)*)?")


def _are_places(text: str) -> str:
    if _RUNS.fullmatch(text) is None:
        raise ValueError("no runs of columns")
    runs = _runs_of(text)
    if any(not run or run[-1] >= MAX_COLUMNS for run in runs) or sum(map(len, runs)) > MAX_COLUMNS:
        raise ValueError("more columns than a tab can have")
    return text


class Record(BaseModel):
    """What the sheet itself knows of a delivery. Short names, because every character counts."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    at: int = Field(ge=0, lt=2**40)
    """Seconds since 1970."""
    state: Literal["rows", "tab", "undone"] = Field(alias="s")
    epoch: int = Field(default=0, alias="e", ge=0, lt=2**31)
    tab_id: int = Field(default=0, alias="t", ge=0, lt=2**31)
    rows: int = Field(default=0, alias="n", ge=0, le=MAX_ROWS)
    places: Annotated[str, AfterValidator(_are_places)] = Field(default="", alias="c")
    """In which columns of the sheet the result's columns are, as ``spelled`` writes them."""
    digest: str = Field(default="", alias="d", max_length=64)
    """Of the rows' digests, one after another."""
    header: bool = Field(default=False, alias="h")
    """Whether the job wrote the header row too, right above its first row."""

    @property
    def value(self) -> str:
        return json.dumps(self.model_dump(mode="json", by_alias=True, exclude_defaults=True), separators=(",", ":"))


def undone() -> Record:
    """A record that stands for no rows, and keeps a late writer from adding any."""
    return Record(at=int(time.time()), state="undone")


def new_record(state: Literal["rows", "tab"], **facts: object) -> Record:
    return Record.model_validate({"at": int(time.time()), "state": state, **facts})


def record_of(metadata: Sequence[Metadata], job: JobRef) -> Record | None:
    """The job's record among a spreadsheet's metadata."""
    ours = [each for each in metadata if each.is_our_projects and each.metadata_key == key_of(job)]
    found = [each for each in ours if each.metadata_id == mark_id(job)]
    return _parsed(found[0]) if found else None


def outdated_keys(book: Book, *, room: int) -> list[str] | None:
    """The keys of jobs that are forgotten by now, or that must make room for ``room`` more characters.

    None: no such room can be made, because too many records are too young to go.
    """
    made: dict[str, int] = {}
    chars: Counter[str] = Counter()
    for each in book.developer_metadata:
        if each.is_our_projects and each.metadata_key.startswith(PREFIX):
            record = _parsed(each)
            made[each.metadata_key] = max(record.at if record else 0, made.get(each.metadata_key, 0))
            chars[each.metadata_key] += len(each.metadata_key) + len(each.metadata_value)
    now = int(time.time())
    outdated, total = [], room
    # A clock may have been wrong: what comes from the far future is no better than what is old.
    for age, key in sorted((abs(now - at), key) for key, at in made.items()):
        young = age < KEPT_HOURS * 3600
        if young or (age < KEPT_DAYS * 86_400 and total + chars[key] <= MAX_MARK_CHARS):
            total += chars[key]
        else:
            outdated.append(key)
    return outdated if total <= MAX_MARK_CHARS else None


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
    return [place for run in _runs_of(text) for place in run]


def _runs_of(text: str) -> list[range]:
    runs = []
    for run in filter(None, text.split(",")):
        first, _, last = run.partition("-")
        runs.append(range(int(first), int(last or first) + 1))
    return runs


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
