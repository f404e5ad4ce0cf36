"""The Sheets emulator as an HTTP server: the API, the token endpoint, and a page to look at the sheets."""

import asyncio
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from infra.embedded.served import Served
from infra.embedded.sheets import page
from infra.embedded.sheets.accounts import Accounts, GrantRefused
from infra.embedded.sheets.calls import HttpCall, ReplyLost
from infra.embedded.sheets.service import SheetsService

DEFAULT_ACCOUNT = "worker@dropchute-dev.iam.gserviceaccount.com"


class SheetsEmulator(Served):
    """The emulator on a free local port, for as long as its ``with`` block lasts; the API is below /v4/spreadsheets.

    gspread and google-auth talk to it unchanged, with ``base_url`` in the place of
    ``https://sheets.googleapis.com`` and the credentials of ``service_account_info``.
    """

    def __init__(self, service: SheetsService | None = None) -> None:
        routes = [
            Route("/", self._index),
            Route("/style.css", _style),
            Route("/spreadsheets/d/{spreadsheet_id}", self._book),
            Route("/spreadsheets/d/{spreadsheet_id}/edit", self._book),
            Route("/token", self._token, methods=["POST"]),
            Route("/v4/{path:path}", self._api, methods=["GET", "POST", "PUT", "DELETE", "PATCH"]),
        ]
        # h11's connections can be closed from here, as a lost reply wants it.
        super().__init__(Starlette(routes=routes), name="sheets-emulator", http="h11")
        self.service = service or SheetsService()
        self._accounts = Accounts(f"{self.base_url}/token", self.service.clock)

    @property
    def base_url(self) -> str:
        return self.root_url

    def service_account_info(self, email: str = DEFAULT_ACCOUNT) -> dict[str, str]:
        """The key file of a service account, as ``Credentials.from_service_account_info`` takes it."""
        return self._accounts.key_file(email)

    async def _api(self, request: Request) -> Response:
        account = self._accounts.of_token(request.headers.get("authorization", ""))
        call = HttpCall(
            method=request.method,
            path=request.scope["raw_path"].decode("ascii"),
            query=request.query_params.multi_items(),
            body=await request.body(),
            email=None if account is None else account.email,
            project="" if account is None else account.project,
        )
        try:
            reply = self.service.handle(call)
        except ReplyLost:
            return await self._hang_up(request)
        if reply.after_seconds:
            await asyncio.sleep(reply.after_seconds)
        return JSONResponse(reply.json, status_code=reply.status)

    async def _hang_up(self, request: Request) -> Response:
        """Close the connection; what is returned goes nowhere."""
        for connection in list(self._server.server_state.connections):
            if isinstance(connection, H11Protocol) and connection.client == request.scope["client"]:
                connection.transport.abort()
        # The body was read before: the next thing to receive is that the client is gone.
        await request.receive()
        return Response()

    async def _token(self, request: Request) -> Response:
        form = {name: texts[0] for name, texts in parse_qs((await request.body()).decode("utf-8", "replace")).items()}
        try:
            granted = self._accounts.grant(form.get("grant_type", ""), form.get("assertion", ""))
        except GrantRefused as refused:
            return JSONResponse({"error": refused.code, "error_description": refused.description}, status_code=400)
        return JSONResponse(granted)

    async def _index(self, _: Request) -> Response:
        text = page.index_page(list(self.service.books.values()), base_url=self.base_url)
        return HTMLResponse(text, headers=page.HEADERS)

    async def _book(self, request: Request) -> Response:
        book = self.service.books.get(request.path_params["spreadsheet_id"])
        if book is None:
            return PlainTextResponse("There is no such spreadsheet.", status_code=404, headers=page.HEADERS)
        return HTMLResponse(page.book_page(book), headers=page.HEADERS)


async def _style(_: Request) -> Response:
    return Response(page.STYLE, media_type="text/css", headers=page.HEADERS)
