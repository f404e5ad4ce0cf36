"""The preview: the first rows of a saved table, read on the user's own machine and no further than needed."""

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from python_calamine import CalamineError, CalamineWorkbook

from consumers.sandbox.text import without_control_characters

MAX_WHOLE_BYTES = 20 * 1024 * 1024
HEAD_CHARS = 1024 * 1024
MAX_COLUMNS = 12
MAX_CELL_CHARS = 60
# What is beyond comes from binary fractions, not from anybody's data.
SHOWN_DIGITS = 12
MAX_FRACTION_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Preview:
    """Cells as they are shown; ``numeric`` says which columns belong to the right, ``more`` how many are left out."""

    columns: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    more: int


def preview(path: Path, rows: int) -> Preview | None:
    """The first ``rows`` rows; None where the format is no table, or too large or too odd to look into."""
    reader = _READERS.get(path.suffix)
    if reader is None:
        return None
    try:
        table = reader(path, rows)
    except (CalamineError, csv.Error, ValueError, OSError):
        return None
    if not table:
        return None
    header, *body = (row[:MAX_COLUMNS] for row in table)
    columns = [[row[at] if at < len(row) else None for row in body] for at in range(len(header))]
    spelled = [_spell(values) for values in columns]
    return Preview(
        columns=[_text(name) for name in header],
        rows=[list(row) for row in zip(*spelled, strict=True)],
        numeric=[_is_numeric(values) for values in columns],
        more=max(0, len(table[0]) - MAX_COLUMNS),
    )


Rows = list[list[Any]]


def _csv(path: Path, rows: int) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        head = io.StringIO(file.read(HEAD_CHARS), newline="")
    header, *body = islice(csv.reader(head), rows + 1)
    return [header, *([_number(text) for text in row] for row in body)]


def _xlsx(path: Path, rows: int) -> Rows:
    _check_size(path)
    with CalamineWorkbook.from_path(path) as workbook:
        return list(workbook.get_sheet_by_index(0).to_python(skip_empty_area=False, nrows=rows + 1))


def _parquet(path: Path, rows: int) -> Rows:
    with pq.ParquetFile(path) as file:
        names = list(file.schema_arrow.names)
        batch = next(file.iter_batches(batch_size=rows, columns=names[:MAX_COLUMNS]), None)
        columns = [] if batch is None else [column.to_pylist() for column in batch.columns]
    return [names, *(list(row) for row in zip(*columns, strict=True))]


def _json(path: Path, rows: int) -> Rows:
    _check_size(path)
    records = json.loads(path.read_bytes())
    return _objects(records[:rows]) if isinstance(records, list) else []


def _jsonl(path: Path, rows: int) -> Rows:
    with path.open(encoding="utf-8") as file:
        return _objects([json.loads(line) for line in islice(file, rows)])


def _objects(records: list[Any]) -> Rows:
    if not all(isinstance(record, dict) for record in records):
        return []
    names = list(dict.fromkeys(name for record in records for name in record))
    return [names, *([record.get(name) for name in names] for record in records)]


_READERS: dict[str, Callable[[Path, int], Rows]] = {
    ".csv": _csv,
    ".xlsx": _xlsx,
    ".parquet": _parquet,
    ".json": _json,
    ".jsonl": _jsonl,
}


def _check_size(path: Path) -> None:
    if path.stat().st_size > MAX_WHOLE_BYTES:
        raise ValueError(f"{path} is too large to be read whole")


def _number(text: str) -> Any:
    """A CSV cell that is a number; ids with leading zeros are none."""
    try:
        number = float(text)
    except ValueError:
        return text
    digits = text.lstrip("-")
    return text if "." not in digits or (digits.startswith("0") and not digits.startswith("0.")) else number


def _is_numeric(values: list[Any]) -> bool:
    filled = [value for value in values if value is not None and value != ""]
    return bool(filled) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in filled)


def _spell(values: list[Any]) -> list[str]:
    """One column: its fractions with the same number of digits, as many as they need."""
    floats = [value for value in values if isinstance(value, float)]
    digits = max((len(f"{value:.{SHOWN_DIGITS}g}".partition(".")[2]) for value in floats), default=0)
    if digits > MAX_FRACTION_DIGITS or not all(map(math.isfinite, floats)):
        return [_text(value) for value in values]
    return [f"{value:,.{digits}f}" if isinstance(value, float) else _text(value) for value in values]


def _text(value: Any) -> str:
    match value:
        case None:
            text = ""
        case bool():
            text = str(value).lower()
        case float():
            text = f"{value:,.{SHOWN_DIGITS}g}"
        case datetime() if value.time() == time():
            text = value.date().isoformat()
        case _:
            text = " ".join(without_control_characters(str(value)).split())
    return text if len(text) <= MAX_CELL_CHARS else f"{text[: MAX_CELL_CHARS - 1]}…"
