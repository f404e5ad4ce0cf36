"""The model's code, run: tables in, and a result table or a chart out."""

import ast
import json
import linecache
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from consumers.sandbox.guest import result_table
from consumers.sandbox.guest.contract import Folders, Refusal
from consumers.sandbox.guest.words import CODE_NAME, Words, bounded, full

# Read back batch by batch: what is in one row group is read at once, in part at least.
ROW_GROUP_ROWS = 100_000
CHART_NAME = "chart.vl.json"
MAX_ANSWER_CHARS = 4_000
MAX_TABLES = 20
MAX_CHART_ROWS = 20_000
"""Altair itself stops at 5,000; vl-convert draws four times that without trouble."""

Namespace = dict[str, Any]


class CodeError(Exception):
    """What the model must mend, in words that it can use."""


def run_query(arguments: dict[str, Any], folders: Folders) -> dict[str, Any]:
    """Run ``arguments["code"]`` over ``arguments["tables"]`` and write what it assigned to ``result``.

    A table is ``{"name": display name, "file": name beneath the inputs}``. With ``arguments["show_values"]``
    false, no error's text quotes a cell; it is true if it is left out. Returns ``kind`` (table or
    scalar), ``answer``, ``notes``, ``tables`` (``name``, ``file``, ``rows`` and ``columns`` of each), and the
    ``rows``, ``columns`` and ``preview`` of the first table. The rows are in ``result.parquet``, those of several
    tables in ``result-1.parquet`` and so on.

    Raises:
        CodeError: the code raised, or assigned something else.
        Refusal: ``result_empty``.
    """
    tables = _tables(arguments["tables"], folders)
    words = _words(arguments, tables)
    namespace = _execute(arguments["code"], tables, {}, words)
    result = _assigned(namespace, "result")
    kind, frames = _as_frames(result, words)
    written = [_write(name, frame, file, folders) for (name, frame), file in zip(frames, _files(frames), strict=True)]
    first = written[0]
    answer = _answer(namespace, arguments["code"])
    if answer is None and kind == "scalar":
        answer = result_table.short(result)
    return {
        "kind": kind,
        "rows": first.table["rows"],
        "columns": first.table["columns"],
        "answer": answer,
        "preview": first.preview,
        "notes": [note for one in written for note in one.notes][: result_table.MAX_NOTES],
        "tables": [one.table for one in written],
    }


@dataclass(frozen=True, slots=True)
class _Written:
    table: dict[str, Any]
    preview: dict[str, list[Any]]
    notes: list[str]


def _write(name: str, frame: pd.DataFrame, file: str, folders: Folders) -> _Written:
    table, notes = result_table.to_arrow(frame)
    pq.write_table(table, folders.output / file, row_group_size=ROW_GROUP_ROWS)
    facts = {"name": name, "file": file, "rows": table.num_rows, "columns": table.num_columns}
    return _Written(facts, result_table.preview(table), notes)


def _files(frames: Sequence[object]) -> list[str]:
    if len(frames) == 1:
        return ["result.parquet"]
    return [f"result-{number}.parquet" for number in range(1, 1 + len(frames))]


def run_chart(arguments: dict[str, Any], folders: Folders) -> dict[str, Any]:
    """Run ``arguments["code"]`` as ``run_query`` does and write what it assigned to ``chart`` as Vega-Lite.

    Returns ``kind`` (chart), ``rows`` and ``columns`` of the largest data set drawn, ``answer``, an empty
    ``preview`` and ``notes``; the chart, its data within, is in ``chart.vl.json``.
    """
    import altair as alt  # noqa: PLC0415 - half a second that a query need not pay

    tables = _tables(arguments["tables"], folders)
    words = _words(arguments, tables)
    namespace = _execute(arguments["code"], tables, {"alt": alt}, words)
    chart = _assigned(namespace, "chart")
    if not isinstance(chart, alt.TopLevelMixin):
        raise CodeError(f"Assign an Altair chart to `chart`; you assigned {_kind(chart, words)}.")
    alt.data_transformers.disable_max_rows()
    try:
        specification = chart.to_dict()
        text = json.dumps(specification, ensure_ascii=False, allow_nan=False)
    except Exception as error:  # noqa: BLE001 - Altair validates late, and its words are for the model
        raise CodeError(bounded(f"The chart is not valid: {words.sentence(error)}")) from None
    rows, columns = _chart_size(specification)
    (folders.output / CHART_NAME).write_text(text, encoding="utf-8", errors="replace")
    return {
        "kind": "chart",
        "rows": rows,
        "columns": columns,
        "answer": _answer(namespace, arguments["code"]),
        "preview": {"columns": [], "rows": []},
        "notes": [],
    }


def _words(arguments: dict[str, Any], tables: dict[str, pd.DataFrame]) -> Words:
    return Words(arguments["code"], tables, show_values=arguments.get("show_values", True))


def _tables(entries: list[dict[str, str]], folders: Folders) -> dict[str, pd.DataFrame]:
    return {entry["name"]: _load(folders.inputs / entry["file"]) for entry in entries}


def _load(path: Path) -> pd.DataFrame:
    """Text as str, dates as datetime64, integers and booleans with gaps as Int64 and boolean."""
    table = pq.read_table(path)
    gaps = {name: kind for name in table.column_names if (kind := _kind_with_gaps(table[name])) is not None}
    frame: pd.DataFrame = table.to_pandas(date_as_object=False, ignore_metadata=True)
    for name, kind in gaps.items():
        frame[name] = table[name].to_pandas(types_mapper={table[name].type: kind}.get)
    return frame


