"""Undo: the rows that a job added go again, and nothing else does."""

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby

from consumers.delivery.sheet import marks, refusals, requests
from consumers.delivery.sheet.appended import Appended
from consumers.delivery.sheet.book import Cell, Metadata, Row, Tab
from consumers.delivery.sheet.rows import digest_of, spelled_as_entered, spelled_out
from consumers.delivery.sheet.session import SheetSession
from consumers.errors import Permanent, SheetRefused
from consumers.ports import JsonObject, TakenBack
from events.results import FailureCode

Recall = Callable[[int], Awaitable[Appended | None]]
"""What one epoch of the job kept of its rows."""

PLANS = 4
_SHOWN_ROWS = 3
_SHOWN_CELLS = 6
_SHOWN_CHARS = 30


async def take_back(session: SheetSession, recall: Recall, epoch: int) -> TakenBack:
    """Remove what the job added; a second time finds that it is done.

    Raises:
        Permanent: sheet_changed, if the rows can no longer be told for certain.
    """
    found = await session.marks()
    record = marks.record_of(found, session.job)
    if record is None:
        raise _changed("the sheet no longer holds what tells its rows from others (it may be a copy)")
    return await _take(session, found, record, await recall(epoch) or await recall(record.epoch))


async def take_back_whatever_is_there(session: SheetSession, recall: Recall) -> TakenBack:
    """For a job that failed: also its hidden tabs go, and a batch that may still be on its way is refused."""
    await session.remove_hidden_tabs(await session.look())
    found = await session.marks()
    record = marks.record_of(found, session.job)
    if record is not None:
        return await _take(session, found, record, await recall(record.epoch))
    put = requests.put_record(marks.key_of(session.job), marks.mark_id(session.job), marks.undone())
    try:
        await session.change([put], lambda: _has_record(session))
    except SheetRefused:
        # A late batch was faster by a hair: its record is the one that is there now.
        return await take_back(session, recall, 0)
    return TakenBack(0, "Nothing had been added to the sheet.")


async def _has_record(session: SheetSession) -> bool:
    return await session.record() is not None


async def _is_undone(session: SheetSession) -> bool:
    record = await session.record()
    return record is not None and record.state == "undone"


async def _take(
    session: SheetSession, found: Sequence[Metadata], record: marks.Record, appended: Appended | None
) -> TakenBack:
    """Reading takes a while, and Google has no conditional write: the marks must still be where they were found."""
    for plan in range(1, PLANS + 1):
        if record.state == "undone":
            return TakenBack(record.rows, f"{_count(record.rows)} removed from the sheet.")
        tab = (await session.look()).tab(record.tab_id)
        if tab is None:
            # The user was faster; the record says from now on that there is nothing to undo.
            await _remove(session, [], record, rows=0)
            return TakenBack(0, "The tab with the rows was gone already.")
        removal = _Removal(session, tab, record, appended, found)
        try:
            steps = await removal.steps()
            now = await session.marks()
            if _by_id(now) == _by_id(found):
                await _remove(session, steps, record, rows=record.rows)
                told = f"{_count(record.rows)} removed from the sheet."
                return TakenBack(record.rows, " ".join([told, *removal.kept]))
        except (SheetRefused, Permanent) as error:
            # It may be that the sheet is no longer what it was when the reading began.
            now = await session.marks()
            if (isinstance(error, Permanent) or plan == PLANS) and _by_id(now) == _by_id(found):
                raise
        found, record = now, marks.record_of(now, session.job) or record
    raise refusals.unavailable()


def _by_id(metadata: Sequence[Metadata]) -> list[Metadata]:
    return sorted(metadata, key=lambda each: each.metadata_id)


async def _remove(session: SheetSession, steps: list[JsonObject], record: marks.Record, *, rows: int) -> None:
    key, undone = marks.key_of(session.job), marks.undone().model_copy(update={"rows": rows})
    # Its id can be taken once: the same change, arriving late a second time, would remove other rows.
    once = requests.put_record(key, marks.undo_id(session.job), marks.undone())
    change = requests.change_record(key, marks.mark_id(session.job), undone)
    try:
        await session.change([once, change, *steps], lambda: _is_undone(session))
    except SheetRefused as refused:
        if "remove all the visible sheets" in refused.message:
            raise _changed("their tab is the only one left, and a spreadsheet must have one; add a tab") from refused
        if "delete all the rows" in refused.message or "delete all non-frozen rows" in refused.message:
            raise _changed("their tab would have no rows left, and it must have one; add a row") from refused
        raise session.explained(refused) from refused


