"""An Excel workbook from the result: typed cells, in constant memory, and never a formula."""

import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import xlsxwriter

from consumers.delivery.guest.batches import Result
from consumers.sandbox.guest.contract import Refusal

# Microsoft, "Excel specifications and limits".
MAX_ROWS = 1_048_575  # beside the header
MAX_COLUMNS = 16_384
MAX_CELL_CHARACTERS = 32_767
MAX_EXACT = 10**15 - 1
FIRST_DAY = date(1900, 3, 1)  # before it, Excel counts a 29 February 1900 that never was

_WIDTH_SAMPLE_ROWS = 200
_OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}


def write_xlsx(result: Result, path: Path) -> list[str]:
    """Write one sheet with a frozen, filtered header; returns notes on what Excel could not hold.

    Raises:
        Refusal: ``result_too_large`` where the rows or columns do not fit on a sheet.
    """
    if result.rows > MAX_ROWS or len(result.names) > MAX_COLUMNS:
        raise Refusal(
            "result_too_large",
            f"The result has {result.rows:,} rows and {len(result.names):,} columns; an Excel sheet holds "
            f"{MAX_ROWS:,} and {MAX_COLUMNS:,}. Choose csv or parquet, or ask for fewer.",
        )
    with xlsxwriter.Workbook(str(path), {**_OPTIONS, "tmpdir": str(path.parent)}) as workbook:
        return _Sheet(workbook, result).write()


class _Sheet:
    def __init__(self, workbook: Any, result: Result) -> None:
        self._result = result
        self._sheet = workbook.add_worksheet("Result")
        self._header = workbook.add_format({"bold": True, "bg_color": "#E8EEF4", "bottom": 1, "text_wrap": True})
        self._day = workbook.add_format({"num_format": "yyyy-mm-dd"})
        self._moment = workbook.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._cut = self._long = self._infinite = self._early = 0

    def write(self) -> list[str]:
        writers = [self._writer(kind) for kind in self._result.types]
        row_number = 1
        for batch in self._result.batches():
            columns = [column.to_pylist() for column in batch.columns]
            if row_number == 1:
                self._head(columns)
            for row in zip(*columns, strict=True):
                for column_number, (write, value) in enumerate(zip(writers, row, strict=True)):
                    if value is not None:
                        write(row_number, column_number, value)
                row_number += 1
        return self._notes()

    def _head(self, columns: list[list[Any]]) -> None:
        names = self._result.names
        for i, (name, values) in enumerate(zip(names, columns, strict=True)):
            widest = max((len(str(value)) for value in values[:_WIDTH_SAMPLE_ROWS] if value is not None), default=0)
            # Some room for the filter's button.
            self._sheet.set_column(i, i, min(60, max(8, widest + 2, min(30, len(name) + 4))))
        self._sheet.freeze_panes(1, 0)
        self._sheet.autofilter(0, 0, self._result.rows, len(names) - 1)
        for i, name in enumerate(names):
            self._text(0, i, name, self._header)

    def _writer(self, kind: Any) -> Callable[[int, int, Any], Any]:
        writers: tuple[tuple[Callable[[Any], bool], Callable[[int, int, Any], Any]], ...] = (
            (pa.types.is_boolean, self._sheet.write_boolean),
            (pa.types.is_integer, self._integer),
            (pa.types.is_floating, self._float),
            (pa.types.is_decimal, self._decimal),
            (pa.types.is_date, lambda row, column, value: self._date(row, column, value, self._day)),
            (pa.types.is_timestamp, lambda row, column, value: self._date(row, column, value, self._moment)),
        )
        return next((write for is_kind, write in writers if is_kind(kind)), self._text)

    def _text(self, row: int, column: int, value: str, style: Any = None) -> None:
        # Excel counts UTF-16 units.
        if len(value) > MAX_CELL_CHARACTERS // 2 and len(value.encode("utf-16-le")) > 2 * MAX_CELL_CHARACTERS:
            self._cut += 1
            value = value.encode("utf-16-le")[: 2 * MAX_CELL_CHARACTERS].decode("utf-16-le", "ignore")
        if value:
            self._sheet.write_string(row, column, value, style)

    def _integer(self, row: int, column: int, value: int) -> None:
        if abs(value) > MAX_EXACT:
            self._long += 1
            self._sheet.write_string(row, column, str(value))
        else:
            self._sheet.write_number(row, column, value)

    def _float(self, row: int, column: int, value: float) -> None:
        if math.isfinite(value):
            self._sheet.write_number(row, column, value)
        elif not math.isnan(value):
            self._infinite += 1
            self._sheet.write_string(row, column, "inf" if value > 0 else "-inf")

    def _decimal(self, row: int, column: int, value: Decimal) -> None:
        if len(value.normalize().as_tuple().digits) > 15:
            self._long += 1
            self._sheet.write_string(row, column, str(value))
        else:
            self._sheet.write_number(row, column, float(value))

    def _date(self, row: int, column: int, value: date, style: Any) -> None:
        day = value.date() if isinstance(value, datetime) else value
        if day < FIRST_DAY:
            self._early += 1
            self._sheet.write_string(row, column, value.isoformat())
        else:
            self._sheet.write_datetime(row, column, value, style)

    def _notes(self) -> list[str]:
        counted = (
            (self._cut, f"texts were cut at Excel's {MAX_CELL_CHARACTERS:,} characters"),
            (self._long, "numbers of more than 15 digits were written as text, to keep every digit"),
            (self._infinite, "infinite numbers were written as text"),
            (self._early, "dates before March 1900 were written as text, because Excel does not know them"),
        )
        return [f"{count:,} {what}." for count, what in counted if count]
