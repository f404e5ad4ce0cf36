"""Links to Google Sheets, as people copy them out of their browsers."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

HOST = "docs.google.com"
_PATH = re.compile(r"(?:/a/[^/]+)?/spreadsheets(?:/u/\d+)?/d/(?P<id>[A-Za-z0-9_-]{15,128})(?:/.*)?", re.ASCII)
# "Publish to web" and filled forms: pages to look at, with no spreadsheet behind that we may write to.
_PUBLISHED = re.compile(r"/d/e/", re.ASCII)


@dataclass(frozen=True, slots=True)
class SheetUrl:
    """A spreadsheet, and the tab that the link shows if it names one."""

    spreadsheet_id: str
    tab_id: int | None


def parse_sheet_url(url: str) -> SheetUrl | None:
    """What a link names, or None if it names no Google Sheet."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    match = _PATH.fullmatch(parts.path)
    if parts.scheme != "https" or host != HOST or port is not None or match is None or _PUBLISHED.search(parts.path):
        return None
    return SheetUrl(match["id"], _tab_id(parts.fragment, parts.query))


def _tab_id(*places: str) -> int | None:
    for place in places:
        for value in parse_qs(place).get("gid", []):
            if re.fullmatch(r"\d{1,10}", value, re.ASCII) and int(value) < 2**31:
                return int(value)
    return None
