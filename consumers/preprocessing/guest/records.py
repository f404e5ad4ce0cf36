"""Lines to records: the csv module, and what to do about a quote that never closes."""

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from consumers.preprocessing.guest.dialect import Dialect
from consumers.preprocessing.guest.even import even_columns
from consumers.preprocessing.guest.notes import Note, Tally, note
from consumers.sandbox.guest.contract import Refusal

MAX_RECORD_CHARACTERS = 1024 * 1024
MAX_REPAIRS = 200

Record = tuple[int, list[str]]
"""The number of the line where it begins, and its cells."""

EvenBatch = Any
"""An Arrow record batch of strings."""

# The text has no NULs left, so a record of this alone shows that no quote was open before it.
_END = "\0"

csv.field_size_limit(64 * 1024 * 1024)


class RecordReader:
    """Cells of delimited text, batch by batch, in constant memory.

    A quote that is still open after ``MAX_RECORD_CHARACTERS`` or at the end of the file, or that swallowed
    whole records, is read as an ordinary character of its line.
    """

    def __init__(self, dialect: Dialect, *, width: int, name: str, first_line: int = 1) -> None:
        self._options = {"delimiter": dialect.delimiter, "skipinitialspace": dialect.skip_spaces}
        self._delimiter = dialect.delimiter
        self._width = width
        self._name = name
        self._line = first_line
        self._repaired = Tally()

    def batches(self, blocks: Iterable[str]) -> Iterator[list[Record]]:
        """The records of each block, without blank lines."""
        for batch in self.mixed_batches(blocks, even=False):
            assert isinstance(batch, list)
            yield batch

    def mixed_batches(self, blocks: Iterable[str], *, even: bool = True) -> Iterator[list[Record] | EvenBatch]:
        """As ``batches``, but blocks in order (all but the first) come as columns of ``width``."""
        rest: list[str] = []
        first = True
        for block in blocks:
            columns = None if first or rest or not even else self._even(block)
            first = False
            if columns is not None:
                self._line += columns.num_rows
                yield columns
                continue
            lines = rest + _lines(block)
            records, rest = self._parse(lines, final=False)
            self._line += len(lines) - len(rest)
            yield records
        if rest:
            yield self._parse(rest, final=True)[0]

    def _even(self, block: str) -> EvenBatch | None:
        return even_columns(block, width=self._width, delimiter=self._delimiter)

    def notes(self) -> list[Note]:
        if not self._repaired.count:
            return []
        return [note(f"{self._repaired}: a quote that never closes was read as an ordinary character.")]

    def _parse(self, lines: list[str], *, final: bool) -> tuple[list[Record], list[str]]:
        records: list[Record] = []
        begin = 0
        while begin < len(lines):
            stop = self._parse_from(begin, lines, records)
            if stop == len(lines):
                break
            rest = lines[stop:]
            swallowed = stop in self._swallowing
            if not swallowed and not final and sum(map(len, rest)) <= MAX_RECORD_CHARACTERS:
                return records, rest
            self._repaired.add(self._line + stop)
            if self._repaired.count > MAX_REPAIRS:
                raise Refusal(
                    "file_unreadable",
                    f'The quotes in "{self._name}" do not match in many lines (line {self._line + stop} is one). '
                    "Save the file again as CSV from your spreadsheet program.",
                )
            records.append((self._line + stop, self._literal(lines[stop])))
            begin = stop + 1
        return records, []

    _swallowing: frozenset[int] = frozenset()

    def _parse_from(self, begin: int, lines: list[str], records: list[Record]) -> int:
        """Append records from line ``begin`` on; returns the line at which a quote stays open, or the end."""
        self._swallowing = frozenset()
        tail = lines[begin:] if begin else lines
        reader = csv.reader(chain(tail, (_END,)), **self._options)  # type: ignore[arg-type]
        done, base, end = 0, self._line + begin, len(tail)
        try:
            for row in reader:
                after = reader.line_num
                if after > end:
                    break
                if after - done > 1 and self._swallows(tail[done:after], row):
                    self._swallowing = frozenset((begin + done,))
                    return begin + done
                if row:
                    records.append((base + done, row))
                done = after
        except csv.Error as error:
            raise Refusal(
                "file_unreadable",
                f'"{self._name}" cannot be read near line {base + done} ({error}). Save it again as CSV.',
            ) from error
        return begin + done

    def _swallows(self, lines: list[str], row: list[str]) -> bool:
        """Whether a record over several lines is really one record whose quote was never closed, and more."""
        if not len(self._literal(lines[0])) == self._width > 1:
            return False
        return len(row) != self._width or not self._is_strict(lines)

    def _is_strict(self, lines: list[str]) -> bool:
        """Whether every closing quote is followed by a delimiter or the end of its line."""
        try:
            list(csv.reader(lines, strict=True, **self._options))  # type: ignore[arg-type]
        except csv.Error:
            return False
        return True

    def _literal(self, line: str) -> list[str]:
        rows = list(csv.reader([line], quoting=csv.QUOTE_NONE, **self._options))  # type: ignore[arg-type]
        return rows[0] if rows else []


def _lines(block: str) -> list[str]:
    return io.StringIO(block, newline="").readlines()
