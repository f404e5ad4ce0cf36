"""The Sheets service: spreadsheets in memory, and every call answered as Google's v4 API would; no I/O.

Known from Google's documentation (REST reference, guides, usage limits) or from errors that users have published:
the shape of every request and reply (the discovery document itself checks them), atomic batches, field masks, A1
notation, the limits of cells, columns, characters and bytes, reads and writes counted apart per user and minute,
the words for a wrong range, an existing title, a missing permission, a full workbook, a protected cell, and that
appendCells adds rows but no columns.

Assumed, the stricter way where there is a choice:

- a metadataId that is taken is refused (the reference says "unique", not what happens);
- indexes and sheet ids that are 0 are left out of ranges in replies, as Google does in several places;
- an empty stringValue leaves the cell empty; a format alone is no data for appendCells;
- a GridRange beyond the grid is refused rather than clipped; ``values.append`` adds rows but no columns;
- sortRange leaves developer metadata at its row, moveDimension takes it along, deleting a row deletes it;
- protection: only cells and whole tabs are guarded, developer metadata is not; editors are as given, plus the owner;
- a text typed as USER_ENTERED that begins with ``+`` and is no number becomes a formula;
- the order of checks: token, fault, size, request, quota, spreadsheet, permission; the words of all other errors;
- the quota is a sliding minute, and the 300 a minute of a whole project are not counted.

Not there: formulas are kept and never evaluated, effectiveFormat is what was entered, numbers as text and field
names in snake case are refused, and requests that are not supported answer 501 instead of doing nothing.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Never

from infra.embedded.sheets.batch import new_tab
from infra.embedded.sheets.book import Book, Role, check_role
from infra.embedded.sheets.calls import ApplyThen, Call, Fault, Hang, HttpCall, LoseReply, Refuse, Reply, ReplyLost
from infra.embedded.sheets.discovery import Method, Route, discovery
from infra.embedded.sheets.edit import Edit
from infra.embedded.sheets.errors import ApiError, Json, bad_field, not_emulated, not_found
from infra.embedded.sheets.grid import Tab
from infra.embedded.sheets.masks import EVERYTHING, merge, parse, select
from infra.embedded.sheets.methods import CREATE, READS, WRITES, Request
from infra.embedded.sheets.quota import Quota
from infra.embedded.sheets.reading import spreadsheet

MAX_BODY_BYTES = 10_485_760

UNAUTHENTICATED = (
    "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other "
    "valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)


class SheetsService:
    """The pure core. ``fault`` is asked before every call; ``calls`` is the log of them all. Safe between threads."""

    def __init__(self, *, requests_per_minute: int | None = 60, clock: Callable[[], float] = time.time) -> None:
        self.quota = Quota(requests_per_minute, clock)
        self.clock = clock
        self.fault: Callable[[Call], Fault | None] | None = None
        self.calls: list[Call] = []
        self.books: dict[str, Book] = {}
        self._lock = threading.RLock()
        self._api = discovery()

    # ------------------------------------------------------------ the owner's side

    def create(
        self,
        title: str = "Untitled",
        *,
        tabs: Sequence[str] = ("Sheet1",),
        rows: int = 1000,
        columns: int = 26,
        spreadsheet_id: str | None = None,
    ) -> Book:
        """A spreadsheet that nobody but its owner sees; the first tab has the id 0, as in Google's own."""
        with self._lock:
            book = Book(spreadsheet_id or f"1{secrets.token_urlsafe(32)}", title)
            for tab_title in tabs:
                sheet_id = book.new_id([]) if book.tabs else 0
                book.tabs.append(Tab(sheet_id, tab_title, row_count=rows, column_count=columns))
            book.check_size()
            self.books[book.id] = book
            return book

    def share(self, spreadsheet_id: str, email: str, role: Role) -> None:
        with self._lock:
            self.book(spreadsheet_id).shared[email.lower()] = role

    def unshare(self, spreadsheet_id: str, email: str) -> None:
        with self._lock:
            self.book(spreadsheet_id).shared.pop(email.lower(), None)

    def book(self, spreadsheet_id: str) -> Book:
        """The spreadsheet with this id; raises KeyError."""
        return self.books[spreadsheet_id]

    # ------------------------------------------------------------ the API

    def handle(self, call: HttpCall) -> Reply:
        """Answer one request; raises ReplyLost where a fault wants the answer lost."""
        with self._lock:
            try:
                route = self._api.route(call.method, call.path)
            except ApiError as error:
                return Reply(error.code, error.body())
            record = self._record(call, route)
            fault = self.fault(record) if self.fault is not None else None
            if isinstance(fault, Refuse):
                return _told(fault)
            return _with_fault(self._answer(call, route, record), fault)

    def _record(self, call: HttpCall, route: Route) -> Call:
        name = route.method.name
        record = Call(
            number=len(self.calls) + 1,
            method=name,
            spreadsheet_id=route.path.get("spreadsheetId"),
            is_write=name in WRITES or name == CREATE,
            email=call.email,
            body_bytes=len(call.body),
        )
        self.calls.append(record)
        return record

    def _answer(self, call: HttpCall, route: Route, record: Call) -> Reply:
        try:
            email = _signed_in(call)
            request = self._checked(call, route)
            self.quota.take(email, call.project, is_write=record.is_write)
            told = self._apply(route.method, request, email, call.project)
        except ApiError as error:
            return Reply(error.code, error.body())
        return Reply(200, told if request.mask is None else select(told, request.mask))

    def _checked(self, call: HttpCall, route: Route) -> Request:
        if len(call.body) > MAX_BODY_BYTES:
            raise ApiError(400, f"Request payload size exceeds the limit: {MAX_BODY_BYTES} bytes.")
        self._api.check_query(route.method, call.query)
        self._api.check_path(route)
        body = _json(call.body)
        self._api.check_body(route.method, body)
        query = dict(call.query)
        text = query.get("fields", query.get("$fields"))
        mask = None if text is None else parse(text)
        self._api.check_mask(route.method.response, mask or EVERYTHING)
        return Request(route.path, query, [value for name, value in call.query if name == "ranges"], body, mask)

    def _apply(self, method: Method, request: Request, email: str, project: str) -> Json:
        if method.name == CREATE:
            return self._create(request, email, project)
        write = method.name in WRITES
        handler = WRITES.get(method.name) or READS.get(method.name)
        if handler is None:
            raise not_emulated(f"the method {method.name}")
        book = self.books.get(request.path["spreadsheetId"])
        if book is None:
            raise not_found()
        check_role(book, email, write=write)
        edit = Edit(book, email, project)
        if not write:
            return handler(edit, request)
        saved, tabs = book.save(), list(book.tabs)
        try:
            return handler(edit, request)
        except BaseException:
            book.restore(saved, tabs)
            raise

    def _create(self, request: Request, email: str, project: str) -> Json:
        wanted = request.body
        if unknown := set(wanted) - {"properties", "sheets"}:
            raise not_emulated(f"{min(unknown)} of a new spreadsheet")
        book = Book(f"1{secrets.token_urlsafe(32)}", "Untitled spreadsheet", owner=email)
        properties = wanted.get("properties", {})
        book.properties = merge(book.properties, properties, {name: {} for name in properties})
        edit = Edit(book, email, project)
        for sheet in wanted.get("sheets") or [{"properties": {"sheetId": 0, "title": "Sheet1"}}]:
            if unknown := set(sheet) - {"properties"}:
                raise not_emulated(f"{min(unknown)} of a new sheet")
            new_tab(edit, sheet.get("properties", {}))
        self.books[book.id] = book
        return spreadsheet(edit, chosen=None, mask=EVERYTHING, grid=False)


def _signed_in(call: HttpCall) -> str:
    if call.email is None:
        raise ApiError(401, UNAUTHENTICATED)
    return call.email


def _json(body: bytes) -> Any:
    if not body.strip():
        return {}
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise bad_field("", f"Invalid JSON payload received. {error}") from error


def _no_constant(name: str) -> Never:
    raise ValueError(f"Unexpected token. {name}")


def _told(fault: Refuse | ApplyThen) -> Reply:
    return Reply(fault.status, ApiError(fault.status, fault.message, status=fault.reason).body())


def _with_fault(reply: Reply, fault: Fault | None) -> Reply:
    match fault:
        case LoseReply():
            raise ReplyLost(reply)
        case ApplyThen():
            return _told(fault)
        case Hang(seconds):
            return Reply(reply.status, reply.json, after_seconds=seconds)
        case _:
            return reply
