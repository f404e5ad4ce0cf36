"""An Excel workbook: a tab for each table, its rows streamed into the frame that XlsxWriter makes.

XlsxWriter writes everything but the rows: tabs, headings, formats, widths, filters. For a million rows it
takes a minute and a temporary file; Arrow spells them in seconds, straight into the archive.
"""

import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xlsxwriter
from xlsxwriter.utility import xl_col_to_name

from consumers.delivery.guest.batches import Result
from consumers.delivery.guest.files import BoundedFile, Room
from consumers.delivery.guest.lines import lines
from consumers.delivery.guest.naming import tab_names
from consumers.delivery.guest.xlsx_cells import Cells, cut
from consumers.delivery.guest.xlsx_layout import TEXT, columns_of
from consumers.sandbox.guest.contract import Refusal

# Microsoft, "Excel specifications and limits".
MAX_ROWS = 1_048_575  # beside the header
MAX_COLUMNS = 16_384
# Beyond, zip needs its 64-bit form, which makes Excel offer a repair. Source: XlsxWriter, use_zip64().
MAX_TAB_BYTES = 2**31 - 2**16
# As fast as 1, and smaller; 3 and up cost more than they save.
_COMPRESSION = 2

_DIMENSION = re.compile(rb'<dimension ref="[^"]*"/>')
_STYLED = re.compile(rb'<c r="[A-Z]+\d+" s="(\d+)"/>')


def write_xlsx(results: Sequence[Result], path: Path, room: Room, *, max_rows: int = MAX_ROWS) -> list[str]:
    """Write one workbook; returns notes on what Excel could not hold.

    A table with more than ``max_rows`` rows goes on on further tabs.

    Raises:
        Refusal: ``result_too_large``, also where the columns do not fit on a tab.
    """
    for result in results:
        if len(result.names) > MAX_COLUMNS:
            raise _too_large(f"has {len(result.names):,} columns; an Excel sheet holds {MAX_COLUMNS:,}")
    cells = Cells()
    with (
        zipfile.ZipFile(_frame(results, max_rows)) as frame,
        BoundedFile(path, room) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION) as book,
    ):
        # Numbered in the order in which they were added.
        tabs = (f"xl/worksheets/sheet{number}.xml" for number in range(1, len(frame.namelist())))
        for name in frame.namelist():
            if not name.startswith("xl/worksheets/"):
                book.writestr(name, frame.read(name))
        for result in results:
            for rows, batches in _tabs_of(result, max_rows):
                tab = next(tabs)
                last = f"{xl_col_to_name(len(result.names) - 1)}{rows + 1}"
                with book.open(tab, "w") as part:
                    _write_tab(part, frame.read(tab), last, batches, cells)
    return [*_split(results, max_rows), *cells.notes()]


def _write_tab(part: Any, frame: bytes, last: str, batches: Iterable[tuple[int, Any]], cells: Cells) -> None:
    """The frame with the rows between its first row, the headings, and what follows the last one.

    ``last`` is the reference of the last cell: readers rely on it.
    """
    head, end_of_row, rest = _DIMENSION.sub(f'<dimension ref="A1:{last}"/>'.encode(), frame, 1).partition(b"</row>")
    formats, end_of_rows, tail = rest.rpartition(b"</sheetData>")
    styles = [number.decode() for number in _STYLED.findall(formats)]
    size = part.write(head + end_of_row)
    for first, batch in batches:
        rows = pc.cast(pa.array(range(first, first + batch.num_rows), pa.int32()), pa.string())
        size += part.write(_rows(batch, rows, styles, cells))
        if size > MAX_TAB_BYTES:
            raise _too_large(f"needs more than {MAX_TAB_BYTES / 1e9:.0f} GB on one Excel sheet")
    part.write(end_of_rows + tail)


def _rows(batch: Any, rows: Any, styles: Sequence[str], cells: Cells) -> memoryview:
    parts: list[Any] = ['<row r="', rows, '">']
    for i, (column, style) in enumerate(zip(batch.columns, styles, strict=True)):
        parts += cells.xml(column, xl_col_to_name(i), rows, style)
    return lines([*parts, "</row>"], null="")


def _tabs_of(result: Result, max_rows: int) -> Iterator[tuple[int, Iterator[tuple[int, Any]]]]:
    """For each tab how many rows it has, and its batches with the number of their first row."""
    by_tab = groupby(_placed(result, max_rows), key=lambda place: place[0])
    for rows in _pages(result.rows, max_rows):
        _, placed = next(by_tab, (0, iter(())))
        # The headings are row 1.
        yield rows, ((row + 2, batch) for _, row, batch in placed)


def _placed(result: Result, max_rows: int) -> Iterator[tuple[int, int, Any]]:
    done = 0
    for whole in result.batches():
        batch = whole
        while batch.num_rows:
            tab, row = divmod(done, max_rows)
            part = batch.slice(0, max_rows - row)
            yield tab, row, part
            done += part.num_rows
            batch = batch.slice(part.num_rows)


def _frame(results: Sequence[Result], max_rows: int) -> io.BytesIO:
    """A workbook of all tabs without their rows; below the headings, one row shows the columns' formats."""
    pages = [(result, rows) for result in results for rows in _pages(result.rows, max_rows)]
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as workbook:
        head = workbook.add_format(
            {"bold": True, "bg_color": "#E8EEF4", "bottom": 1, "text_wrap": True, "valign": "top", "quote_prefix": True}
        )
        formats: dict[str, Any] = {}
        columns_by_result = {id(result): columns_of(result) for result in results}
        for (result, rows), title in zip(pages, tab_names([result.name for result, _ in pages]), strict=True):
            tab = workbook.add_worksheet(title)
            tab.freeze_panes(1, 0)
            tab.autofilter(0, 0, rows, len(result.names) - 1)
            for i, column in enumerate(columns_by_result[id(result)]):
                if column.format not in formats:
                    formats[column.format] = workbook.add_format(_properties(column.format))
                tab.set_column(i, i, column.width)
                tab.write_string(0, i, cut(column.name), head)
                tab.write_blank(1, i, None, formats[column.format])
    return file


def _properties(number_format: str) -> dict[str, Any]:
    # The mark of a typed apostrophe: a text that looks like a formula stays text when its cell is edited.
    return {"quote_prefix": True} if number_format == TEXT else {"num_format": number_format}


def _pages(rows: int, max_rows: int) -> list[int]:
    """How many rows each tab has; one tab at least."""
    return [min(max_rows, rows - start) for start in range(0, rows, max_rows)] or [0]


def _split(results: Sequence[Result], max_rows: int) -> list[str]:
    return [
        f"{len(_pages(result.rows, max_rows))} tabs hold {result.rows:,} rows, because an Excel sheet holds "
        f"{max_rows:,} of them beside its headings."
        for result in results
        if result.rows > max_rows
    ]


def _too_large(why: str) -> Refusal:
    return Refusal("result_too_large", f"The result {why}. Choose csv or parquet, or ask for fewer.")
