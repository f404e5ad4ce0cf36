"""One spreadsheet as Dropchute works with it: looked at, and changed for sure or not at all."""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog

from consumers.delivery.sheet import marks, refusals, requests
from consumers.delivery.sheet.book import (
    BOOK_AND_CELL_FIELDS,
    BOOK_FIELDS,
    ENTERED_FIELDS,
    Book,
    Metadata,
    Row,
    Tab,
    a1,
    book_of,
    cells_told,
    metadata_of,
    rows_told,
)
from consumers.delivery.sheet.marks import Record, own_hidden_tabs, record_of
from consumers.delivery.sheet.plan import HEADER_ROWS
from consumers.errors import Permanent, SheetRefused, SheetUnclear
from consumers.ports import JsonObject, Spreadsheets
from events.keys import JobRef
from events.results import FailureCode

TRIES = 4
FIRST_WINDOW_ROWS = 1_000
CELLS_PER_READ = 100_000
_CELLS_AT_ONCE = 2_000

T = TypeVar("T")

log = structlog.get_logger(__name__)


class SheetSession:
    """Reads and changes one spreadsheet on behalf of one job.

    Every method raises Permanent with a sheet_* code where Google refuses for a reason that we know,
    SheetRefused where the sheet may just have changed, and Transient where it cannot be reached.
    """

    def __init__(
        self,
        sheets: Spreadsheets,
        spreadsheet_id: str,
        job: JobRef,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sheets = sheets
        self.spreadsheet_id = spreadsheet_id
        self.job = job
        self._pause = pause

    @property
    def account(self) -> str:
        return self._sheets.account

    # ------------------------------------------------------------ looking

    async def probe(self) -> Book:
        """The spreadsheet without its cells, once we know that we may write to it: one call, which leaves nothing."""
        for number in range(TRIES):
            # A mark that nobody else makes at the same time; its key is none that we look for.
            nothing = requests.write_nothing(f"{marks.PREFIX}probe", 1 + secrets.randbelow(2**31 - 1))
            fields = f"updatedSpreadsheet({BOOK_FIELDS})"
            try:
                reply = await self._sheets.update(self.spreadsheet_id, nothing, fields=fields)
            except SheetUnclear as error:
                log.warning("sheet.unclear", job=str(self.job), reason=str(error), tries=number + 1)
                await self._pause_after(number)
            except SheetRefused as refused:
                if refused.status == 403 and await self._may_read():
                    raise refusals.read_only(self.account) from refused
                raise self.explained(refused) from refused
            else:
                return Book.model_validate(reply["updatedSpreadsheet"])
        raise refusals.unavailable()

    async def _pause_after(self, number: int) -> None:
        await self._pause(random.uniform(0.5, 1) * 2**number)  # noqa: S311 - spreads load, guards nothing

    async def _may_read(self) -> bool:
        try:
            await self._sheets.get(self.spreadsheet_id, fields="spreadsheetId")
        except SheetRefused:
            return False
        return True

    async def look(self) -> Book:
        """The spreadsheet without its cells."""
        try:
            return Book.model_validate(await self._sheets.get(self.spreadsheet_id, fields=BOOK_FIELDS))
        except SheetRefused as refused:
            raise self.explained(refused) from refused

    async def read_ends(self, tab: Tab, *, tries: int = TRIES) -> tuple[Book, Tab, int | None]:
        """The spreadsheet's marks, the tab with its first rows and its last ones, the index of its last data row.

        ``tab`` is the tab as it was last seen; other tabs are left out, as Google does where ranges are asked
        for. A blank bottom is skipped in windows that grow.
        """
        most = max(1, CELLS_PER_READ // max(1, tab.columns))
        top = min(HEADER_ROWS, tab.rows, most)
        window = min(FIRST_WINDOW_ROWS, most)
        start = max(top, tab.rows - window)
        book = await self._cells(tab, [(0, top), (start, tab.rows)] if start < tab.rows else [(0, top)])
        now = book.tab(tab.id)
        if now is None or (now.rows, now.title) != (tab.rows, tab.title):
            if not tries:
                raise refusals.unavailable()
            return await self.read_ends(now or await self._seen_now(tab), tries=tries - 1)
        while start > top and (now.last_data_row() or 0) < top:
            window = min(4 * window, most)
            start, end = max(top, start - window), start
            more = (await self._cells(now, [(start, end)])).tab(tab.id)
            now = now.model_copy(update={"data": (*now.data, *(more.data if more else ()))})
        return book, now, now.last_data_row()

    async def _cells(self, tab: Tab, rows: Sequence[tuple[int, int]]) -> Book:
        ranges = [a1(tab.title, first, end) for first, end in rows]
        try:
            reply = await self._sheets.get(self.spreadsheet_id, fields=BOOK_AND_CELL_FIELDS, ranges=ranges)
        except SheetRefused as refused:
            if refused.status != 400:
                raise self.explained(refused) from refused
            seen = await self._seen_now(tab)
            if (seen.title, seen.rows) != (tab.title, tab.rows):
                # Renamed or cut while we looked: the caller reads again what it sees then.
                return await self._cells(
                    seen, [(first, min(end, seen.rows)) for first, end in rows if first < seen.rows]
                )
            raise self.explained(refused) from refused
        return await _apart(reply, partial(book_of, reply))

    async def _seen_now(self, tab: Tab) -> Tab:
        seen = (await self.look()).tab(tab.id)
        if seen is None:
            raise Permanent(FailureCode.SHEET_TAB_MISSING, f"The tab “{tab.title}” was deleted. Choose another one.")
        return seen

    async def read_rows(
        self, tab: Tab, rows: range, see: Callable[[int, Row], None], *, columns: range | None = None
    ) -> None:
        """Show ``see`` what somebody entered into each of these rows, in their order, and keep nothing of it.

        ``columns``: only these, as if they were all. ``see`` may run in another thread.
        """
        step = max(1, CELLS_PER_READ // max(1, tab.columns if columns is None else len(columns)))
        for first in range(rows.start, rows.stop, step):
            part = range(first, min(first + step, rows.stop))
            ranges = [a1(tab.title, part.start, part.stop, columns)]
            try:
                reply = await self._sheets.get(self.spreadsheet_id, fields=ENTERED_FIELDS, ranges=ranges)
            except SheetRefused as refused:
                raise self.explained(refused) from refused
            await _apart(reply, partial(_show, reply, part, see))

    async def marks(self) -> list[Metadata]:
        """What the job has left in the spreadsheet."""
        try:
            found = await self._sheets.search(self.spreadsheet_id, metadata_key=marks.key_of(self.job))
        except SheetRefused as refused:
            raise self.explained(refused) from refused
        return [each for each in metadata_of(found) if each.is_our_projects]

    async def record(self) -> Record | None:
        """What the spreadsheet knows of the job's delivery."""
        return record_of(await self.marks(), self.job)

    # ------------------------------------------------------------ changing

    async def change(self, steps: Sequence[JsonObject], done: Callable[[], Awaitable[bool]]) -> None:
        """Make one atomic change, once. ``done`` finds out whether it was made.

        Where the outcome of a try is not known, the next one goes through ``done`` first; and where a try
        is refused after such a one, it may be because the earlier one came through.
        """
        unclear = False
        for number in range(TRIES):
            try:
                await self._sheets.update(self.spreadsheet_id, steps)
            except SheetUnclear as error:
                log.warning("sheet.unclear", job=str(self.job), reason=str(error), tries=number + 1)
                unclear = True
                await self._pause_after(number)
                if await done():
                    return
            except SheetRefused:
                if unclear and await done():
                    return
                raise
            else:
                return
        raise refusals.unavailable()

    async def remove_hidden_tabs(self, book: Book) -> None:
        """Rows of this job's tries that were never shown, as ``book`` has them."""
        tabs = own_hidden_tabs(book, self.job)

        async def done() -> bool:
            now = await self.look()
            return all(now.tab(tab) is None for tab in tabs)

        if not tabs:
            return
        try:
            await self.change([requests.delete_tab(tab) for tab in tabs], done)
        except SheetRefused:
            # Another try may have been faster.
            if not await done():
                raise

    def explained(self, refused: SheetRefused) -> Exception:
        """A refusal in our words, or as it came where it may have to do with a change of the sheet."""
        known = refusals.known_refusal(refused, self.account)
        if known is None:
            log.warning("sheet.refused", job=str(self.job), status=refused.status, reason=refused.message[:500])
        return known or refused


async def _apart(reply: JsonObject, parse: Callable[[], T]) -> T:
    """Parse in another thread what would hold up this one."""
    return await asyncio.to_thread(parse) if cells_told(reply) > _CELLS_AT_ONCE else parse()


def _show(reply: JsonObject, rows: range, see: Callable[[int, Row], None]) -> None:
    told, blank = rows_told(reply), Row()
    at, row = next(told, (rows.stop, blank))
    for index in rows:
        while at < index:
            at, row = next(told, (rows.stop, blank))
        see(index, row if index == at else blank)
