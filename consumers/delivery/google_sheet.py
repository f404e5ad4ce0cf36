"""The answer as rows of the user's own Google Sheet, exactly once.

Before the work: may we write there, is there room, and has an earlier try of this job been here already?
After it: the rows are put where they belong by one atomic batch, together with a record whose id is derived
from the job. A second such batch is refused, and a retry finds the record first. What does not fit into one
request waits in a hidden tab until that batch shows it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from pydantic import ValidationError

from consumers.delivery.sheet import marks, refusals
from consumers.delivery.sheet.append import Append, delivered_before
from consumers.delivery.sheet.appended import kept
from consumers.delivery.sheet.plan import MAX_CELLS, find_tab, sheet_full
from consumers.delivery.sheet.rows import MAX_REQUEST_BYTES, RowsReport
from consumers.delivery.sheet.session import SheetSession
from consumers.delivery.sheet.turns import Turns, utc_now
from consumers.delivery.sheet.undo import take_back, take_back_whatever_is_there
from consumers.drop import Answer, Drop
from consumers.errors import Permanent, SheetRefused
from consumers.ports import (
    GuestRefusal,
    Limits,
    ObjectStore,
    Report,
    Sandbox,
    SandboxError,
    SandboxMemory,
    SandboxOutput,
    SandboxTask,
    SandboxTimeout,
    Spreadsheets,
    TakenBack,
)
from consumers.sandbox.outputs import UnsafeOutput
from events.keys import JobRef
from events.manifest import GoogleSheetDestination
from events.results import FailureCode

PLANS = 4
_GUEST = "consumers.delivery.guest.rows:export_rows"
_WRITER_CODES = frozenset({FailureCode.RESULT_EMPTY, FailureCode.RESULT_TOO_LARGE})

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OpenedSheet:
    """A sheet that we may write to."""

    session: SheetSession
    append: Append


class GoogleSheets:
    """Appends to sheets as one service account (None: there is none), and takes back what it appended."""

    def __init__(
        self,
        sheets: Spreadsheets | None,
        sandbox: Sandbox,
        store: ObjectStore,
        *,
        limits: Limits,
        request_bytes: int = MAX_REQUEST_BYTES,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._sheets = sheets
        self._sandbox = sandbox
        self._store = store
        self._limits = limits
        self._request_bytes = request_bytes
        self._pause = pause
        self._turns = Turns(store, pause=pause, now=now)

    async def open(self, drop: Drop, destination: GoogleSheetDestination) -> OpenedSheet | Answer:
        """Check all that can be checked before the work; or the answer, if an earlier try has delivered it.

        Raises:
            Permanent: with a sheet_* code and what to do about it.
            Transient: Google Sheets cannot be reached.
        """
        session = self._on(destination.spreadsheet.spreadsheet_id, drop.job)
        book = await _in_our_words(session.probe())
        record = marks.record_of(book.developer_metadata, drop.job)
        if record is not None:
            return await delivered_before(drop, record, book, session=session, store=self._store)
        if book.cells >= MAX_CELLS:
            raise sheet_full()
        tab = find_tab(book, destination) if destination.mode == "append" else None
        append = Append(
            drop, session, destination, tab, seen=book, store=self._store, request_bytes=self._request_bytes
        )
        return OpenedSheet(session, append)

    async def append(
        self, opened: OpenedSheet, result: Path, answer: Answer, *, report: Report, scratch: Path
    ) -> Answer:
        """Add the Parquet table ``result`` to the sheet. Returns ``answer`` with what was added where.

        Raises:
            Permanent: with a sheet_* code, result_empty or result_too_large.
            Transient: Google Sheets cannot be reached. What may be there already, ``withdraw`` takes back.
        """
        folder = scratch / "sheet"
        folder.mkdir()
        rows = await self._rows_of(result, folder)
        answer = replace(answer, notes=(*answer.notes, *rows.notes))
        spreadsheet_id = opened.session.spreadsheet_id
        await report.appending_to(spreadsheet_id)
        try:
            waiting = await _in_our_words(opened.append.upload(rows, folder, report))
        except UnsafeOutput as error:
            raise refusals.unforeseen() from error
        if isinstance(waiting, Answer):
            return waiting
        async with self._turns.turn(spreadsheet_id):
            for _ in range(PLANS):
                try:
                    return await opened.append.show(waiting, answer)
                except SheetRefused as refused:
                    # Without a reason that we know, the sheet has changed since we looked.
                    known = opened.session.explained(refused)
                    if known is not refused:
                        raise known from refused
                    await opened.append.look_again()
        raise refusals.unforeseen()

    async def _rows_of(self, result: Path, folder: Path) -> RowsReport:
        task = SandboxTask(_GUEST, {}, {"result.parquet": result}, folder, self._limits)
        try:
            return RowsReport.model_validate((await self._sandbox.run(task)).value)
        except GuestRefusal as refusal:
            if refusal.code not in _WRITER_CODES:
                raise refusals.unforeseen() from refusal
            raise Permanent(FailureCode(refusal.code), refusal.message[:500]) from refusal
        except (SandboxTimeout, SandboxMemory, SandboxOutput) as error:
            raise refusals.result_too_large() from error
        except (SandboxError, ValidationError) as error:
            log.warning("sheet.rows_failed", reason=str(error)[:2000])
            raise refusals.unforeseen() from error

    async def undo(self, job: JobRef, epoch: int, spreadsheet_id: str) -> TakenBack:
        """Remove exactly what the completed job added.

        Raises:
            Permanent: sheet_changed, showing the rows in doubt, or another sheet_* code.
            Transient: Google Sheets cannot be reached; asking again is safe.
        """
        session = self._on(spreadsheet_id, job)
        async with self._turns.turn(spreadsheet_id):
            return await _in_our_words(
                take_back(session, partial(kept, self._store, job), epoch), refusals.not_taken_back
            )

    async def withdraw(self, job: JobRef, spreadsheet_id: str) -> TakenBack:
        """Leave nothing of a job that failed: no rows, no hidden tabs, and no way for a late batch to add any."""
        session = self._on(spreadsheet_id, job)
        async with self._turns.turn(spreadsheet_id):
            return await _in_our_words(
                take_back_whatever_is_there(session, partial(kept, self._store, job)), refusals.not_taken_back
            )

    def _on(self, spreadsheet_id: str, job: JobRef) -> SheetSession:
        if self._sheets is None:
            raise refusals.not_set_up()
        return SheetSession(self._sheets, spreadsheet_id, job, pause=self._pause)


async def _in_our_words(work: Awaitable[T], unforeseen: Callable[[], Permanent] = refusals.unforeseen) -> T:
    """What Google refused without a reason that we know is ours to look into."""
    try:
        return await work
    except SheetRefused as refused:
        raise unforeseen() from refused
