"""CSV by RFC 4180, in UTF-8: what is missing is nothing, an empty text is ``""``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from consumers.delivery.guest.batches import Result
from consumers.delivery.guest.files import BoundedFile, Room
from consumers.delivery.guest.formulas import disarmed
from consumers.delivery.guest.lines import lines, replaced

BOM = b"\xef\xbb\xbf"
_END = "\r\n"
# What RFC 4180 asks for, an empty text, and what other readers split at or trim.
_QUOTED = r"[\",\r\n;\t|]|^$|^\s|\s$"


@dataclass(frozen=True, slots=True)
class CsvChoices:
    """``bom``: begin with a byte order mark. ``formula_safe``: an apostrophe before what a spreadsheet would run."""

    bom: bool = False
    formula_safe: bool = True


def write_csv(result: Result, path: Path, room: Room, choices: CsvChoices) -> int:
    """Write one table; returns how many cells and headings got an apostrophe."""
    writer = _Writer(result, choices)
    with BoundedFile(path, room) as file:
        if choices.bom:
            file.write(BOM)
        file.write(writer.head(result.names))
        for batch in result.batches():
            file.write(writer.rows(batch))
    return writer.changed


class _Writer:
    def __init__(self, result: Result, choices: CsvChoices) -> None:
        self._choices = choices
        self._whole_seconds = result.whole_seconds
        # A line of one cell that is missing would be an empty line, which readers skip.
        self._missing = '""' if len(result.names) == 1 else ""
        self.changed = 0

    def head(self, names: list[str]) -> memoryview:
        return self._lines([self._text(pa.array([name], pa.string())) for name in names])

    def rows(self, batch: Any) -> memoryview:
        return self._lines([self._cells(column, i in self._whole_seconds) for i, column in enumerate(batch.columns)])

    def _lines(self, cells: list[Any]) -> memoryview:
        parts = [part for cell in cells for part in (",", cell)][1:]
        return lines([*parts, _END], null=self._missing)

    def _cells(self, column: Any, whole_seconds: bool) -> Any:
        kind = column.type
        if pa.types.is_string(kind):
            return self._text(column)
        if pa.types.is_floating(kind):
            return self._floats(column)
        if whole_seconds:
            column = pc.cast(column, pa.timestamp("s"), safe=False)
        spelled = pc.cast(column, pa.string())
        # Years before the first are negative.
        return self._safe(spelled) if pa.types.is_temporal(kind) else spelled

    def _floats(self, column: Any) -> Any:
        column = pc.if_else(pc.is_nan(column), None, column)
        spelled = pc.cast(column, pa.string())
        # Of numbers, "-inf" alone is none to a spreadsheet.
        return spelled if pc.all(pc.is_finite(column)).as_py() is not False else self._safe(spelled)

    def _text(self, texts: Any) -> Any:
        texts = self._safe(texts)
        quoted = pc.match_substring_regex(texts, _QUOTED)
        if not pc.any(quoted).as_py():
            return texts
        return pc.if_else(quoted, pc.binary_join_element_wise('"', replaced(texts, ('"', '""')), '"', ""), texts)

    def _safe(self, texts: Any) -> Any:
        if not self._choices.formula_safe:
            return texts
        texts, changed = disarmed(texts)
        self.changed += changed
        return texts