def _kind_with_gaps(column: pa.ChunkedArray) -> pd.api.extensions.ExtensionDtype | None:
    if not column.null_count:
        return None
    if pa.types.is_integer(column.type):
        return pd.Int64Dtype()
    return pd.BooleanDtype() if pa.types.is_boolean(column.type) else None


def _execute(code: str, tables: dict[str, pd.DataFrame], extra: Namespace, words: Words) -> Namespace:
    random.seed(0)
    np.random.seed(0)
    namespace: Namespace = {"__name__": "__main__", "pd": pd, "np": np, "tables": tables, **extra}
    if len(tables) == 1:
        namespace["df"] = next(iter(tables.values()))
    # The traceback shows lines of source only for what linecache knows.
    linecache.cache[CODE_NAME] = (len(code), None, code.splitlines(keepends=True), CODE_NAME)
    try:
        compiled = compile(code, CODE_NAME, "exec", dont_inherit=True)
    except Exception as error:  # noqa: BLE001 - nothing has run: it can only speak of the code
        raise CodeError(full(error)) from None
    try:
        exec(compiled, namespace)  # noqa: S102 - what the walls around this are for
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit too: whatever ends the code is told to the model
        raise CodeError(words.raised(error)) from None
    return namespace


def _assigned(namespace: Namespace, name: str) -> Any:
    if name not in namespace:
        wanted = "a DataFrame, Series or scalar" if name == "result" else "an Altair chart"
        raise CodeError(f"The code ran, but it did not assign `{name}`. Assign {wanted} to `{name}`.")
    return namespace[name]


def _as_frames(result: Any, words: Words) -> tuple[str, list[tuple[str, pd.DataFrame]]]:
    """Whether it is a table or a scalar, and its tables with their names; several are a dict or a list."""
    if isinstance(result, (dict, list, tuple)) and any(map(result_table.is_frame, _entries(result).values())):
        return "table", _several(_entries(result), words)
    if result_table.is_frame(result):
        kind, frame = "table", result_table.frame_of(result)
    elif result is not None and result_table.is_scalar(result):
        kind, frame = "scalar", result_table.scalar_frame(result)
    else:
        raise CodeError(f"Assign a DataFrame, Series or scalar to `result`; you assigned {_kind(result, words)}.")
    if frame.empty or (kind == "scalar" and result_table.is_missing(result)):
        raise _nothing_found()
    return kind, [("Result", frame)]


def _entries(result: dict[Any, Any] | list[Any] | tuple[Any, ...]) -> dict[Any, Any]:
    return result if isinstance(result, dict) else {f"Table {place}": of for place, of in enumerate(result, start=1)}


def _several(entries: dict[Any, Any], words: Words) -> list[tuple[str, pd.DataFrame]]:
    """Several tables by name; one without rows stays where another has some, one without columns goes."""
    if len(entries) > MAX_TABLES:
        raise CodeError(
            f"`result` holds {len(entries):,} tables; at most {MAX_TABLES} are allowed. Put them into one DataFrame, "
            "with a column that tells them apart."
        )
    others = [value for value in entries.values() if not result_table.is_frame(value)]
    if others:
        raise CodeError(
            "Every table in `result` must be a DataFrame or a Series; "
            f"{len(others)} of {len(entries)} are none, the first of them {_kind(others[0], words)}."
        )
    named = zip(result_table.table_names(entries), map(result_table.frame_of, entries.values()), strict=True)
    frames = [(name, frame) for name, frame in named if len(frame.columns)]
    if all(frame.empty for _, frame in frames):
        raise _nothing_found()
    return frames


def _nothing_found() -> Refusal:
    return Refusal("result_empty", "No row of the files matches the request. Check the names and values in it.")


def _kind(value: object, words: Words) -> str:
    return "None" if value is None else f"a {words.kind(value)}"


def _answer(namespace: Namespace, code: str) -> str | None:
    answer = namespace.get("answer")
    if not result_table.is_scalar(answer) or result_table.is_missing(answer) or _is_made_up(answer, code):
        return None
    text = answer if isinstance(answer, str) else result_table.short(answer)
    return text.strip()[:MAX_ANSWER_CHARS] or None


def _is_made_up(answer: object, code: str) -> bool:
    """Whether the code says ``answer = "a fixed text"``: written before the data was seen, it tells nothing of it."""
    return any(
        isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Constant)
        and statement.value.value == answer
        and any(isinstance(target, ast.Name) and target.id == "answer" for target in statement.targets)
        for statement in ast.parse(code).body
    )


def _chart_size(specification: dict[str, Any]) -> tuple[int, int]:
    if _names_url(specification):
        raise CodeError("The chart reads its data from a URL. Draw it from a DataFrame instead.")
    sets = specification.get("datasets", {}).values()
    rows = max((len(rows) for rows in sets), default=0)
    if rows > MAX_CHART_ROWS:
        raise CodeError(
            f"The chart draws {rows:,} rows; at most {MAX_CHART_ROWS:,} are allowed. Aggregate the data first."
        )
    if rows == 0:
        raise Refusal("result_empty", "The chart has no data: no row of the files matches the request.")
    return rows, max(len(row) for rows in sets for row in rows[:1])


def _names_url(node: Any) -> bool:
    """Whether data anywhere in the specification comes from elsewhere."""
    if isinstance(node, list):
        return any(map(_names_url, node))
    if not isinstance(node, dict):
        return False
    data = node.get("data")
    if isinstance(data, dict) and "url" in data:
        return True
    return any(_names_url(value) for key, value in node.items() if key != "datasets")
