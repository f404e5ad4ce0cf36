"""What is called inside the sandbox for a sheet: the result as rows of plain values, one JSON array on each line."""

import json
import math
import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from consumers.delivery.guest.batches import Result
from consumers.sandbox.guest.contract import Folders, Refusal
from consumers.sandbox.guest.lean import stay_lean

FILE = "rows.ndjson"
# Google Drive help, "Files you can store in Google Drive".
MAX_CELLS = 10_000_000
MAX_COLUMNS = 18_278
MAX_CELL_CHARS = 50_000
# Sheets API, "Usage limits": 2 MB are recommended for one request.
MAX_ROW_BYTES = 2_000_000
# A double keeps 15 digits; a sheet shows no more.
MAX_DIGITS = 15
DAY_ZERO = datetime(1899, 12, 30)  # noqa: DTZ001 - serials are the wall clock's
# A sheet keeps tabs and line feeds, and drops other control characters without a word.
_DROPPED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

Scalar = str | float | bool | None


def export_rows(arguments: dict[str, Any], folders: Folders) -> dict[str, Any]:
    """Write ``inputs/result.parquet`` as ``output/rows.ndjson``; ``arguments`` are none.

    Returns ``file``, ``rows``, ``columns`` (``name`` and ``kind``: text, number, bool, date or datetime) and
    ``notes``. Dates are serial numbers: days since 1899-12-30.

    Raises:
        Refusal: ``result_empty``, ``result_too_large``.
    """
    stay_lean()
    result = Result(folders.inputs / "result.parquet")
    if len(result.names) > MAX_COLUMNS or result.rows * len(result.names) > MAX_CELLS:
        raise Refusal(
            "result_too_large",
            f"The result has {result.rows:,} rows and {len(result.names):,} columns: more than a Google Sheet can "
            "hold. Ask for less, or choose a download.",
        )
    writer = _Writer()
    with (folders.output / FILE).open("w", encoding="utf-8") as file:
        for batch in result.batches():
            values = [writer.column(column) for column in batch.columns]
            file.writelines(_line(row) for row in zip(*values, strict=True))
    columns = [{"name": name, "kind": _kind(of)} for name, of in zip(result.names, result.types, strict=True)]
    return {"file": FILE, "rows": result.rows, "columns": columns, "notes": writer.notes()}


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def _line(row: tuple[Scalar, ...]) -> str:
    line = _encode(row) + "\n"
    # Of UTF-8 a character has four bytes at the most.
    if len(line) > MAX_ROW_BYTES // 4 and len(line.encode()) > MAX_ROW_BYTES:
        raise Refusal(
            "result_too_large",
            f"A row of the result has more than {MAX_ROW_BYTES / 1e6:,.0f} MB, which Google Sheets does not take at "
            "once. Ask for shorter texts, or choose a download.",
        )
    return line


def _kind(of: Any) -> str:
    if pa.types.is_boolean(of):
        return "bool"
    if pa.types.is_date(of):
        return "date"
    if pa.types.is_timestamp(of):
        return "datetime"
    return "text" if pa.types.is_string(of) else "number"


class _Writer:
    """Turns values into what a sheet holds, and counts what it could not."""

    def __init__(self) -> None:
        self._cut = self._long = self._infinite = self._dropped = 0

    def column(self, column: Any) -> list[Scalar]:
        convert = self._converter(column.type)
        return [None if value is None else convert(value) for value in column.to_pylist()]

    def _converter(self, of: Any) -> Callable[[Any], Scalar]:
        if pa.types.is_boolean(of):
            return bool
        if pa.types.is_integer(of):
            return self._integer
        if pa.types.is_floating(of):
            return self._float
        if pa.types.is_decimal(of):
            return self._decimal
        if pa.types.is_date(of) or pa.types.is_timestamp(of):
            return _serial
        return self._text

    def _text(self, value: str) -> Scalar:
        text = _DROPPED.sub("", value.replace("\r\n", "\n").replace("\r", "\n"))
        self._dropped += text != value and _DROPPED.search(value) is not None
        # Counted in UTF-16 units, as JavaScript does.
        if len(text) > MAX_CELL_CHARS // 2 and len(text.encode("utf-16-le")) > 2 * MAX_CELL_CHARS:
            self._cut += 1
            text = text.encode("utf-16-le")[: 2 * MAX_CELL_CHARS].decode("utf-16-le", "ignore")
        return text or None

    def _integer(self, value: int) -> Scalar:
        if len(str(abs(value))) > MAX_DIGITS:
            self._long += 1
            return str(value)
        return value

    def _float(self, value: float) -> Scalar:
        if math.isfinite(value):
            return value
        if math.isnan(value):
            return None
        self._infinite += 1
        return "inf" if value > 0 else "-inf"

    def _decimal(self, value: Decimal) -> Scalar:
        if len(value.normalize().as_tuple().digits) > MAX_DIGITS:
            self._long += 1
            return str(value)
        return float(value)

    def notes(self) -> list[str]:
        counted = (
            (self._cut, f"texts were cut at a sheet's {MAX_CELL_CHARS:,} characters"),
            (self._dropped, "texts lost control characters, which a sheet cannot hold"),
            (self._long, f"numbers of more than {MAX_DIGITS} digits were written as text, to keep every digit"),
            (self._infinite, "infinite numbers were written as text"),
        )
        return [f"{count:,} {what}." for count, what in counted if count]


def _serial(value: date) -> float:
    """Days since 1899-12-30, the time as their fraction. Source: Sheets API, "DateTimeRenderOption"."""
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)  # noqa: DTZ001
    days = (moment - DAY_ZERO).total_seconds() / 86_400
    return int(days) if days.is_integer() else days
