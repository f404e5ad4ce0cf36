"""Append: the rows of one job on their way into one sheet, up to the one visible step."""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from consumers.delivery.sheet import marks, requests
from consumers.delivery.sheet.appended import Appended, keep, kept
from consumers.delivery.sheet.book import Book, Tab
from consumers.delivery.sheet.plan import MAX_CELLS, free_title, plan_append, sheet_full, too_many_marks
from consumers.delivery.sheet.rows import Chunk, RowsReport, digest_of, read_chunks, spelled_out, whole_digest
from consumers.delivery.sheet.session import SheetSession
from consumers.drop import Answer, Drop
from consumers.errors import Permanent, SheetRefused
from consumers.ports import JsonObject, ObjectStore, Report
from events.manifest import GoogleSheetDestination
from events.results import FailureCode, SheetRows, Stage

MAX_TITLE_CHARS = 80
# An event must fit into a message.
MAX_TOLD_COLUMNS = 200

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Rows that are ready: the first ``hidden`` of them in a hidden tab, ``last`` still here."""

    report: RowsReport
    hidden: int
    last: Chunk
    digests: bytes

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.report.columns]

    @property
    def facts(self) -> JsonObject:
        """What any record tells of them."""
        return {"rows": self.report.rows, "digest": whole_digest(self.digests)}


@dataclass(frozen=True, slots=True)
class _Placed:
    """What is about to be done, and what will be told of it."""

    steps: list[JsonObject]
    record: marks.Record
    rows: SheetRows
    notes: tuple[str, ...] = ()


class Append:
    """Of one job: first ``upload``, then ``show``. ``tab`` is the tab to append to, None for a new one."""

    def __init__(
        self,
        drop: Drop,
        session: SheetSession,
        destination: GoogleSheetDestination,
        tab: Tab | None,
        *,
        seen: Book,
        store: ObjectStore,
        request_bytes: int,
    ) -> None:
        self._drop = drop
        self._session = session
        self._destination = destination
        self._tab = tab
        self._seen = seen
        self._store = store
        self._request_bytes = request_bytes
        self._key = marks.key_of(drop.job)
        self._own_tab = marks.tab_id(drop.job, drop.epoch)

    async def upload(self, rows: RowsReport, folder: Path, report: Report) -> Waiting | Answer:
        """All rows but those of the last chunk go to a hidden tab, chunk by chunk; raises UnsafeOutput.

        Returns the answer, if another try of the job delivers it meanwhile.
        """
        hidden, digests, last = 0, bytearray(), Chunk([], 0)
        async for chunk in read_chunks(folder, rows, max_bytes=self._request_bytes):
            if last.rows:
                record = await self._hide(rows, last, hidden)
                if record is not None:
                    return await self._delivered_before(record, await self._session.look())
                hidden += len(last.rows)
                await report(Stage.DELIVER, f"Sent {hidden:,} of {rows.rows:,} rows to the sheet.")
            digests += b"".join(digest_of([spelled_out(value) for value in row]) for row in chunk.rows)
            last = chunk
        return Waiting(rows, hidden, last, bytes(digests))

    async def _hide(self, rows: RowsReport, chunk: Chunk, before: int) -> marks.Record | None:
        """Returns the job's record, if there is one meanwhile."""
        header = int(self._tab is None)
        steps = [requests.write_rows(self._own_tab, before + header, chunk.rows, range(len(rows.columns)))]
        if before == 0:
            title = marks.hidden_title(self._drop.job, self._drop.epoch)
            size = (rows.rows + header, len(rows.columns))
            # Refused once there is a record: a tab that comes late would stay for good.
            unless_recorded = requests.write_nothing(self._key, marks.mark_id(self._drop.job))
            add = requests.add_tab(self._own_tab, title, size, hidden=True, frozen=header)
            steps = [*unless_recorded, add, *steps]

        async def done() -> bool:
            # Later chunks are simply written again, to the same cells.
            return before == 0 and (await self._session.look()).tab(self._own_tab) is not None

        return await self._change_unless_recorded(steps, done)

    async def _change_unless_recorded(
        self, steps: list[JsonObject], done: Callable[[], Awaitable[bool]]
    ) -> marks.Record | None:
        """Returns the job's record, if the change was refused because there is one."""
        try:
            await self._session.change(steps, done)
        except SheetRefused:
            record = await self._session.record()
            if record is None:
                raise
            return record
        return None

    async def look_again(self) -> None:
        """Before another ``show``: what was seen of the other tabs may be out of date."""
        self._seen = await self._session.look()

    async def show(self, waiting: Waiting, answer: Answer) -> Answer:
        """The one visible step, unless it was made before; raises SheetRefused where a new plan may help."""
        if self._tab is None:
            tab, last_row, book = None, None, await self._session.look()
        else:
            read, tab, last_row = await self._session.read_ends(self._tab)
            book = read.among(self._seen)
        record = marks.record_of(book.developer_metadata, self._drop.job)
        if record is not None:
            return await self._delivered_before(record, book)
        placed = self._on_a_new_tab(waiting, book) if tab is None else self._below(waiting, book, tab, last_row)
        added = replace(answer, sheet=placed.rows, notes=(*answer.notes, *placed.notes))
        await self._keep(waiting, added, placed.rows)
        record = await self._make(placed, book)
        return added if record is None else await self._delivered_before(record, await self._session.look())

    async def _delivered_before(self, record: marks.Record, book: Book) -> Answer:
        return await delivered_before(self._drop, record, book, session=self._session, store=self._store)

    async def _make(self, placed: _Placed, book: Book) -> marks.Record | None:
        """Returns the record of an earlier try, if that came through before this one."""
        outdated = marks.outdated_keys(book, room=len(self._key) + len(placed.record.value))
        if outdated is None:
            raise too_many_marks()
        abandoned = {*marks.own_hidden_tabs(book, self._drop.job), *marks.forgotten_tabs(book)} - {self._own_tab}
        steps = [
            requests.put_record(self._key, marks.mark_id(self._drop.job), placed.record),
            *(requests.forget(key) for key in outdated),
            *(requests.delete_tab(tab) for tab in sorted(abandoned)),
            *placed.steps,
        ]

        async def done() -> bool:
            return await self._session.record() is not None

        return await self._change_unless_recorded(steps, done)

    def _below(self, waiting: Waiting, book: Book, tab: Tab, last_row: int | None) -> _Placed:
        columns = waiting.report.columns
        plan = plan_append(book, tab, columns, rows=waiting.report.rows, last_row=last_row)
        hidden = (self._own_tab, waiting.hidden) if waiting.hidden else None
        with_header = plan.header_row is None
        record = marks.new_record(
            "rows",
            epoch=self._drop.epoch,
            tab_id=tab.id,
            places=marks.spelled(plan.places),
            header=with_header,
            **waiting.facts,
        )
        added = tuple(columns[position].name for position in plan.added)
        return _Placed(
            requests.place_rows(plan, columns, self._key, hidden=hidden, last=waiting.last.rows),
            record,
            self._told(tab.id, tab.title, plan.first_row + with_header, waiting, added=added),
            (f"Columns added to the sheet: {', '.join(added)}.",) if added else (),
        )

    def _on_a_new_tab(self, waiting: Waiting, book: Book) -> _Placed:
        columns, total, places = waiting.report.columns, waiting.report.rows, range(len(waiting.report.columns))
        if book.cells + (0 if waiting.hidden else (total + 1) * len(columns)) > MAX_CELLS:
            raise sheet_full()
        wanted = self._destination.sheet or f"Result {datetime.now(UTC):%Y-%m-%d}"
        title = free_title(book, wanted.strip()[:MAX_TITLE_CHARS] or "Result")
        tab_id = self._own_tab
        make = (
            requests.show_tab(tab_id, title)
            if waiting.hidden
            else requests.add_tab(tab_id, title, (total + 1, len(columns)), frozen=1)
        )
        steps = [
            make,
            requests.write_names(tab_id, 0, 0, waiting.names),
            requests.write_rows(tab_id, 1 + waiting.hidden, waiting.last.rows, places),
            *requests.format_dates(tab_id, range(1, 1 + total), columns, places),
        ]
        record = marks.new_record(
            "tab", epoch=self._drop.epoch, tab_id=tab_id, places=marks.spelled(places), header=True, **waiting.facts
        )
        return _Placed(steps, record, self._told(tab_id, title, 1, waiting))

    def _told(self, tab_id: int, title: str, first: int, waiting: Waiting, *, added: tuple[str, ...] = ()) -> SheetRows:
        rows = waiting.report.rows
        page = f"https://docs.google.com/spreadsheets/d/{self._session.spreadsheet_id}/edit"
        return SheetRows(
            spreadsheet_id=self._session.spreadsheet_id,
            url=f"{page}?gid={tab_id}#gid={tab_id}&range={first + 1}:{first + rows}",
            tab=title,
            tab_id=tab_id,
            new_tab=self._tab is None,
            first_row=first + 1,
            rows=rows,
            columns=len(waiting.names),
            added_columns=added[:MAX_TOLD_COLUMNS],
        )

    async def _keep(self, waiting: Waiting, answer: Answer, rows: SheetRows) -> None:
        appended = Appended(
            answer=answer.text,
            notes=answer.notes,
            sheet=rows,
            names=tuple(waiting.names),
            digests=base64.b64encode(waiting.digests).decode(),
        )
        await keep(self._store, self._drop.job, self._drop.epoch, appended)


async def delivered_before(
    drop: Drop, record: marks.Record, book: Book, *, session: SheetSession, store: ObjectStore
) -> Answer:
    """The answer of an earlier try of the job, whose rows are in the sheet.

    Raises:
        Permanent: cancelled: the job has ended meanwhile, and what it had added was taken back.
    """
    await session.remove_hidden_tabs(book)
    appended = None if record.state == "undone" else await kept(store, drop.job, record.epoch)
    if appended is None:
        raise Permanent(FailureCode.CANCELLED, "The request was ended before its rows were added to the sheet.")
    log.info("sheet.delivered_before", job=str(drop.job), epoch=drop.epoch, by_epoch=record.epoch)
    if record.epoch != drop.epoch:
        await keep(store, drop.job, drop.epoch, appended)
    return Answer((), text=appended.answer, notes=appended.notes, sheet=appended.sheet)
