"""Spreadsheets without HTTP: the emulator's core behind the port, for runs by the thousand.

``tests/integration/test_spreadsheets_contract.py`` holds it to what the real adapter does over HTTP.
"""

import json

from consumers.delivery.sheet.refusals import unavailable
from consumers.errors import SheetRefused, SheetUnclear
from infra.embedded.sheets.calls import HttpCall, ReplyLost

ACCOUNT = "worker@dropchute-dev.iam.gserviceaccount.com"


class SpreadsheetsInProcess:
    def __init__(self, service, account=ACCOUNT):
        self.account = account
        self.service = service

    async def get(self, spreadsheet_id, *, fields, ranges=()):
        query = [("fields", fields), *(("ranges", each) for each in ranges)]
        return self._read("GET", f"/v4/spreadsheets/{spreadsheet_id}", query)

    async def search(self, spreadsheet_id, *, metadata_key):
        body = {"dataFilters": [{"developerMetadataLookup": {"metadataKey": metadata_key}}]}
        return self._read("POST", f"/v4/spreadsheets/{spreadsheet_id}/developerMetadata:search", [], body)

    async def update(self, spreadsheet_id, steps, *, fields="spreadsheetId"):
        body = {"requests": list(steps), "includeSpreadsheetInResponse": "updatedSpreadsheet" in fields}
        try:
            return self._called("POST", f"/v4/spreadsheets/{spreadsheet_id}:batchUpdate", [("fields", fields)], body)
        except ReplyLost as error:
            raise SheetUnclear("ReplyLost") from error

    def _read(self, method, path, query, body=None):
        try:
            return self._called(method, path, query, body)
        except (ReplyLost, SheetUnclear) as error:
            raise unavailable() from error

    def _called(self, method, path, query, body=None):
        sent = b"" if body is None else json.dumps(body).encode()
        reply = self.service.handle(HttpCall(method, path, query, sent, self.account))
        if reply.status == 429:
            raise unavailable()
        if reply.status == 408 or reply.status >= 500:
            raise SheetUnclear(f"HTTP {reply.status}")
        if reply.status != 200:
            told = reply.json["error"]
            raise SheetRefused(reply.status, told["status"], told["message"])
        return reply.json