class _Removal:
    """Works out which rows, columns and tabs are the job's for certain."""

    def __init__(
        self,
        session: SheetSession,
        tab: Tab,
        record: marks.Record,
        appended: Appended | None,
        found: Sequence[Metadata],
    ) -> None:
        self._session = session
        self._tab = tab
        self._record = record
        self._places = marks.places_of(record.places)
        self._own_places = frozenset(self._places)
        # A copy of the tab has copies of the anchors.
        self._found = [each for each in found if each.tab_id == tab.id]
        digests = appended.row_digests if appended else []
        # Of another try than the one that wrote the rows, they would tell us nothing.
        self._digests = digests if _whole(digests) == record.digest else None
        self._names = appended.names if appended else ()
        self.kept: list[str] = []

    async def steps(self) -> list[JsonObject]:
        if self._record.state == "tab":
            return await self._whole_tab()
        first, last = self._ends()
        rows = await self._session.read_rows(self._tab, range(first, last + 1))
        ours = [first + offset for offset in self._ours(rows, first)]
        own_rows = frozenset(ours)
        theirs = [row for index, row in enumerate(rows, first) if index not in own_rows]
        header = await self._header(first, last, theirs) if self._record.header else []
        steps = [
            requests.delete(self._tab.id, "ROWS", run.start, run.stop) for run in reversed(_runs([*header, *ours]))
        ]
        return steps + await self._columns(own_rows)

    async def _whole_tab(self) -> list[JsonObject]:
        rows = await self._session.read_rows(self._tab, range(self._tab.rows))
        end = self._record.rows + 1
        for index, row in enumerate(rows[end:], end):
            if _is_filled(row):
                raise _changed(f"somebody has added to the tab “{self._tab.title}”: {self._shown(index, row)}")
        if len(self._ours(rows[1:end], 1)) < self._record.rows:
            raise _changed("rows are missing")
        if self._names and not self._is_header(rows[0]):
            raise _changed(f"its header was changed: {self._shown(0, rows[0])}")
        return [requests.delete_tab(self._tab.id)]

    def _ends(self) -> tuple[int, int]:
        """Where the first and the last row are by now."""
        found = {each.metadata_value: each.location.dimension_range for each in self._found}
        first, last = found.get(marks.FIRST), found.get(marks.LAST)
        if first is None or last is None or first.start_index > last.start_index:
            raise _changed("its first or its last row was deleted or moved")
        return first.start_index, last.start_index

    def _ours(self, rows: Sequence[Row], first: int) -> list[int]:
        """The offsets of the job's rows among ``rows``; others may stand between them."""
        now = [None if self._has_more(row) else self._digest(row) for row in rows]
        if None not in now and _whole([digest for digest in now if digest]) == self._record.digest:
            return list(range(len(rows)))
        if self._digests is None:
            raise _changed(f"rows {first + 1} to {first + len(rows)} are not all as they were")
        matched: list[int] = []
        for offset, digest in enumerate(now[:-1]):
            if len(matched) < len(self._digests) - 1 and digest == self._digests[len(matched)]:
                matched.append(offset)
        # The anchors stand on the first row and on the last one.
        matched += [len(now) - 1] if now[-1] == self._digests[-1] else []
        if len(matched) < len(self._digests) or matched[0] != 0:
            raise self._in_doubt(rows, now, first)
        return matched

    def _in_doubt(self, rows: Sequence[Row], now: Sequence[bytes | None], first: int) -> Permanent:
        known = Counter(self._digests)
        strange = []
        for offset, digest in enumerate(now):
            if digest is not None and known[digest]:
                known[digest] -= 1
            else:
                strange.append(offset)
        lost = known.total()
        if not strange and not lost:
            return _changed(f"rows {first + 1} to {first + len(rows)} were sorted")
        shown = "; ".join(self._shown(first + offset, rows[offset]) for offset in strange[:_SHOWN_ROWS])
        more = f"; and {len(strange) - _SHOWN_ROWS} more" if len(strange) > _SHOWN_ROWS else ""
        missing = f"{_count(lost)} of {len(self._digests or []):,} are not there as they were"
        return _changed(f"{missing}. In their place: {shown}{more}" if strange else missing)

    def _digest(self, row: Row) -> bytes:
        entered = _entered(row)
        return digest_of([entered[place] if place < len(entered) else "" for place in self._places])

    def _has_more(self, row: Row) -> bool:
        """Whether somebody wrote into another cell of the row, or put a note on any."""
        own = self._own_places
        return any(
            cell.note or (place not in own and spelled_as_entered(cell)) for place, cell in enumerate(row.values)
        )

    def _is_header(self, row: Row) -> bool:
        """Whether the row is the header as the job wrote it, and nothing more."""
        if any(cell.note for cell in row.values):
            return False
        entered = _entered(row)
        names = [entered[place] for place in self._places if place < len(entered)]
        return names == [spelled_out(name) for name in self._names] and sum(map(bool, entered)) == len(names)

    async def _header(self, first: int, last: int, between: Sequence[Row]) -> list[int]:
        """The header row, if the job wrote it and nothing else needs it."""
        above = await self._session.read_rows(self._tab, range(first))
        below = await self._session.read_rows(self._tab, range(last + 1, self._tab.rows))
        if not above or not self._is_header(above[-1]):
            self.kept.append("The header row stays, because it was changed.")
            return []
        # What was passed over as blank when the header was written needs none now.
        if any(row.has_data for row in (*above[:-1], *between, *below)):
            self.kept.append("The header row stays, because there are other rows.")
            return []
        return [first - 1]

    async def _columns(self, ours: frozenset[int]) -> list[JsonObject]:
        """The columns that the job added, if nobody else has written into them."""
        added = [each for each in self._found if each.metadata_value.startswith(marks.COLUMN)]
        if not added:
            return []
        others = [row for index, row in enumerate(await self._all_rows()) if index not in ours]
        steps, columns = [], []
        for anchor in added:
            place = anchor.location.dimension_range.start_index if anchor.location.dimension_range else -1
            cells = [_content(row.values[place]) for row in others if len(row.values) > place >= 0]
            cells = list(filter(None, cells))
            if len(cells) == 1 and cells[0].removeprefix("s") in self._names:
                columns.append(place)
            elif cells:
                self.kept.append("A column that was added stays, because it was changed or others use it.")
                steps.append(requests.forget(anchor.metadata_key, anchor.metadata_id))
        return steps + [requests.delete(self._tab.id, "COLUMNS", place, place + 1) for place in sorted(columns)[::-1]]

    async def _all_rows(self) -> list[Row]:
        return await self._session.read_rows(self._tab, range(self._tab.rows))

    def _shown(self, index: int, row: Row) -> str:
        texts = [text for cell in row.values if (text := cell.shown.text)]
        cut = [text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…" for text in texts[:_SHOWN_CELLS]]
        return f"row {index + 1} ({' | '.join(cut) or 'blank'})"


def _entered(row: Row) -> list[str]:
    return [spelled_as_entered(cell) for cell in row.values]


def _is_filled(row: Row) -> bool:
    return any(map(_content, row.values))


def _content(cell: Cell) -> str:
    return spelled_as_entered(cell) + cell.note


def _runs(indices: Sequence[int]) -> list[range]:
    """Rising indices as ranges of neighbours."""
    runs = []
    for _, run in groupby(enumerate(indices), key=lambda pair: pair[1] - pair[0]):
        members = [index for _, index in run]
        runs.append(range(members[0], members[-1] + 1))
    return runs


def _whole(digests: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def _count(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _changed(why: str) -> Permanent:
    return Permanent(
        FailureCode.SHEET_CHANGED,
        f"Nothing was removed, because the rows can no longer be told for certain: {why}. Remove them by hand.",
    )
