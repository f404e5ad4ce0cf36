"""Undo: the rows that a job added go again, and nothing else does."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby

from consumers.delivery.sheet import marks, refusals, requests
from consumers.delivery.sheet.appended import Appended
from consumers.delivery.sheet.book import Metadata, Row, Tab
from consumers.delivery.sheet.rows import spelled_out, whole_digest
from consumers.delivery.sheet.seen import SeenRows, added_columns, column_of, content_of
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
_SEEN_ENTRIES = 2


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
        # A copy of the tab has copies of the anchors.
        self._found = [each for each in found if each.tab_id == tab.id]
        digests = appended.row_digests if appended else []
        # Of another try than the one that wrote the rows, they would tell us nothing.
        self._digests = digests if whole_digest(b"".join(digests)) == record.digest else None
        self._names = appended.names if appended else ()
        self._own_headers = frozenset(spelled_out(name) for name in self._names)
        self.kept: list[str] = []

    async def steps(self) -> list[JsonObject]:
        if self._record.state == "tab":
            return await self._whole_tab()
        first, last = self._ends()
        between = await self._seen(range(first, last + 1))
        ours = [first + offset for offset in await self._ours(between, first)]
        own_rows = frozenset(ours)
        header = await self._header(between, own_rows) if self._record.header else []
        steps = [
            requests.delete(self._tab.id, "ROWS", run.start, run.stop) for run in reversed(_runs([*header, *ours]))
        ]
        return steps + await self._columns(own_rows)

    async def _seen(self, rows: range) -> SeenRows:
        seen = SeenRows(rows, self._places, self._names)
        await self._session.read_rows(self._tab, rows, seen.see)
        return seen

    async def _whole_tab(self) -> list[JsonObject]:
        seen = await self._seen(range(self._tab.rows))
        end = self._record.rows + 1
        for index in range(end, self._tab.rows):
            if seen.is_filled(index):
                raise _changed(f"somebody has added to the tab “{self._tab.title}”: {await self._shown(index)}")
        if self._tab.rows < end:
            raise _changed("rows are missing")
        await self._ours(seen.part(range(1, end)), 1)
        if self._names and not seen.is_header(0):
            raise _changed(f"its header was changed: {await self._shown(0)}")
        return [requests.delete_tab(self._tab.id)]

    def _ends(self) -> tuple[int, int]:
        """Where the first and the last row are by now."""
        found = {each.metadata_value: each.location.dimension_range for each in self._found}
        first, last = found.get(marks.FIRST), found.get(marks.LAST)
        if first is None or last is None or first.start_index > last.start_index:
            raise _changed("its first or its last row was deleted or moved")
        return first.start_index, last.start_index

    async def _ours(self, rows: SeenRows, first: int) -> list[int]:
        """The offsets of the job's rows among ``rows``; others may stand between them."""
        now = rows.digests
        if None not in now and whole_digest(b"".join(digest for digest in now if digest)) == self._record.digest:
            return list(range(len(now)))
        if self._digests is None:
            raise _changed(f"rows {first + 1} to {first + len(now)} are not all as they were")
        matched: list[int] = []
        for offset, digest in enumerate(now[:-1]):
            if len(matched) < len(self._digests) - 1 and digest == self._digests[len(matched)]:
                matched.append(offset)
        # The anchors stand on the first row and on the last one.
        matched += [len(now) - 1] if now[-1] == self._digests[-1] else []
        if len(matched) < len(self._digests) or matched[0] != 0:
            raise await self._in_doubt(now, first)
        return matched

    async def _in_doubt(self, now: Sequence[bytes | None], first: int) -> Permanent:
        known = Counter(self._digests)
        strange = []
        for offset, digest in enumerate(now):
            if digest is not None and known[digest]:
                known[digest] -= 1
            else:
                strange.append(offset)
        lost = known.total()
        if not strange and not lost:
            return _changed(f"rows {first + 1} to {first + len(now)} were sorted")
        shown = "; ".join([await self._shown(first + offset) for offset in strange[:_SHOWN_ROWS]])
        more = f"; and {len(strange) - _SHOWN_ROWS} more" if len(strange) > _SHOWN_ROWS else ""
        missing = f"{_count(lost)} of {len(self._digests or []):,} are not there as they were"
        return _changed(f"{missing}. In their place: {shown}{more}" if strange else missing)

    async def _header(self, between: SeenRows, ours: frozenset[int]) -> list[int]:
        """The header row, if the job wrote it and nothing else needs it."""
        above = await self._seen(range(between.rows.start))
        below = await self._seen(range(between.rows.stop, self._tab.rows))
        header = between.rows.start - 1
        if header < 0 or not above.is_header(header):
            self.kept.append("The header row stays, because it was changed.")
            return []
        # What was passed over as blank when the header was written needs none now.
        if any(index != header and index not in ours for part in (above, between, below) for index in part.with_data()):
            self.kept.append("The header row stays, because there are other rows.")
            return []
        return [header]

    async def _columns(self, ours: frozenset[int]) -> list[JsonObject]:
        """The columns that the job added, if nobody else has written into them."""
        anchors = [each for each in self._found if each.metadata_value.startswith(marks.COLUMN)]
        added = added_columns(anchors)
        entered: dict[int, list[str]] = {place: [] for place in added}
        for run in _runs(added):
            await self._session.read_rows(self._tab, range(self._tab.rows), _entries(run, ours, entered), columns=run)
        own = [place for place in added if len(entered[place]) == 1 and entered[place][0] in self._own_headers]
        used = {place for place in added if entered[place]}.difference(own)
        if used:
            self.kept.append("A column that was added stays, because it was changed or others use it.")
        forgotten = [
            requests.forget(anchor.metadata_key, anchor.metadata_id) for anchor in anchors if column_of(anchor) in used
        ]
        gone = [requests.delete(self._tab.id, "COLUMNS", run.start, run.stop) for run in reversed(_runs(own))]
        return forgotten + gone

    async def _shown(self, index: int) -> str:
        texts: list[str] = []

        def see(_: int, row: Row) -> None:
            texts.extend(text for cell in row.values if (text := cell.shown.text))

        await self._session.read_rows(self._tab, range(index, index + 1), see)
        cut = [text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…" for text in texts[:_SHOWN_CELLS]]
        return f"row {index + 1} ({' | '.join(cut) or 'blank'})"


def _entries(columns: range, ours: frozenset[int], entered: dict[int, list[str]]) -> Callable[[int, Row], None]:
    """Notes what stands in the columns outside of our rows; two entries say as much as all of them."""

    def see(index: int, row: Row) -> None:
        if index in ours:
            return
        for place, cell in zip(columns, row.values, strict=False):
            if len(entered[place]) < _SEEN_ENTRIES and (text := content_of(cell)):
                entered[place].append(text)

    return see


def _runs(indices: Sequence[int]) -> list[range]:
    """Rising indices as ranges of neighbours."""
    runs = []
    for _, run in groupby(enumerate(indices), key=lambda pair: pair[1] - pair[0]):
        members = [index for _, index in run]
        runs.append(range(members[0], members[-1] + 1))
    return runs


def _count(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _changed(why: str) -> Permanent:
    return Permanent(
        FailureCode.SHEET_CHANGED,
        f"Nothing was removed, because the rows can no longer be told for certain: {why}. Remove them by hand.",
    )
