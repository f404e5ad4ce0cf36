"""CSV, JSON and Parquet, written batch by batch; no file grows far beyond its limit."""

import csv
import json
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumers.delivery.guest.batches import Result
from consumers.sandbox.guest.contract import Refusal

# OWASP, "CSV Injection": spreadsheets take a cell that begins so for a formula. With the full-width forms.
_FORMULA = "^([=+\\-@\\t\\r\\n\uff1d\uff0b\uff0d\uff20])"
# A signed number is none.
_NUMBER = r"^[-+][0-9][0-9.,]*$"


def write_csv(result: Result, path: Path, max_bytes: int) -> None:
    """RFC 4180 in UTF-8; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_harmless(pa.array(result.names, pa.string())).to_pylist())
        for batch in result.batches():
            columns = [_spelled(column).to_pylist() for column in batch.columns]
            writer.writerows(zip(*columns, strict=True))
            check_size(file.tell(), max_bytes)


def write_json(result: Result, path: Path, max_bytes: int) -> None:
    """An array of one object for each row; dates in ISO 8601, null for what is missing or no finite number."""
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    spell = [_json_value(kind) for kind in result.types]
    with path.open("w", encoding="utf-8") as file:
        separator = "[\n"
        for batch in result.batches():
            columns = [
                column.to_pylist()
                if to_json is None
                else [None if v is None else to_json(v) for v in column.to_pylist()]
                for column, to_json in zip(batch.columns, spell, strict=True)
            ]
            for row in zip(*columns, strict=True):
                file.write(separator + encode(dict(zip(result.names, row, strict=True))))
                separator = ",\n"
            check_size(file.tell(), max_bytes)
        file.write("\n]\n")


def write_parquet(result: Result, path: Path, max_bytes: int) -> None:
    """Parquet again, without the metadata that pandas adds."""
    schema = pa.schema(list(zip(result.names, result.types, strict=True)))
    with path.open("wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in result.batches():
            writer.write_batch(pa.record_batch(batch.columns, schema=schema))
            check_size(file.tell(), max_bytes)


def check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise Refusal(
            "result_too_large",
            f"The result is larger than {max_bytes / 1e6:,.0f} MB in this format. Ask for fewer rows or columns, "
            "or choose parquet.",
        )


def _spelled(column: Any) -> Any:
    if pa.types.is_string(column.type):
        return _harmless(column)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return pc.cast(column, pa.string())


def _harmless(texts: Any) -> Any:
    guarded = pc.replace_substring_regex(texts, _FORMULA, r"'\1")
    return pc.if_else(pc.match_substring_regex(texts, _NUMBER), texts, guarded)


def _json_value(kind: Any) -> Callable[[Any], Any] | None:
    if pa.types.is_floating(kind):
        return lambda value: value if math.isfinite(value) else None
    if pa.types.is_decimal(kind):
        return _json_decimal
    if pa.types.is_temporal(kind):
        return lambda value: value.isoformat()
    return None


def _json_decimal(value: Decimal) -> float | str:
    # Most readers of JSON take every number for a double: beyond its 15 digits only text keeps them all.
    return float(value) if len(value.normalize().as_tuple().digits) <= 15 else str(value)
