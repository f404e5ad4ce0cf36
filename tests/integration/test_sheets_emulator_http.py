"""The Sheets emulator over HTTP: gspread and google-auth talk to it as they talk to Google."""

import time
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import google.auth.transport.requests
import gspread
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.exceptions import RefreshError
from google.oauth2.service_account import Credentials

from infra.embedded.sheets import ApplyThen, Book, Hang, LoseReply, Refuse, SheetsEmulator, SheetsService

SCOPES = ["https://www.googleapis.com/auth/spreadsheets"]
GOOGLE = "https://sheets.googleapis.com"


@pytest.fixture
def emulator() -> Iterator[SheetsEmulator]:
    with SheetsEmulator(SheetsService(requests_per_minute=None)) as emulator:
        yield emulator


@pytest.fixture
def book(emulator: SheetsEmulator) -> Book:
    book = emulator.service.create("Shop & Co", tabs=("Orders", "It's / 5%"))
    emulator.service.share(book.id, emulator.service_account_info()["client_email"], "writer")
    return book


def client(emulator: SheetsEmulator, *, scopes: list[str] = SCOPES, **changes: str) -> gspread.Client:
    class Here(gspread.HTTPClient):
        def request(self, method: str, endpoint: str, *args: Any, **options: Any) -> requests.Response:
            return super().request(method, endpoint.replace(GOOGLE, emulator.base_url), *args, **options)

    info = {**emulator.service_account_info(), **changes}
    # With a subject, google-auth does not ask Google where the account may be used.
    credentials = Credentials.from_service_account_info(info, scopes=scopes, subject=info["client_email"])
    return gspread.Client(credentials, http_client=Here)


def test_gspread_appends_reads_and_updates(emulator, book):
    sheet = client(emulator).open_by_key(book.id).worksheet("It's / 5%")

    sheet.append_rows([["id", "n"], ["=1+1", 2.5]])
    sheet.update([["x", True]], "A3")
    sheet.update([["2026-01-31"]], "B4", value_input_option="USER_ENTERED")

    assert sheet.get_all_values() == [["id", "n"], ["=1+1", "2.5"], ["x", "TRUE"], ["", "2026-01-31"]]
    assert sheet.row_values(1) == ["id", "n"]
    assert sheet.col_values(1) == ["id", "=1+1", "x"]
    assert book.tab("It's / 5%").cells()[3, 1] == {"numberValue": 46053}
    assert book.evaluated == []


def test_gspread_makes_changes_and_removes_tabs(emulator, book):
    document = client(emulator).open_by_key(book.id)

    sheet = document.add_worksheet("New", 10, 5)
    sheet.append_row(["first"])
    sheet.insert_row(["zeroth"], 1)
    sheet.freeze(1)
    sheet.format("A1:B1", {"textFormat": {"bold": True}})
    sheet.resize(20, 6)
    sheet.update_title("Newer")
    tab = book.tab("Newer")
    document.del_worksheet(sheet)

    assert tab.values() == [["zeroth"], ["first"]]
    assert (tab.row_count, tab.column_count, tab.frozen_rows) == (20, 6, 1)
    assert len(tab.formats()) == 2
    assert [sheet.title for sheet in document.worksheets()] == ["Orders", "It's / 5%"]


def test_gspread_hears_googles_errors(emulator, book):
    gspread_client = client(emulator)
    document = gspread_client.open_by_key(book.id)

    with pytest.raises(gspread.exceptions.APIError) as refused:
        document.add_worksheet("Orders", 1, 1)
    emulator.service.unshare(book.id, emulator.service_account_info()["client_email"])
    with pytest.raises(PermissionError):
        gspread_client.open_by_key(book.id)
    with pytest.raises(gspread.SpreadsheetNotFound):
        gspread_client.open_by_key("unknown")

    assert refused.value.code == 400
    assert "already exists. Please enter another name." in str(refused.value)


