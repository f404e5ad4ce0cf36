"""The result tables: whatever DataFrames, Series or scalar the code assigned, as plain Arrow columns."""

import datetime as dt
import decimal
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

MAX_NOTES = 20
MAX_NAME_CHARS = 100
PREVIEW_ROWS = 20
PREVIEW_COLUMNS = 20
PREVIEW_CHARS = 80

Scalar = (str, int, float, decimal.Decimal, dt.date, dt.time, dt.timedelta, np.generic)


def is_scalar(value: object) -> bool:
    return isinstance(value, Scalar) or is_missing(value)


def is_missing(value: Any) -> bool:
    """Whether it stands for nothing: None, NaN, NaT, NA."""
    return value is None or bool(pd.api.types.is_scalar(value) and pd.isna(value))


def scalar_frame(value: object) -> pd.DataFrame:
    return pd.DataFrame({"result": pd.Series([value])})


def is_frame(value: object) -> bool:
    return isinstance(value, (pd.DataFrame, pd.Series))


def frame_of(value: "pd.DataFrame | pd.Series[Any]") -> pd.DataFrame:
    """The values with what their index tells as columns."""
    return plain_frame(value) if isinstance(value, pd.DataFrame) else series_frame(value)


def series_frame(series: "pd.Series[Any]") -> pd.DataFrame:
    """The values beside the index, unless the index only counts."""
    name = "result" if series.name is None else series.name
    keep = not _counts(series.index)
    return _with_index(series.to_frame(name), series.index) if keep else series.to_frame(name)


def plain_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns beside the index, unless the index only says which rows were kept."""
    leftover = frame.index.nlevels == 1 and frame.index.name is None and pd.api.types.is_integer_dtype(frame.index)
    return frame if leftover else _with_index(frame, frame.index)


def to_arrow(frame: pd.DataFrame) -> tuple[pa.Table, list[str]]:
    """Columns that Parquet and Excel can both hold, under unique names, and what had to change."""
    notes: list[str] = []
    names = unique_names(frame.columns)
    columns = [_column(frame.iloc[:, position], name, notes) for position, name in enumerate(names)]
    return pa.table(columns, names=names), notes[:MAX_NOTES]


def unique_names(labels: Iterable[Hashable]) -> list[str]:
    """Texts for column labels: levels joined by a space, repeated ones numbered."""
    names: list[str] = []
    taken: set[str] = set()
    for position, label in enumerate(labels, start=1):
        base = _name(label) or f"column {position}"
        name, number = base, 2
        while name in taken:
            name, number = f"{base} ({number})", number + 1
        taken.add(name)
        names.append(name)
    return names


def table_names(labels: Iterable[Hashable]) -> list[str]:
    """Display names for the labels of several tables, as unique as those of columns."""
    return unique_names([_name(label)[:MAX_NAME_CHARS] or f"Table {place}" for place, label in enumerate(labels, 1)])


def preview(table: pa.Table) -> dict[str, list[Any]]:
    """The first rows as short texts, for a terminal."""
    head = table.slice(0, PREVIEW_ROWS).select(range(min(PREVIEW_COLUMNS, table.num_columns)))
    columns = [[short(value) for value in column.to_pylist()] for column in head.columns]
    return {
        "columns": [_cut(name) for name in head.column_names],
        "rows": [list(row) for row in zip(*columns, strict=True)],
    }


def short(value: object) -> str:
    """A value as a person would write it in a line of text."""
    if is_missing(value):
        return ""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return _cut(str(int(value)) if value.is_integer() and abs(value) < 1e15 else str(round(value, 4)))
    if isinstance(value, dt.datetime):
        midnight = value.time() == dt.time()
        return str(value.date()) if midnight else value.isoformat(sep=" ", timespec="seconds")
    return _cut(str(value))


def _cut(text: str) -> str:
    return text if len(text) <= PREVIEW_CHARS else text[: PREVIEW_CHARS - 1] + "…"


def _counts(index: "pd.Index[Any]") -> bool:
    return index.nlevels == 1 and index.name is None and index.equals(pd.RangeIndex(len(index)))


def _with_index(frame: pd.DataFrame, index: "pd.Index[Any]") -> pd.DataFrame:
    levels = pd.DataFrame(
        {level: index.get_level_values(level).array for level in range(index.nlevels)}, index=frame.index
    )
    unnamed = ["index"] if index.nlevels == 1 else [f"level {level + 1}" for level in range(index.nlevels)]
    labels = [known if known is not None else other for known, other in zip(index.names, unnamed, strict=True)]
    # Renumbered on both sides, because an index with repeated labels cannot be aligned.
    joined = pd.concat([levels.reset_index(drop=True), frame.reset_index(drop=True)], axis=1)
    joined.columns = pd.Index([*labels, *frame.columns.to_flat_index()], dtype="object", tupleize_cols=False)
    return joined


def _name(label: Hashable) -> str:
    if isinstance(label, tuple):
        return " ".join(part for part in map(_name, label) if part)
    return _utf8(short(label) if isinstance(label, (float, dt.datetime)) or is_missing(label) else str(label)).strip()


def _column(series: "pd.Series[Any]", name: str, notes: list[str]) -> pa.Array | pa.ChunkedArray:
    values = _arrow(series)
    if values is None:
        if series.dtype == "object":
            notes.append(f"Column {_cut(name)!r} was written as text: its values are of several kinds.")
        return pa.array([_text(value) for value in series.tolist()], pa.string())
    kind = values.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        notes.append(f"Column {_cut(name)!r} shows the local time of {kind.tz}.")
        return pa.array(series.dt.tz_localize(None), pa.timestamp("us"), from_pandas=True, safe=False)
    if pa.types.is_timestamp(kind):
        return values.cast(pa.timestamp("us"), safe=False)
    if pa.types.is_null(kind):
        return values.cast(pa.string())
    return values.cast(pa.float64()) if pa.types.is_float16(kind) else values


def _arrow(series: "pd.Series[Any]") -> pa.Array | pa.ChunkedArray | None:
    """As Arrow itself reads them, or None if it cannot or the kind is beyond a plain table."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype if len(series.cat.categories) else "object")
    try:
        values = pa.array(series, from_pandas=True)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError, ValueError):
        return None
    return values if _is_plain(values.type) else None


def _is_plain(kind: pa.DataType) -> bool:
    checks = (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_date32,
        pa.types.is_timestamp,
        pa.types.is_decimal128,
        pa.types.is_null,
    )
    return any(check(kind) for check in checks)


def _text(value: object) -> str | None:
    if is_missing(value):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return _utf8(short(value) if isinstance(value, (float, dt.datetime)) else str(value))


def _utf8(text: str) -> str:
    return text.encode("utf-8", errors="replace").decode()
