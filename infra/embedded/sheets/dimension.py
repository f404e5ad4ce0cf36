"""How rows or columns move: where an index and a span are after an insertion, a deletion or a move."""

from dataclasses import dataclass, replace
from typing import Protocol

from infra.embedded.sheets.ranges import Area

ROWS = "ROWS"
COLUMNS = "COLUMNS"


class Shift(Protocol):
    def index(self, index: int) -> int | None:
        """Where a row or column is now, None if it is gone."""

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where a span of rows or columns is now; empty if all of it is gone."""


@dataclass(frozen=True, slots=True)
class Insertion:
    start: int
    count: int

    def index(self, index: int) -> int:
        return index + self.count if index >= self.start else index

    def span(self, start: int, end: int) -> tuple[int, int]:
        return self.index(start), end + self.count if end > self.start else end


@dataclass(frozen=True, slots=True)
class Deletion:
    start: int
    end: int

    def index(self, index: int) -> int | None:
        return None if self.start <= index < self.end else self._before(index)

    def span(self, start: int, end: int) -> tuple[int, int]:
        return self._before(start), self._before(end)

    def _before(self, index: int) -> int:
        return index - max(0, min(index, self.end) - self.start)


@dataclass(frozen=True, slots=True)
class Move:
    """``to`` is counted before anything is taken out, as moveDimension does."""

    start: int
    end: int
    to: int

    def index(self, index: int) -> int:
        count = self.end - self.start
        if self.start <= index < self.end:
            return index - self.start + (self.to if self.to <= self.start else self.to - count)
        if self.end <= index < self.to:
            return index - count
        if self.to <= index < self.start:
            return index + count
        return index

    def span(self, start: int, end: int) -> tuple[int, int]:
        return start, end


def shifted(area: Area, dimension: str, shift: Shift) -> Area | None:
    """Where an area is now, None if all of it is gone."""
    rows = dimension == ROWS
    start, end = (area.start_row, area.end_row) if rows else (area.start_column, area.end_column)
    if end is None:
        if start == 0:
            return area
        start = shift.span(start, start + 1)[0]
    else:
        start, end = shift.span(start, end)
        if start >= end:
            return None
    return replace(area, start_row=start, end_row=end) if rows else replace(area, start_column=start, end_column=end)
