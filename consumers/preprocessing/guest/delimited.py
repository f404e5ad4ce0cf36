"""Delimited text (CSV, TSV, semicolons, pipes) to a table, in one pass and constant memory."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from consumers.preprocessing.guest.dialect import Dialect, Layout, detect, locate
from consumers.preprocessing.guest.notes import Note, Tally, counted, note
from consumers.preprocessing.guest.records import EvenBatch, Record, RecordReader
from consumers.preprocessing.guest.tables import EXTRA, TableBuilder
from consumers.preprocessing.guest.text import TextSource
from consumers.sandbox.guest.contract import Refusal

HEAD_RECORDS = 1000
BATCH_CELLS = 200_000


def read_delimited(source: TextSource, folder: Path) -> dict[str, Any]:
    """Read the one table of a text stream into ``folder``; returns the report of the file.

    Raises:
        Refusal: ``file_empty``, ``file_type`` or ``file_unreadable``.
    """
    blocks = source.blocks()
    first = next(blocks, "")
    second = next(blocks, None)
    if not first.strip() and second is None:
        raise empty(source.name)
    dialect = detect(first, complete=second is None)
    head, first_line = _without_sep(first, dialect)
    layout, above = _lay_out(head, dialect, source.name, complete=second is None)
    names = layout.names or [""] * layout.width
    names = names + [""] * (layout.width - len(names))
    table = TableBuilder(folder, 0, names, delimiter=dialect.delimiter, name=source.name)
    reader = RecordReader(dialect, width=layout.width, name=source.name, first_line=first_line)
    rows = _Rows(table, layout, dialect.delimiter)
    for batch in reader.mixed_batches(chain([head], [second] if second else [], blocks)):
        rows.take(batch)
    rows.flush()
    if not table.rows:
        raise empty(source.name)
    table.notes[:0] = [*source.notes(), *reader.notes(), *above, *rows.notes()]
    return {"kind": _kind(dialect), "encoding": source.encoding, "notes": [], "tables": [table.finish(None)]}


def empty(name: str) -> Refusal:
    return Refusal("file_empty", f'"{name}" holds no rows of data. Check that the right file was chosen.')


def _without_sep(first: str, dialect: Dialect) -> tuple[str, int]:
    if not dialect.explicit:
        return first, 1
    return re.split(r"\r\n|\r|\n", first, maxsplit=1)[1], 2


def _lay_out(head: str, dialect: Dialect, name: str, *, complete: bool) -> tuple[Layout, list[Note]]:
    # A first look at the head alone: widths are not known yet, so no quote is taken for a swallowing one.
    looks = RecordReader(dialect, width=0, name=name).batches([head])
    rows = [row for batch in looks for _, row in batch if any(map(str.strip, row))][: HEAD_RECORDS + 1]
    if not complete and len(rows) > 2:
        rows.pop()
    if not rows:
        raise empty(name)
    layout = locate(rows)
    return layout, layout_notes(layout, [" ".join(filter(None, row)) for row in rows[: layout.start]])


def layout_notes(layout: Layout, preamble: list[str]) -> list[Note]:
    notes = []
    if preamble:
        notes.append(note(f"{counted(len(preamble), 'line')} above the table left out.", preamble))
    if layout.names is None:
        notes.append(note("No row gives names to the columns; they are called column_1, column_2, …"))
    elif not layout.sure:
        notes.append(note("The first row was taken for the names of the columns."))
    return notes


def _kind(dialect: Dialect) -> str:
    return "tsv" if dialect.delimiter == "\t" else "csv"


class _Rows:
    """Records made as wide as the table, and handed on in batches of columns."""

    def __init__(self, table: TableBuilder, layout: Layout, delimiter: str) -> None:
        self._table = table
        self._width = len(table.names)
        self._delimiter = delimiter
        self._skip = layout.start + (layout.names is not None)
        self._names = layout.names if self._width > 1 else None
        self._batch: list[list[str]] = []
        self._short, self._long = Tally(), Tally()
        self._repeated = 0

    def take(self, records: list[Record] | EvenBatch) -> None:
        if not isinstance(records, list):
            self._take_columns(records)
            return
        for line, row in self._data(records):
            self._batch.append(row if len(row) == self._width else self._fit(line, row))
        if len(self._batch) * self._width >= BATCH_CELLS:
            self.flush()

    def _take_columns(self, batch: EvenBatch) -> None:
        self.flush()
        if self._names is not None:
            repeated = pc.equal(batch.column(0), self._names[0])
            for column, name in zip(batch.columns[1:], self._names[1:], strict=False):
                if not pc.any(repeated).as_py():
                    break
                repeated = pc.and_(repeated, pc.equal(column, name))
            if count := pc.sum(repeated).as_py():
                self._repeated += count
                batch = batch.filter(pc.invert(repeated))
        columns = [column.combine_chunks() for column in batch.columns]
        self._table.add([*columns, pa.nulls(batch.num_rows, pa.string())])

    def flush(self) -> None:
        if not self._batch:
            return
        rows, self._batch = self._batch, []
        extra: list[str | None] = [None] * len(rows)
        for i, row in enumerate(rows):
            if len(row) > self._width:
                extra[i] = row.pop()
        columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
        self._table.add([*columns, pa.array(extra, pa.string())])

    def notes(self) -> list[Note]:
        notes = []
        if self._short.count:
            notes.append(note(f"{self._short}: fewer cells than columns; the missing ones are empty."))
        if self._long.count:
            notes.append(note(f"{self._long}: more cells than columns; the rest is in the column {EXTRA}."))
        if self._repeated:
            notes.append(note(f"The names of the columns stood again in {counted(self._repeated, 'row')}; left out."))
        return notes

    def _data(self, records: list[Record]) -> Iterator[Record]:
        """Without blank rows, what is above the table, and repeated headers."""
        for record in records:
            row = record[1]
            if not any(row) or not any(map(str.strip, row)):
                continue
            if self._skip:
                self._skip -= 1
            elif row == self._names:
                self._repeated += 1
            else:
                yield record

    def _fit(self, line: int, row: list[str]) -> list[str]:
        missing = self._width - len(row)
        if missing > 0:
            self._short.add(line)
            return row + [""] * missing
        rest = [cell for cell in row[self._width :] if cell.strip()]
        if rest:
            self._long.add(line)
            return [*row[: self._width], self._delimiter.join(rest)]
        return row[: self._width]
