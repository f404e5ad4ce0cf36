"""A Google Sheets emulator: the v4 REST API over cells in memory, a pure core and an HTTP server around it."""

from infra.embedded.sheets.book import OWNER, Book
from infra.embedded.sheets.calls import ApplyThen, Call, Fault, Hang, HttpCall, LoseReply, Refuse, Reply, ReplyLost
from infra.embedded.sheets.grid import Tab
from infra.embedded.sheets.server import SheetsEmulator
from infra.embedded.sheets.service import SheetsService

__all__ = [
    "OWNER",
    "ApplyThen",
    "Book",
    "Call",
    "Fault",
    "Hang",
    "HttpCall",
    "LoseReply",
    "Refuse",
    "Reply",
    "ReplyLost",
    "SheetsEmulator",
    "SheetsService",
    "Tab",
]
