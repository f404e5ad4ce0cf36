"""The page to look at the sheets with: plain HTML without scripts, everything in it escaped."""

from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from infra.embedded.sheets.book import Book
from infra.embedded.sheets.cell import Cell, is_number, scalar
from infra.embedded.sheets.grid import Tab
from infra.embedded.sheets.number_format import formatted
from infra.embedded.sheets.ranges import column_letters
from infra.embedded.sheets.reading import EDIT_URL

SHOWN_ROWS = 200
LEAST_COLUMNS = 6
LEAST_ROWS = 5
REFRESH_SECONDS = 2

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

STYLE = """
:root { color-scheme: light; --line: #d9dce1; --soft: #f5f6f8; --text: #1f2328; --quiet: #667080; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 32px 24px 64px; color: var(--text); background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 22px; font-weight: 600; margin: 0 0 4px; }
h2 { font-size: 16px; font-weight: 600; margin: 32px 0 8px; }
p, li { color: var(--quiet); margin: 0 0 8px; }
a { color: #0b57a4; text-decoration: none; } a:hover { text-decoration: underline; }
code { font: 13px ui-monospace, "SF Mono", Menlo, Consolas, monospace; color: var(--text); overflow-wrap: anywhere; }
ul { list-style: none; padding: 0; margin: 24px 0; border-top: 1px solid var(--line); }
li { padding: 12px 0; border-bottom: 1px solid var(--line); margin: 0; } li a { font-weight: 600; }
.mark { font-size: 12px; font-weight: 400; color: var(--quiet); border: 1px solid var(--line); border-radius: 3px;
  padding: 1px 6px; margin-left: 8px; }
.sheet { overflow-x: auto; border: 1px solid var(--line); border-radius: 4px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { border: 1px solid var(--line); padding: 4px 10px; text-align: left; vertical-align: top; height: 30px;
  min-width: 64px; max-width: 420px; overflow-wrap: anywhere; white-space: pre-wrap; }
tr > :first-child { border-left: 0; } tr > :last-child { border-right: 0; }
thead th { border-top: 0; } tbody tr:last-child > * { border-bottom: 0; }
th { background: var(--soft); color: var(--quiet); font-weight: 400; font-size: 12px; text-align: center; }
tbody th { width: 48px; min-width: 48px; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: pre; }
.truth { text-align: center; } .bold { font-weight: 600; } .error { color: #a40e26; }
"""


def index_page(books: Iterable[Book], *, base_url: str) -> str:
    """All spreadsheets, each with the address to use as a destination."""
    entries = "".join(
        f'<li><a href="{base_url}/spreadsheets/d/{quote(book.id)}">{escape(book.title)}</a>'
        f"<br>Destination: <code>{escape(EDIT_URL.format(book.id))}</code></li>"
        for book in books
    )
    listed = f"<ul>{entries}</ul>" if entries else "<p>There is no spreadsheet yet.</p>"
    return _page("Sheets", f"<h1>Sheets</h1><p>The spreadsheets of this emulator.</p>{listed}")


def book_page(book: Book) -> str:
    """Every tab of a spreadsheet as a table."""
    body = (
        f'<p><a href="/">All sheets</a></p><h1>{escape(book.title)}</h1>'
        f"<p>Destination: <code>{escape(EDIT_URL.format(book.id))}</code></p>"
    )
    return _page(book.title, body + "".join(_tab(tab) for tab in book.tabs))


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="stylesheet" href="/style.css"></head><body>{body}</body></html>'
    )


def _tab(tab: Tab) -> str:
    filled = max((row + 1 for row, _, _ in tab.filled()), default=0)
    shown = min(max(filled, LEAST_ROWS), SHOWN_ROWS, tab.row_count)
    widest = max((len(row) for row in tab.rows[:shown]), default=0)
    columns = min(max(widest, LEAST_COLUMNS), tab.column_count)
    mark = '<span class="mark">hidden</span>' if tab.hidden else ""
    letters = "".join(f'<th scope="col">{column_letters(column)}</th>' for column in range(columns))
    rows = "".join(_row(tab, row, columns) for row in range(shown))
    rest = f"<p>and {filled - shown:,} more rows</p>" if filled > shown else ""
    return (
        f'<h2>{escape(tab.title)}{mark}</h2><div class="sheet"><table><thead><tr><th></th>{letters}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{rest}"
    )


def _row(tab: Tab, row: int, columns: int) -> str:
    cells = "".join(_cell(tab.cell(row, column)) for column in range(columns))
    return f'<tr><th scope="row">{row + 1}</th>{cells}</tr>'


def _cell(cell: Cell | None) -> str:
    if cell is None or cell.value is None:
        return "<td></td>"
    value = scalar(cell.value)
    classes = []
    if isinstance(value, bool):
        classes.append("truth")
    elif is_number(value):
        classes.append("number")
    elif "formulaValue" in cell.value:
        classes.append("error")
    if ((cell.format or {}).get("textFormat") or {}).get("bold"):
        classes.append("bold")
    attribute = f' class="{" ".join(classes)}"' if classes else ""
    return f"<td{attribute}>{escape(formatted(cell.value, cell.format))}</td>"
