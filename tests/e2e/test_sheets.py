"""The whole path to a Google Sheet and back: a drop becomes rows, exactly once, and an undo takes them away."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from kit import Kit, new_job, until
from pydantic import SecretStr
from scripted_model import Reply, ScriptedModel
from worker_process import worker_process

from events.keys import Flow, JobRef
from events.results import CompletedEvent, FailedEvent, FailureCode, UndoneEvent, UndoRefusedEvent
from events.status import State
from infra.embedded.sheets import Hang
from infra.embedded.stack import emulated_sheets
from infra.wiring import run_worker

# The file of every drop is "a,b\n1,2\n".
CODE = """```python
result = pd.DataFrame({
    "Customer": ["Anna", "=HYPERLINK(1)"],
    "Order date": pd.to_datetime(["2026-01-31", "2026-02-01"]),
    "sum": [12.5, df["b"].sum()],
})
```"""
ROWS = [["Anna", 46053, 12.5], ["=HYPERLINK(1)", 46054, 2]]


@dataclass
class Sheets:
    """The emulator, one spreadsheet in it, and a worker that may write there."""

    kit: Kit
    emulator: object
    book: object
    model: ScriptedModel

    @property
    def url(self):
        return f"https://docs.google.com/spreadsheets/d/{self.book.id}/edit"

    def tab(self):
        return self.book.tab("Sheet1")

    async def drop(self, **destination):
        job = new_job()
        await self.kit.drop(job, destination={"type": "google_sheet", "url": self.url, **destination})
        return job

    async def ended(self, job: JobRef):
        async def published() -> bool:
            status = await self.kit.status(job)
            return status is not None and status.published

        await until(published, seconds=60)
        return next(event for event in await self.kit.published(job) if isinstance(event, CompletedEvent | FailedEvent))

    async def undo(self, job: JobRef):
        await self.kit.store.put(job.undo_key, b"{}", media_type="application/json")

        async def done() -> bool:
            return not await self.kit.exists(job.undo_key)

        await until(done, seconds=60)
        return await self.kit.published(job)


@asynccontextmanager
async def running(settings, stack):
    stop = asyncio.Event()
    task = asyncio.create_task(run_worker(settings, stack, stop))
    try:
        yield
    finally:
        stop.set()
        await task


@pytest.fixture
async def sheets(kit: Kit):
    with ScriptedModel(Reply(CODE)) as model, emulated_sheets(kit.settings) as (settings, emulator):
        book = emulator.service.create("Orders")
        emulator.service.share(book.id, emulator.service_account_info()["client_email"], "writer")
        here = settings.model_copy(update={"openai_base_url": model.base_url, "openai_api_key": SecretStr("none")})
        async with running(here, kit.stack):
            yield Sheets(kit, emulator, book, model)


async def test_a_drop_becomes_rows_and_an_undo_takes_exactly_them_away(sheets: Sheets):
    sheets.tab().write([["order date", "Notes", "CUSTOMER"], ["x", "mine", "Zoe"]])
    before = sheets.tab().cells()
    first = await sheets.drop()
    told = (await sheets.ended(first)).data
    second = await sheets.drop(sheet="sheet1")
    await sheets.ended(second)
    filled = sheets.tab().values()
    (undone,) = await sheets.undo(first)
    left = sheets.tab().values()
    noted = (await sheets.kit.status(first)).undo
    await sheets.undo(first)
    noted_again = (await sheets.kit.status(first)).undo
    left_again = sheets.tab().values()
    await sheets.undo(second)

    rows = [[46053, None, "Anna", 12.5], [46054, None, "=HYPERLINK(1)", 2]]
    assert filled == [["order date", "Notes", "CUSTOMER", "sum"], ["x", "mine", "Zoe"], *rows, *rows]
    assert (told.sheet.first_row, told.sheet.rows, told.sheet.tab, told.files) == (3, 2, "Sheet1", ())
    assert told.sheet.added_columns == ("sum",)
    assert told.notes[-1] == "Columns added to the sheet: sum."
    assert isinstance(undone, UndoneEvent)
    assert undone.data.rows == 2
    assert noted.data == undone.data
    assert noted_again == noted
    assert left_again == left
    # The column stays for as long as the other drop's rows are in it; then it is no longer known whose it was.
    assert left == [["order date", "Notes", "CUSTOMER", "sum"], ["x", "mine", "Zoe"], *rows]
    assert {place: cell for place, cell in sheets.tab().cells().items() if place != (0, 3)} == before
    assert sheets.book.evaluated == []


async def test_an_undo_of_edited_rows_is_refused_and_shows_them(sheets: Sheets):
    job = await sheets.drop()
    await sheets.ended(job)
    sheets.tab().write([["Anne"]], start_row=1)
    filled = sheets.tab().cells()

    (refused,) = await sheets.undo(job)

    assert isinstance(refused, UndoRefusedEvent)
    assert refused.data.code == FailureCode.SHEET_CHANGED
    assert "row 2 (Anne | 46053 | 12.5)" in refused.data.message
    assert sheets.tab().cells() == filled
    status = await sheets.kit.status(job)
    assert status is not None
    assert (status.state, status.undo.data) == (State.COMPLETED, refused.data)


async def test_rows_on_a_tab_of_their_own(sheets: Sheets):
    told = (await sheets.ended(await sheets.drop(mode="new_tab", sheet="Orders 2026"))).data

    assert (told.sheet.tab, told.sheet.new_tab) == ("Orders 2026", True)
    assert sheets.book.tab("Orders 2026").values() == [["Customer", "Order date", "sum"], *ROWS]


async def test_a_sheet_that_cannot_be_written_to_is_told_before_the_model_is_asked(sheets: Sheets):
    account = sheets.emulator.service_account_info()["client_email"]
    missing = await sheets.ended(await sheets.drop(sheet="Nowhere"))
    sheets.emulator.service.share(sheets.book.id, account, "reader")
    read_only = await sheets.ended(await sheets.drop())
    sheets.emulator.service.unshare(sheets.book.id, account)
    not_shared = await sheets.ended(await sheets.drop())

    assert [event.data.code for event in (missing, read_only, not_shared)] == [
        FailureCode.SHEET_TAB_MISSING,
        FailureCode.SHEET_READ_ONLY,
        FailureCode.SHEET_NOT_SHARED,
    ]
    assert "“Sheet1”" in missing.data.message
    assert account in not_shared.data.message
    assert sheets.model.requests == []


async def test_a_job_that_is_cancelled_while_its_rows_are_on_the_way_leaves_none(sheets: Sheets):
    on_the_way = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fault(call):
        if call.method == "spreadsheets.batchUpdate" and call.number > 1 and not on_the_way.is_set():
            loop.call_soon_threadsafe(on_the_way.set)
            return Hang(2)
        return None

    sheets.emulator.service.fault = fault
    job = await sheets.drop()
    await on_the_way.wait()
    await sheets.kit.store.put(job.cancel_key, b"{}", media_type="application/json")

    async def taken_back() -> bool:
        status = await sheets.kit.status(job)
        return status is not None and status.undo is not None and not await sheets.kit.keys(job.appended_prefix)

    await until(taken_back, seconds=60)

    status = await sheets.kit.status(job)
    assert status is not None
    assert status.outcome.data.code == FailureCode.CANCELLED
    assert sheets.tab().values() == []


async def test_without_a_service_account_sheets_are_refused_and_an_operator_is_told(kit: Kit):
    job = new_job()
    url = "https://docs.google.com/spreadsheets/d/1AbCdEfGhIjKlMnOp/edit"
    with ScriptedModel(Reply(CODE)) as model:
        here = kit.settings.model_copy(update={"openai_base_url": model.base_url, "openai_api_key": SecretStr("none")})
        async with running(here, kit.stack):
            await kit.drop(job, destination={"type": "google_sheet", "url": url})
            ended = await Sheets(kit, None, None, model).ended(job)

    assert ended.data.code == FailureCode.SHEETS_NOT_SET_UP
    assert len(await kit.drain("dead_letters")) == 1


async def test_a_worker_that_is_killed_while_its_rows_are_added_adds_them_once(kit: Kit, tmp_path: Path):
    job, added = new_job(), []

    def fault(call):
        # The second change is the one that adds the rows; its reply takes longer than the worker lives.
        if call.method == "spreadsheets.batchUpdate":
            added.append(call)
        return Hang(60) if len(added) == 2 else None

    with ScriptedModel(Reply(CODE)) as model, emulated_sheets(kit.settings) as (settings, emulator):
        emulator.service.fault = fault
        book = emulator.service.create("Orders")
        emulator.service.share(book.id, emulator.service_account_info()["client_email"], "writer")
        google = {
            "GOOGLE_SERVICE_ACCOUNT_FILE": str(settings.google_service_account_file),
            "DROPCHUTE_SHEETS_ENDPOINT_URL": emulator.base_url,
        }
        url = f"https://docs.google.com/spreadsheets/d/{book.id}/edit"
        with worker_process(kit.settings, model.base_url, tmp_path / "first.log", **google) as first:
            await kit.drop(job, destination={"type": "google_sheet", "url": url})

            async def rows_are_there() -> bool:
                return len(book.tab("Sheet1").values()) > 0

            await until(rows_are_there, seconds=60)
            first.kill()
            first.wait()
        with worker_process(kit.settings, model.base_url, tmp_path / "second.log", **google):

            async def settled() -> bool:
                status = await kit.status(job)
                return status is not None and status.published and await kit.in_queue("queries") == (0, 0)

            await until(settled, seconds=60)

    status = await kit.status(job)
    assert status is not None
    assert (status.state, status.epoch) == (State.COMPLETED, 2)
    assert status.outcome.data.sheet.rows == 2
    assert book.tab("Sheet1").values() == [["Customer", "Order date", "sum"], *ROWS]
    assert len(model.requests) == 1
    assert await kit.keys(job.prefix) == [job.appended_key(2), job.manifest_key(Flow.QUERY), job.status_key]


async def test_a_worker_that_is_stopped_does_not_wait_for_a_silent_google(kit: Kit, tmp_path: Path):
    silent = asyncio.Event()
    loop, changes = asyncio.get_running_loop(), []

    def fault(call):
        if call.method == "spreadsheets.batchUpdate":
            changes.append(call)
        if len(changes) != 2:
            return None
        loop.call_soon_threadsafe(silent.set)
        return Hang(60)

    with ScriptedModel(Reply(CODE)) as model, emulated_sheets(kit.settings) as (settings, emulator):
        emulator.service.fault = fault
        book = emulator.service.create("Orders")
        emulator.service.share(book.id, emulator.service_account_info()["client_email"], "writer")
        environment = {
            "GOOGLE_SERVICE_ACCOUNT_FILE": str(settings.google_service_account_file),
            "DROPCHUTE_SHEETS_ENDPOINT_URL": emulator.base_url,
            "DROPCHUTE_DRAIN_SECONDS": "0.1",
        }
        log = tmp_path / "worker.log"
        with worker_process(kit.settings, model.base_url, log, **environment) as worker:
            url = f"https://docs.google.com/spreadsheets/d/{book.id}/edit"
            await kit.drop(new_job(), destination={"type": "google_sheet", "url": url})
            await silent.wait()
            worker.terminate()

            async def stopped() -> bool:
                return b"worker.stopped" in log.read_bytes()

            await until(stopped, seconds=20)
            code = await asyncio.to_thread(worker.wait, 5)

    assert code == 0
