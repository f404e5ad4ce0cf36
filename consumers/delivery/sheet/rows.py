"""The result's rows on their way into a sheet: read from what the sandbox wrote, as values that never evaluate."""

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from consumers.delivery.sheet.book import Cell, Value
from consumers.ports import JsonObject
from consumers.sandbox.outputs import UnsafeOutput, open_output
from events.text import one_line

# Sheets API, "Usage limits": 2 MB are recommended for one request.
MAX_REQUEST_BYTES = 2 * 1024 * 1024
MAX_CELL_CHARS = 50_000
DIGEST_BYTES = 8
_LARGEST = sys.float_info.max

Kind = Literal["text", "number", "bool", "date", "datetime"]
Scalar = str | float | bool | None


class Column(BaseModel):
    """One column of the result."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    name: Annotated[str, AfterValidator(one_line)]
    kind: Kind


class RowsReport(BaseModel):
    """What ``export_rows`` says it wrote; hostile until parsed."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    file: str
    rows: int = Field(ge=1)
    columns: tuple[Column, ...] = Field(min_length=1)
    notes: tuple[Annotated[str, Field(max_length=1000)], ...] = Field(default=(), max_length=100)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows, small enough for one request. ``bytes`` is what they will be there, roughly."""

    rows: list[list[Scalar]]
    bytes: int


async def read_chunks(folder: Path, report: RowsReport, *, max_bytes: int) -> AsyncIterator[Chunk]:
    """The rows in order, in constant memory; raises UnsafeOutput for what ``export_rows`` does not write."""
    left = report.rows
    with open_output(folder, report.file) as file:
        while left:
            chunk = await asyncio.to_thread(_read_chunk, file, len(report.columns), left, max_bytes)
            left -= len(chunk.rows)
            yield chunk


def _read_chunk(file: BinaryIO, columns: int, left: int, max_bytes: int) -> Chunk:
    rows: list[list[Scalar]] = []
    size = 0
    while len(rows) < left:
        before = file.tell()
        line = file.readline(max_bytes + 1)
        row = _parsed(line, columns, max_bytes)
        encoded = len(line) + _CELL_OVERHEAD * columns + _ROW_OVERHEAD
        if rows and size + encoded > max_bytes:
            file.seek(before)
            break
        rows.append(row)
        size += encoded
    return Chunk(rows, size)


# What a request adds to the values, which stand in it as they stand in the line.
_CELL_OVERHEAD = len('{"userEnteredValue":{"numberValue":}}')
_ROW_OVERHEAD = len('{"values":[]},')


def _parsed(line: bytes, columns: int, max_bytes: int) -> list[Scalar]:
    if len(line) > max_bytes:
        raise UnsafeOutput("a row is too long")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UnsafeOutput("a row is no JSON") from error
    if not isinstance(row, list) or len(row) != columns or not all(map(_is_cell, row)):
        raise UnsafeOutput("a row is not what it should be")
    return row


def _is_cell(value: object) -> bool:
    match value:
        case None | bool():
            return True
        case str():
            return len(value) <= MAX_CELL_CHARS
        case int() | float():
            return -_LARGEST <= value <= _LARGEST
        case _:
            return False


def value_of(value: Scalar) -> JsonObject:
    """An ``ExtendedValue``. There is no way to a ``formulaValue`` from here: text stays text."""
    match value:
        case None | "":
            return {}
        case bool():
            return {"boolValue": value}
        case str():
            return {"stringValue": value}
        case _:
            return {"numberValue": value}


def digest_of(values: Sequence[str]) -> bytes:
    """What tells a row from another: of its values as ``spelled_out`` or ``spelled_as_entered`` writes them."""
    return hashlib.sha256(json.dumps(values).encode()).digest()[:DIGEST_BYTES]


def whole_digest(digests: bytes) -> str:
    """Of all rows together: of their digests, one after another."""
    return hashlib.sha256(digests).hexdigest()[:16]


def spelled_out(value: Scalar) -> str:
    """A value with its kind; numbers to 15 digits, which is what a sheet keeps. Blank is the empty text."""
    match value:
        case None | "":
            return ""
        case bool():
            return f"b{value:d}"
        case str():
            return f"s{value}"
        case _:
            return f"n{value + 0.0:.15g}"


def spelled_as_entered(cell: Cell) -> str:
    """The same for what stands in a cell of the sheet now."""
    entered = cell.user_entered_value or Value()
    if entered.formula_value is not None:
        return f"f{entered.formula_value}"
    if entered.error_value is not None:
        return "e"
    values = (entered.bool_value, entered.number_value, entered.string_value)
    return spelled_out(next((value for value in values if value is not None), None))
