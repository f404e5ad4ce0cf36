"""A table on its way: text on scratch while its columns vote, then typed Parquet and a report."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumers.preprocessing.guest.columns import Decision, convert, decide
from consumers.preprocessing.guest.notes import NAME_CHARACTERS, Note, clean, counted, note
from consumers.preprocessing.guest.votes import Cell, ColumnFacts
from consumers.sandbox.guest.contract import Refusal

MAX_COLUMNS = 4096
MAX_SHOWN_COLUMNS = 200
SAMPLE_ROWS = 10
EXAMPLES = 5
MAX_NOTES = 200

EXTRA = "extra_cells"


class TableBuilder:
    """Takes batches of text columns, the last one for cells beyond the header; ``finish`` types and reports.

    Memory is bounded by a batch; scratch by the text, compressed.
    """

    def __init__(self, folder: Path, number: int, names: Sequence[str], *, delimiter: str | None, name: str) -> None:
        if len(names) > MAX_COLUMNS:
            raise Refusal(
                "file_unreadable",
                f'"{name}" has {len(names)} columns; at most {MAX_COLUMNS} can be read. Keep those you need.',
            )
        self._blank = [not clean(name) for name in names] + [True]
        self.names, self.notes = unique_names(names)
        # Several cells in one are text, whatever they look like together.
        extra = ColumnFacts(_free(EXTRA, set(self.names)), typed=False)
        self._facts = [*map(ColumnFacts, self.names), extra]
        self._delimiter = delimiter
        self._file = folder / f"{number}.parquet"
        self._scratch = folder / f"{number}.arrow"
        self._schema = pa.schema([(str(i), pa.string()) for i in range(len(self._facts))])
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer = pa.ipc.new_stream(str(self._scratch), self._schema, options=options)
        self.rows = 0

    def add(self, columns: Sequence[Any], cells: Sequence[set[Cell]] = ()) -> None:
        """Add rows as string arrays, column by column; ``cells`` is what a workbook says of the cells of each."""
        arrays = [_tidy(column, facts) for column, facts in zip(columns, self._facts, strict=True)]
        for facts, array in zip(self._facts, arrays, strict=True):
            facts.add(array)
        for facts, kinds in zip(self._facts, cells, strict=False):
            facts.cells |= kinds
        batch = pa.record_batch(arrays, schema=self._schema)
        self.rows += batch.num_rows
        self._writer.write_batch(batch)

    def finish(self, sheet: str | None) -> dict[str, Any]:
        """Write the Parquet file; returns the report of this table."""
        self._writer.close()
        # A trailing delimiter, or an empty margin of a sheet: no name and no value.
        kept = [i for i, facts in enumerate(self._facts) if facts.filled or not self._blank[i]]
        facts = [self._facts[i] for i in kept]
        decisions = decide(facts, delimiter=self._delimiter)
        summaries = [ColumnSummary(*pair) for pair in zip(facts, decisions, strict=True)]
        sample = self._write(kept, decisions, summaries)
        self._scratch.open("wb").close()  # emptied: nothing can be removed from there
        return {
            "file": self._file.name,
            "sheet": sheet,
            "rows": self.rows,
            "columns": [summary.report(shown=i < MAX_SHOWN_COLUMNS) for i, summary in enumerate(summaries)],
            "sample": sample,
            "notes": [*self.notes, *_trim_notes(facts), *(n for d in decisions for n in d.notes)][:MAX_NOTES],
        }

    def _write(self, kept: list[int], decisions: list[Decision], summaries: list["ColumnSummary"]) -> list[list[str]]:
        sample: list[list[str]] = []
        schema = pa.schema([(s.name, ARROW_TYPES[d.type]) for s, d in zip(summaries, decisions, strict=True)])
        with pq.ParquetWriter(str(self._file), schema, compression="zstd", compression_level=1) as writer:
            for batch in self._read_scratch():
                typed = [convert(batch.column(i), decision) for i, decision in zip(kept, decisions, strict=True)]
                for summary, values in zip(summaries, typed, strict=True):
                    summary.add(values)
                writer.write_batch(pa.record_batch(typed, schema=schema))
                if len(sample) < SAMPLE_ROWS:
                    sample += _rows(typed, SAMPLE_ROWS - len(sample))
        return sample

    def _read_scratch(self) -> Iterator[Any]:
        with pa.OSFile(str(self._scratch)) as file, pa.ipc.open_stream(file) as reader:
            yield from reader


ARROW_TYPES = {
    "text": pa.string(),
    "integer": pa.int64(),
    "decimal": pa.float64(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
    "boolean": pa.bool_(),
}


class ColumnSummary:
    """What the profile says of a typed column."""

    def __init__(self, facts: ColumnFacts, decision: Decision) -> None:
        self.name = facts.name
        self._facts = facts
        self._decision = decision
        self._examples: list[Any] = []
        self._low: Any = None
        self._high: Any = None

    def add(self, values: Any) -> None:
        if len(self._examples) < EXAMPLES and values.null_count < len(values):
            for value in pc.unique(values.drop_null()[:10_000]).to_pylist():
                if len(self._examples) < EXAMPLES and value not in self._examples:
                    self._examples.append(value)
        if self._decision.type in ("text", "boolean"):
            return
        bounds = pc.min_max(values).as_py()
        if bounds["min"] is not None:
            self._low = bounds["min"] if self._low is None else min(self._low, bounds["min"])
            self._high = bounds["max"] if self._high is None else max(self._high, bounds["max"])

    def report(self, *, shown: bool) -> dict[str, Any]:
        facts = self._facts
        return {
            "name": self.name,
            "type": self._decision.type,
            "unit": self._decision.unit,
            "empty": facts.rows - facts.filled,
            "distinct": None if facts.distinct is None else len(facts.distinct),
            "min": None if self._low is None else _show(self._low),
            "max": None if self._high is None else _show(self._high),
            "examples": [_show(value) for value in self._examples] if shown else [],
        }


def unique_names(names: Sequence[str]) -> tuple[list[str], list[Note]]:
    """Column names that are printable, filled and different; what was renamed is told."""
    taken: set[str] = set()
    unique, blank, repeated = [], 0, []
    wanted = {clean(name, NAME_CHARACTERS) for name in names}
    for position, name in enumerate(names, start=1):
        shown = clean(name, NAME_CHARACTERS)
        if not shown:
            blank += 1
            shown = _free(f"column_{position}", taken | wanted)
        elif shown in taken:
            repeated.append(shown)
            shown = _free(shown, taken | wanted)
        taken.add(shown)
        unique.append(shown)
    notes = []
    if repeated:
        notes.append(note(f"Repeated column names were numbered: {', '.join(dict.fromkeys(repeated))}."))
    if 0 < blank < len(names):
        notes.append(note(f"{counted(blank, 'column')} without a name: called column_N after the position."))
    return unique, notes


def _free(name: str, taken: set[str]) -> str:
    number = 2
    free = name
    while free in taken:
        free = f"{name}_{number}"
        number += 1
    return free


def _tidy(texts: Any, facts: ColumnFacts) -> Any:
    """Without the spaces around, and null where nothing is left: only empty is missing."""
    trimmed = pc.utf8_trim_whitespace(texts)
    if pc.sum(pc.binary_length(texts)).as_py() != pc.sum(pc.binary_length(trimmed)).as_py():
        both = pc.and_(pc.not_equal(texts, trimmed), pc.not_equal(trimmed, ""))
        facts.trimmed += pc.sum(both).as_py() or 0
    empty = pc.equal(trimmed, "")
    return pc.if_else(empty, pa.scalar(None, pa.string()), trimmed) if pc.any(empty).as_py() else trimmed


def _trim_notes(columns: Sequence[ColumnFacts]) -> list[Note]:
    trimmed = [facts for facts in columns if facts.trimmed]
    if not trimmed:
        return []
    total = sum(facts.trimmed for facts in trimmed)
    names = ", ".join(facts.name for facts in trimmed[:5]) + (", …" if len(trimmed) > 5 else "")
    return [note(f"Spaces around {counted(total, 'value')} removed ({names}).")]


def _rows(columns: Sequence[Any], count: int) -> list[list[str]]:
    shown = [column[:count].to_pylist() for column in columns[:MAX_SHOWN_COLUMNS]]
    return [[_show(value) for value in row] for row in zip(*shown, strict=True)]


def _show(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return clean(str(value))