def test_a_lost_reply_is_a_closed_connection_after_the_change(emulator, book):
    sheet = client(emulator).open_by_key(book.id).sheet1
    emulator.service.fault = lambda call: LoseReply() if call.is_write else None

    with pytest.raises(requests.ConnectionError, match=r"without response|reset"):
        sheet.append_row(["lost"])

    assert sheet.get_all_values() == [["lost"]]
    assert [call.method for call in emulator.service.calls if call.is_write] == ["spreadsheets.values.append"]


def test_errors_and_late_replies_come_as_they_were_ordered(emulator, book):
    sheet = client(emulator).open_by_key(book.id).sheet1
    faults = iter((Refuse(503), ApplyThen(500), Hang(0.3)))
    emulator.service.fault = lambda call: next(faults)

    codes = []
    for word in ("no", "yes"):
        with pytest.raises(gspread.exceptions.APIError) as error:
            sheet.append_row([word])
        codes.append(error.value.code)
    started = time.monotonic()
    sheet.append_row(["late"])

    assert time.monotonic() - started >= 0.3
    assert codes == [503, 500]
    assert book.tab("Orders").values() == [["yes"], ["late"]]


def test_a_client_that_does_not_wait_finds_its_change_made(emulator, book):
    gspread_client = client(emulator)
    sheet = gspread_client.open_by_key(book.id).sheet1
    gspread_client.set_timeout(0.1)
    emulator.service.fault = lambda _: Hang(30)

    with pytest.raises(requests.Timeout):
        sheet.append_row(["late"])

    assert book.tab("Orders").values() == [["late"]]


def test_a_token_is_given_for_a_good_signature_only(emulator, book):
    with SheetsEmulator() as other:
        stranger = other.service_account_info("stranger@elsewhere.iam.gserviceaccount.com")

    with pytest.raises(RefreshError, match="account not found"):
        client(emulator, client_email=stranger["client_email"]).open_by_key(book.id)
    with pytest.raises(RefreshError, match="invalid_scope"):
        client(emulator, scopes=["https://www.googleapis.com/auth/gmail.readonly"]).open_by_key(book.id)
    with pytest.raises(RefreshError, match="Invalid JWT"):
        client(emulator, private_key=_another_key()).open_by_key(book.id)


def _another_key() -> str:
    encoded = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded.decode()


def test_a_missing_a_wrong_and_an_old_token_are_refused():
    now = [1_800_000_000.0]
    service = SheetsService(clock=lambda: now[0])
    with SheetsEmulator(service) as emulator:
        book = service.create("Shop")
        info = emulator.service_account_info()
        service.share(book.id, info["client_email"], "reader")
        credentials = Credentials.from_service_account_info(info, scopes=SCOPES)
        credentials.refresh(google.auth.transport.requests.Request())
        url = f"{emulator.base_url}/v4/spreadsheets/{book.id}"
        good = {"Authorization": f"Bearer {credentials.token}"}

        statuses = [requests.get(url, headers=headers).status_code for headers in ({}, {"Authorization": "x"}, good)]
        now[0] += 3600
        old = requests.get(url, headers=good)

    assert statuses == [401, 401, 200]
    assert old.json()["error"]["status"] == "UNAUTHENTICATED"


class Page(HTMLParser):
    """Tags and texts, as a browser would take them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name == "href" and value]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_lists_the_sheets_and_shows_each_tab(emulator, book):
    day = {"numberFormat": {"type": "DATE", "pattern": "yyyy-mm-dd"}}
    tab = book.tab("Orders")
    tab.write([["<script>alert(1)</script>", 46053, True]] + [["x"]] * 204)
    tab.put(0, 1, [tab.cell(0, 1)._replace(format=day)])
    book.tab("It's / 5%").properties["hidden"] = True

    index = Page(requests.get(emulator.base_url).text)
    link = next(link for link in index.links if book.id in link)
    reply = requests.get(link)
    shown = Page(reply.text)

    assert f"https://docs.google.com/spreadsheets/d/{book.id}/edit" in index.texts
    assert "script" not in shown.tags
    assert {"<script>alert(1)</script>", "2026-01-31", "TRUE", "hidden", "and 5 more rows"} <= set(shown.texts)
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    assert requests.get(f"{emulator.base_url}/spreadsheets/d/unknown").status_code == 404
