"""What a job that did not complete had added to a sheet is taken back, whatever else happens meanwhile."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from kit import DeliveringFlow, Kit, new_job
from sheet_kit import PlayedGuest
from sheets_in_process import ACCOUNT, SpreadsheetsInProcess

from consumers.delivery.google_sheet import GoogleSheets
from consumers.drop import Answer, Drop
from consumers.errors import Permanent, Transient
from consumers.ports import Limits, Report
from consumers.session_control import SessionControl
from consumers.worker.outcome import Completed
from events.keys import Control, ControlKey, ManifestKey
from events.results import FailedEvent, FailureCode, UndoneEvent, UndoRefusedEvent
from infra.embedded.sheets.calls import Refuse
from infra.embedded.sheets.service import SheetsService
from infra.s3_store import S3ObjectStore

COLUMNS = [("Name", "text"), ("Amount", "number")]
ROWS = [["Anna", 1], ["Bob", 2]]


class Crash(Exception):
    """The worker is gone, right here."""


class DyingStore(S3ObjectStore):
    """Whose worker dies before it removes anything."""

    async def delete(self, keys):
        raise Crash


class Desk:
    """A spreadsheet, and a flow that appends to it and then ends as a test wants."""

    def __init__(self, kit: Kit, folder) -> None:
        self.kit, self.folder = kit, folder
        self.service = SheetsService(requests_per_minute=None)
        self.book = self.service.create("Orders")
        self.service.share(self.book.id, ACCOUNT, "writer")
        guest = PlayedGuest(COLUMNS, ROWS)
        self.sheets = GoogleSheets(
            SpreadsheetsInProcess(self.service), guest, kit.store, limits=Limits(), pause=self.no_pause
        )
        self.raising = Permanent(FailureCode.RESULT_EMPTY, "Ask for more.")

    async def no_pause(self, _seconds: float) -> None:
        pass

    async def flow(self, drop: Drop, *, report: Report) -> Answer:
        opened = await self.sheets.open(drop, drop.manifest.destination)
        answer = await self.sheets.append(
            opened, self.folder / "unused", Answer((), text="t"), report=report, scratch=self.folder
        )
        if self.raising is not None:
            raise self.raising
        return answer

    async def drop(self) -> ManifestKey:
        url = f"https://docs.google.com/spreadsheets/d/{self.book.id}/edit"
        return await self.kit.drop(destination={"type": "google_sheet", "url": url})

    async def run(self, key: ManifestKey):
        finish = self.kit.finish(sheets=self.sheets)
        return await self.kit.transaction(self.flow, finish=finish).run(key, self.kit.bury)

    async def control(self, control: Control, key: ManifestKey):
        job = key.job
        if control is Control.UNDO:
            await self.kit.store.put(job.undo_key, b"{}", media_type="application/json")
        about = None if control is Control.CLOSE else job
        return await self.kit.control(sheets=self.sheets)(ControlKey(job.session_id, control, about), self.kit.bury)

    def google_is_down_for_changes(self) -> None:
        """After the rows are there."""
        added = SimpleNamespace(yet=False)

        def fault(call):
            if call.method == "spreadsheets.batchUpdate" and self.rows():
                added.yet = True
            return Refuse(503) if added.yet else None

        self.service.fault = fault

    def google_is_up(self) -> None:
        self.service.fault = None

    def rows(self):
        return self.book.tab("Sheet1").values()


@pytest.fixture
def desk(kit: Kit, tmp_path):
    return Desk(kit, tmp_path)


async def test_a_job_that_fails_after_its_rows_were_added_leaves_none(desk: Desk):
    key = await desk.drop()
    outcome = await desk.run(key)

    assert outcome == Completed()
    assert desk.rows() == []
    events = await desk.kit.published(key.job)
    assert [type(event) for event in events[-2:]] == [FailedEvent, UndoneEvent]
    status = await desk.kit.status(key.job)
    assert status is not None
    assert status.undo is not None
    assert status.undo.data.rows == 2
    assert await desk.kit.keys(key.job.appended_prefix) == []
    assert desk.kit.letters == []


async def test_an_undo_that_is_asked_before_google_is_back_does_not_stand_in_for_taking_back(desk: Desk):
    key = await desk.drop()
    desk.google_is_down_for_changes()
    with pytest.raises(Transient):
        await desk.run(key)
    with pytest.raises(Transient):
        await desk.control(Control.UNDO, key)
    left = desk.rows()
    desk.google_is_up()
    await desk.control(Control.UNDO, key)

    assert left[1:] == ROWS
    assert desk.rows() == []
    assert await desk.run(key) == Completed()
    assert await desk.kit.keys(key.job.appended_prefix) == []


async def test_rows_that_could_not_be_taken_back_are_undone_once_the_sheet_is_shared_again(desk: Desk):
    key = await desk.drop()
    real = desk.raising
    desk.raising = None

    async def unshare_then_fail(drop: Drop, *, report: Report) -> Answer:
        await desk.flow(drop, report=report)
        desk.service.unshare(desk.book.id, ACCOUNT)
        raise real

    finish = desk.kit.finish(sheets=desk.sheets)
    await desk.kit.transaction(unshare_then_fail, finish=finish).run(key, desk.kit.bury)
    refused = (await desk.kit.published(key.job))[-1]
    desk.service.share(desk.book.id, ACCOUNT, "writer")
    await desk.control(Control.UNDO, key)
    undone = (await desk.kit.published(key.job))[-1]

    assert isinstance(refused, UndoRefusedEvent)
    assert refused.data.code == FailureCode.SHEET_NOT_SHARED
    assert isinstance(undone, UndoneEvent)
    assert desk.rows() == []


async def test_a_closed_session_is_emptied_although_google_is_down_and_the_rows_go_when_it_is_back(desk: Desk):
    desk.raising = Transient(FailureCode.STORAGE_UNAVAILABLE, "Later.")
    key = await desk.drop()
    other = await desk.kit.drop(new_job().__class__(key.job.session_id, "job-other-0001"))
    await desk.run(key)
    desk.google_is_down_for_changes()
    with pytest.raises(Transient):
        await desk.control(Control.CLOSE, key)
    kept = await desk.kit.keys(f"sessions/{key.job.session_id}/")
    desk.google_is_up()
    await desk.control(Control.CLOSE, key)

    assert kept == [key.job.appended_key(1), key.job.status_key]
    assert desk.rows() == []
    assert await desk.kit.keys(f"sessions/{key.job.session_id}/") == []
    assert any(isinstance(event, FailedEvent) for event in await desk.kit.published(other.job))


async def test_a_job_whose_manifest_is_gone_still_takes_back_what_an_earlier_try_added(desk: Desk):
    desk.raising = Transient(FailureCode.STORAGE_UNAVAILABLE, "Later.")
    key = await desk.drop()
    await desk.run(key)
    added = desk.rows()
    await desk.kit.store.delete([key.job.manifest_key(key.flow)])
    outcome = await desk.run(key)

    assert added[1:] == ROWS
    assert outcome == Completed()
    assert desk.rows() == []
    (failed,) = [event for event in await desk.kit.published(key.job) if isinstance(event, FailedEvent)]
    assert failed.data.code == FailureCode.MANIFEST_GONE
    assert await desk.kit.keys(f"sessions/{key.job.session_id}/") == []


async def test_an_undo_of_a_running_job_and_the_next_one_are_two_events(desk: Desk):
    desk.raising = None
    key = await desk.drop()
    ledger = desk.kit.ledger("worker-1")
    claim = await ledger.claim(key)
    await desk.control(Control.UNDO, key)
    await claim.give_back(counts=False)
    await desk.run(key)
    await desk.control(Control.UNDO, key)

    undos = [e for e in await desk.kit.published(key.job) if isinstance(e, UndoneEvent | UndoRefusedEvent)]
    assert [type(event) for event in undos] == [UndoRefusedEvent, UndoneEvent]
    assert undos[0].id != undos[1].id
    assert desk.rows() == []


async def test_an_undo_that_is_handled_again_after_a_crash_is_refused_once(desk: Desk):
    kit, key = desk.kit, await desk.kit.drop()
    await kit.transaction(DeliveringFlow(kit.store)).run(key, kit.bury)
    await kit.store.put(key.job.undo_key, b"{}", media_type="application/json")
    undo = ControlKey(key.job.session_id, Control.UNDO, key.job)
    dying = SessionControl(kit.ledger("dying"), DyingStore(kit.clients.s3, kit.stack.bucket), kit.finish(), desk.sheets)
    with pytest.raises(Crash):
        await dying.run(undo, kit.bury)
    await kit.control()(undo, kit.bury)

    assert sum(isinstance(event, UndoRefusedEvent) for event in await desk.kit.published(key.job)) == 1
    assert not await desk.kit.exists(key.job.undo_key)


async def test_an_undo_after_a_day_is_refused_and_keeps_nothing_alive(desk: Desk):
    desk.raising = None
    key = await desk.drop()
    await desk.run(key)
    ledger = desk.kit.ledger()
    found = await ledger.read(key.job)
    assert found is not None
    await ledger.replace(*found, accepted_at=found[0].accepted_at - timedelta(hours=25))
    before = await desk.kit.store.get(key.job.status_key, max_bytes=100_000)
    await desk.control(Control.UNDO, key)
    after = await desk.kit.store.get(key.job.status_key, max_bytes=100_000)

    (refused,) = [e for e in await desk.kit.published(key.job) if isinstance(e, UndoRefusedEvent)]
    assert refused.data.code == FailureCode.EXPIRED
    assert after.etag == before.etag
    assert desk.rows()[1:] == ROWS


async def test_the_users_rows_are_told_to_the_user_alone(desk: Desk):
    async def edit_then_fail(drop: Drop, *, report: Report) -> Answer:
        desk.raising = None
        await desk.flow(drop, report=report)
        desk.book.tab("Sheet1").write([["Diagnosis: confidential"]], start_row=1)
        raise Permanent(FailureCode.RESULT_EMPTY, "Ask for more.")

    key = await desk.drop()
    finish = desk.kit.finish(sheets=desk.sheets)
    await desk.kit.transaction(edit_then_fail, finish=finish).run(key, desk.kit.bury)

    (refused,) = [e for e in await desk.kit.published(key.job) if isinstance(e, UndoRefusedEvent)]
    assert "confidential" in refused.data.message
    assert desk.kit.letters == []
