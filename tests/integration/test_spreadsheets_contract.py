"""What every ``Spreadsheets`` keeps to: the real adapter over HTTP, and the one that tests use in its place."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from faulty_proxy import Answer, FaultyProxy
from memory_store import MemoryStore
from sheets_in_process import ACCOUNT, SpreadsheetsInProcess

from consumers.delivery.sheet.quota import SharedQuota
from consumers.errors import Permanent, SheetRefused, SheetUnclear, Transient
from events.results import FailureCode
from infra.embedded.sheets.calls import ApplyThen, LoseReply, Refuse
from infra.embedded.sheets.server import SheetsEmulator
from infra.embedded.sheets.service import SheetsService
from infra.google_sheets import TRIES, GoogleSpreadsheets, ServiceAccountError, credentials_of, read_service_account

TITLE = {"updateSpreadsheetProperties": {"properties": {"title": "New"}, "fields": "title"}}


class Pauses(list):
    async def __call__(self, seconds):
        self.append(seconds)


class CountedQuota(SharedQuota):
    def __init__(self):
        super().__init__(MemoryStore(), ACCOUNT, per_minute=1_000_000)
        self.taken = []

    async def take(self, kind):
        self.taken.append(kind)
        await super().take(kind)


class Here:
    """One spreadsheet, and an adapter that reaches it."""

    def __init__(self, service):
        self.service = service
        self.book = service.create("Old")
        self.service.share(self.book.id, ACCOUNT, "writer")
        self.pauses = Pauses()
        self.quota = CountedQuota()

    def fault_once(self, fault):
        faults = [fault]
        self.service.fault = lambda _: faults.pop() if faults else None

    def fault_always(self, fault):
        self.service.fault = lambda _: fault

    @property
    def methods(self):
        return [call.method.removeprefix("spreadsheets.") for call in self.service.calls]


@pytest.fixture(scope="module")
def emulator():
    with SheetsEmulator(SheetsService(requests_per_minute=None)) as emulator:
        yield emulator


@asynccontextmanager
async def over_http(emulator, *, base_url=None, **changes):
    emulator.service.fault = None
    emulator.service.calls.clear()
    here = Here(emulator.service)
    credentials = credentials_of({**emulator.service_account_info(ACCOUNT), **changes}, name="key.json")
    url = base_url or emulator.base_url
    async with GoogleSpreadsheets(credentials, here.quota, base_url=url, pause=here.pauses) as here.sheets:
        yield here


@pytest.fixture(params=["http", "in process"])
async def here(request, emulator):
    if request.param == "http":
        async with over_http(emulator) as here:
            yield here
    else:
        here = Here(SheetsService(requests_per_minute=None))
        here.sheets = SpreadsheetsInProcess(here.service)
        yield here


@pytest.fixture
async def real(emulator):
    async with over_http(emulator) as here:
        yield here


def get(here):
    return here.sheets.get(here.book.id, fields="properties.title")


def search(here):
    return here.sheets.search(here.book.id, metadata_key="k")


def update(here):
    return here.sheets.update(here.book.id, [TITLE])


READS = pytest.mark.parametrize("read", [get, search])
ALL = pytest.mark.parametrize("call", [get, search, update])
UNCLEAR = pytest.mark.parametrize("fault", [LoseReply(), ApplyThen(503), ApplyThen(500), Refuse(502), Refuse(408)])


# ---------------------------------------------------------------- both


async def test_the_account_is_the_one_to_share_with(here):
    assert here.sheets.account == ACCOUNT


async def test_only_the_named_fields_are_read(here):
    assert await get(here) == {"properties": {"title": "Old"}}


async def test_only_the_cells_of_the_ranges_are_read(here):
    tab = here.book.tab("Sheet1")
    tab.properties["title"] = "It's Ünï & 5%"
    tab.write([["a"], ["b"], ["c"]])
    fields = "sheets(data(startRow,rowData(values(userEnteredValue))))"
    ranges = ["'It''s Ünï & 5%'!1:1", "'It''s Ünï & 5%'!3:1000"]
    told = await here.sheets.get(here.book.id, fields=fields, ranges=ranges)

    first, second = told["sheets"][0]["data"]
    assert first == {"rowData": [{"values": [{"userEnteredValue": {"stringValue": "a"}}]}]}
    assert (second["startRow"], len(second["rowData"])) == (2, 1)


async def test_an_update_is_all_or_nothing(here):
    with pytest.raises(SheetRefused) as error:
        await here.sheets.update(here.book.id, [TITLE, {"deleteSheet": {"sheetId": 7}}])

    assert (error.value.status, error.value.reason) == (400, "INVALID_ARGUMENT")
    assert "requests[1].deleteSheet" in error.value.message
    assert here.book.title == "Old"


async def test_an_update_may_tell_the_spreadsheet_without_its_cells(here):
    here.book.tab("Sheet1").write([["a"]])
    asked = "updatedSpreadsheet(properties.title,sheets(properties(sheetId,title)))"
    told = await here.sheets.update(here.book.id, [TITLE], fields=asked)

    assert told["updatedSpreadsheet"] == {
        "properties": {"title": "New"},
        "sheets": [{"properties": {"sheetId": 0, "title": "Sheet1"}}],
    }


async def test_an_update_tells_only_the_id_unless_asked_for_more(here):
    assert await update(here) == {"spreadsheetId": here.book.id}


async def test_metadata_is_found_by_its_key(here):
    location = {"location": {"spreadsheet": True}, "visibility": "PROJECT"}
    for number, key in ((1, "k"), (2, "other"), (3, "k")):
        made = {"metadataId": number, "metadataKey": key, "metadataValue": "v", **location}
        await here.sheets.update(here.book.id, [{"createDeveloperMetadata": {"developerMetadata": made}}])
    found = (await search(here))["matchedDeveloperMetadata"]

    assert sorted(each["developerMetadata"]["metadataId"] for each in found) == [1, 3]


async def test_where_no_metadata_is_nothing_is_found(here):
    assert (await search(here)).get("matchedDeveloperMetadata", []) == []


@ALL
async def test_a_spreadsheet_that_is_not_there_is_refused(here, call):
    del here.service.books[here.book.id]
    with pytest.raises(SheetRefused) as error:
        await call(here)

    assert (error.value.status, error.value.reason) == (404, "NOT_FOUND")
    assert error.value.message == "Requested entity was not found."


@ALL
async def test_a_spreadsheet_that_is_not_shared_is_refused(here, call):
    here.service.unshare(here.book.id, ACCOUNT)
    with pytest.raises(SheetRefused) as error:
        await call(here)

    assert (error.value.status, error.value.reason) == (403, "PERMISSION_DENIED")
    assert error.value.message == "The caller does not have permission"


async def test_a_reader_may_read_and_not_write(here):
    here.service.share(here.book.id, ACCOUNT, "reader")
    with pytest.raises(SheetRefused) as error:
        await update(here)

    assert error.value.status == 403
    assert await get(here) == {"properties": {"title": "Old"}}


@ALL
async def test_a_refusal_is_not_tried_again(here, call):
    here.fault_always(Refuse(400, "No."))
    with pytest.raises(SheetRefused) as error:
        await call(here)

    assert (error.value.status, error.value.message) == (400, "No.")
    assert len(here.methods) == 1


@UNCLEAR
async def test_a_write_without_a_clear_answer_is_unclear_and_never_sent_twice(here, fault):
    here.fault_always(fault)
    with pytest.raises(SheetUnclear):
        await update(here)

    assert here.methods == ["batchUpdate"]
    assert here.book.title == ("Old" if isinstance(fault, Refuse) else "New")


@READS
@UNCLEAR
async def test_a_read_that_stays_without_an_answer_is_transient(here, read, fault):
    here.fault_always(fault)
    with pytest.raises(Transient) as error:
        await read(here)

    assert error.value.code is FailureCode.SHEETS_UNAVAILABLE


@ALL
async def test_too_many_calls_are_transient_and_change_nothing(here, call):
    here.fault_always(Refuse(429, "Quota exceeded."))
    with pytest.raises(Transient) as error:
        await call(here)

    assert error.value.code is FailureCode.SHEETS_UNAVAILABLE
    assert here.book.title == "Old"


# ---------------------------------------------------------------- over HTTP


@READS
@UNCLEAR
async def test_a_read_is_tried_again(real, read, fault):
    real.fault_once(fault)
    await read(real)

    assert len(real.methods) == 2
    assert len(real.pauses) == 1


@ALL
async def test_too_many_calls_are_tried_again_after_a_pause(real, call):
    real.fault_once(Refuse(429, "Quota exceeded."))
    await call(real)

    assert len(real.methods) == 2
    assert 0 <= real.pauses[0] <= 30


@ALL
async def test_too_many_calls_for_too_long_end_after_some_tries(real, call):
    real.fault_always(Refuse(429, "Quota exceeded."))
    with pytest.raises(Transient):
        await call(real)

    assert len(real.methods) == TRIES
    assert len(real.pauses) == TRIES - 1
    assert all(0 <= seconds <= 30 for seconds in real.pauses)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7), ("0", 0), ("3600", 30)])
async def test_the_pause_is_as_long_as_google_asks_for_within_reason(emulator, header, seconds):
    with FaultyProxy(emulator.base_url).running() as proxy:
        async with over_http(emulator, base_url=proxy.endpoint) as here:
            proxy.on("POST", ":batchUpdate", Answer(429, b'{"error": {"code": 429}}', {"Retry-After": header}))
            await update(here)

    assert here.pauses == [seconds]


@pytest.mark.parametrize("status", [200, 502])
async def test_a_page_instead_of_a_reply_is_unclear(emulator, status):
    with FaultyProxy(emulator.base_url).running() as proxy:
        async with over_http(emulator, base_url=proxy.endpoint) as here:
            proxy.on("POST", ":batchUpdate", Answer(status, b"<html>Bad gateway</html>", {}))
            proxy.on("GET", "/v4/", Answer(status, b"<html>Bad gateway</html>", {}))
            with pytest.raises(SheetUnclear):
                await update(here)
            read = await get(here)

    assert proxy.count("POST", ":batchUpdate") == 1
    assert read == {"properties": {"title": "Old"}}


async def test_each_call_and_each_try_takes_from_the_quota(real):
    await get(real)
    await search(real)
    await update(real)
    real.fault_once(Refuse(429, "Quota exceeded."))
    await update(real)

    assert real.quota.taken == ["reads", "reads", "writes", "writes", "writes"]


async def test_where_nothing_listens_it_is_transient(emulator):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with over_http(emulator, base_url=f"http://127.0.0.1:{port}") as here:
        for call in (get, update):
            with pytest.raises(Transient) as error:
                await call(here)

    assert error.value.code is FailureCode.SHEETS_UNAVAILABLE
    assert here.methods == []
    assert len(here.pauses) == 2 * (TRIES - 1)


async def test_an_account_that_google_does_not_know_is_for_the_operator(emulator):
    async with over_http(emulator, client_email="nobody@elsewhere.iam.gserviceaccount.com") as here:
        for call in (get, update):
            with pytest.raises(Permanent) as error:
                await call(here)

            assert error.value.code is FailureCode.SHEETS_NOT_SET_UP
    assert here.methods == []


async def test_many_calls_at_once_are_each_answered(real):
    async with asyncio.TaskGroup() as group:
        replies = [group.create_task(get(real)) for _ in range(20)]

    assert [reply.result() for reply in replies] == [{"properties": {"title": "Old"}}] * 20


# ---------------------------------------------------------------- the key file


@pytest.mark.parametrize("change", ["private_key", "client_email", "token_uri"])
def test_a_key_file_without_its_parts_is_refused_without_a_word_of_it(emulator, tmp_path, change):
    info = emulator.service_account_info(ACCOUNT)
    secret = info["private_key"]
    info.pop(change)
    path = tmp_path / "key.json"
    path.write_text(json.dumps(info))
    with pytest.raises(ServiceAccountError) as error:
        read_service_account(path)

    assert str(error.value) == f"{path} is not the key file of a service account."
    assert error.value.__cause__ is None
    assert secret not in repr(error.value)


@pytest.mark.parametrize("key", ["nonsense SECRET", "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n"])
def test_a_key_that_is_none_is_refused_without_a_word_of_it(emulator, key):
    with pytest.raises(ServiceAccountError) as error:
        credentials_of(emulator.service_account_info(ACCOUNT) | {"private_key": key}, name="key.json")

    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()])
def test_a_key_that_is_none_of_rsa_is_refused(emulator, key):
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(ServiceAccountError, match="is not the key file"):
        credentials_of(emulator.service_account_info(ACCOUNT) | {"private_key": pem}, name="key.json")


@pytest.mark.parametrize("content", ["[]", "1", "null", '"text"', '{"type": "authorized_user"}'])
def test_other_json_is_no_key_file(tmp_path, content):
    path = tmp_path / "key.json"
    path.write_text(content)

    with pytest.raises(ServiceAccountError, match="is not the key file"):
        read_service_account(path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"-----BEGIN", b"[" * 200_000], ids=["binary", "text", "deep"])
def test_what_is_no_json_is_no_key_file(tmp_path, content):
    path = tmp_path / "key.json"
    path.write_bytes(content)

    with pytest.raises(ServiceAccountError, match="is not JSON"):
        read_service_account(path)


def test_a_key_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ServiceAccountError, match="No such file"):
        read_service_account(tmp_path / "key.json")
