"""One tab: its cells, the properties of its rows and columns, and what is protected.

Rows are tuples and cells are never changed, so a copy of a tab costs one list of pointers.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from infra.embedded.sheets.cell import Cell, Scalar, from_scalar, scalar
from infra.embedded.sheets.dimension import ROWS, Deletion, Insertion, Move, Shift, shifted
from infra.embedded.sheets.errors import Json
from infra.embedded.sheets.ranges import WHOLE, Area, grid_range

Row = tuple[Cell | None, ...]

PIXELS = {"ROWS": 21, "COLUMNS": 100}
"""The size of a row or column that nobody has changed, as Google Sheets shows it."""


@dataclass(frozen=True, slots=True)
class Protection:
    """Who alone may write into an area; the spreadsheet's owner always may."""

    id: int
    area: Area
    editors: frozenset[str]
    description: str = ""
    warning_only: bool = False

    def to_json(self, sheet_id: int, *, may_edit: bool) -> Json:
        told: Json = {"protectedRangeId": self.id, "range": grid_range(sheet_id, self.area)}
        if self.description:
            told["description"] = self.description
        if self.warning_only:
            told["warningOnly"] = True
        if may_edit:
            told["requestingUserCanEdit"] = True
            told["editors"] = {"users": sorted(self.editors)}
        return told


class Tab:
    """A sheet of a spreadsheet; ``properties`` is its SheetProperties without ``index``, which the book knows."""

    def __init__(self, sheet_id: int, title: str, *, row_count: int = 1000, column_count: int = 26) -> None:
        self.id = sheet_id
        self.properties: Json = {
            "sheetId": sheet_id,
            "title": title,
            "sheetType": "GRID",
            "gridProperties": {"rowCount": row_count, "columnCount": column_count},
        }
        self.rows: list[Row] = []
        self.sizes: dict[str, dict[int, Json]] = {"ROWS": {}, "COLUMNS": {}}
        """By dimension and index: the DimensionProperties that somebody has set."""
        self.protections: dict[int, Protection] = {}

    # ------------------------------------------------------------ properties

    @property
    def title(self) -> str:
        return str(self.properties["title"])

    @property
    def hidden(self) -> bool:
        return bool(self.properties.get("hidden", False))

    @property
    def frozen_rows(self) -> int:
        return int(self.properties["gridProperties"].get("frozenRowCount", 0))

    @property
    def row_count(self) -> int:
        return int(self.properties["gridProperties"]["rowCount"])

    @property
    def column_count(self) -> int:
        return int(self.properties["gridProperties"]["columnCount"])

    def count(self, dimension: str) -> int:
        return self.row_count if dimension == ROWS else self.column_count

    def set_count(self, dimension: str, count: int) -> None:
        name = "rowCount" if dimension == ROWS else "columnCount"
        grid = {**self.properties["gridProperties"], name: count}
        self.properties = {**self.properties, "gridProperties": grid}

    # ------------------------------------------------------------ cells

    def row(self, index: int) -> Row:
        return self.rows[index] if index < len(self.rows) else ()

    def cell(self, row: int, column: int) -> Cell | None:
        cells = self.row(row)
        return cells[column] if column < len(cells) else None

    def put(self, row: int, start_column: int, cells: Sequence[Cell | None]) -> None:
        """Replace neighbouring cells of one row, within the grid."""
        old = self.row(row)
        before = old[:start_column]
        before += (None,) * (start_column - len(before))
        new = [*before, *cells, *old[start_column + len(cells) :]]
        while new and new[-1] is None:
            new.pop()
        self._reach(row)
        self.rows[row] = tuple(new)

    def _reach(self, row: int) -> None:
        self.rows.extend([()] * (row + 1 - len(self.rows)))

    def data_end(self) -> int:
        """The row after the last one that holds a value; a format alone is no data."""
        for index in range(len(self.rows) - 1, -1, -1):
            if any(cell is not None and cell.value is not None for cell in self.rows[index]):
                return index + 1
        return 0

    def filled(self) -> Iterator[tuple[int, int, Cell]]:
        for row, cells in enumerate(self.rows):
            for column, cell in enumerate(cells):
                if cell is not None:
                    yield row, column, cell

    # ------------------------------------------------------------ for tests

    def write(self, rows: Sequence[Sequence[Scalar]], *, start_row: int = 0, start_column: int = 0) -> None:
        """Set values as they are, a text as text; the grid grows where it must. Formats and notes stay."""
        self.set_count("ROWS", max(self.row_count, start_row + len(rows)))
        widest = max((len(row) for row in rows), default=0)
        self.set_count("COLUMNS", max(self.column_count, start_column + widest))
        for index, row in enumerate(rows, start=start_row):
            old = (self.cell(index, column) or Cell() for column in range(start_column, start_column + len(row)))
            new = [cell._replace(value=from_scalar(value)).or_none() for cell, value in zip(old, row, strict=True)]
            self.put(index, start_column, new)

    def protect(self, editors: Sequence[str], area: Area = WHOLE) -> None:
        """Let only these accounts, and the owner, write into an area; the whole tab unless given."""
        protection_id = 1 + max(self.protections, default=0)
        self.protections[protection_id] = Protection(protection_id, area, frozenset(map(str.lower, editors)))

    def values(self) -> list[list[Scalar]]:
        """What the cells show, without trailing empty cells and rows; a formula shows as ``"#N/A"``."""
        found = [_trimmed([scalar(cell.value) if cell else None for cell in row]) for row in self.rows]
        while found and not found[-1]:
            found.pop()
        return found

    def cells(self) -> dict[tuple[int, int], Json]:
        """The userEnteredValue of every cell that has one, by row and column."""
        return {(row, column): cell.value for row, column, cell in self.filled() if cell.value is not None}

    def formats(self) -> dict[tuple[int, int], Json]:
        """The userEnteredFormat of every cell that has one, by row and column."""
        return {(row, column): cell.format for row, column, cell in self.filled() if cell.format}

    # ------------------------------------------------------------ rows and columns

    def insert(self, dimension: str, start: int, count: int, *, like: int | None) -> Shift:
        """Put empty rows or columns into room that is there; format and size are those of ``like``, an index before."""
        shift = Insertion(start, count)
        sample = self.sizes[dimension].get(like) if like is not None else None
        if dimension == ROWS:
            blank = _format_only(self.row(like)) if like is not None else ()
            if blank:
                self._reach(start - 1)
            if start < len(self.rows) or blank:
                self.rows[start:start] = [blank] * count
        else:
            self.rows = [_with_columns(row, start, count, like) for row in self.rows]
        self._shift(dimension, shift)
        if sample is not None:
            self.sizes[dimension].update((index, sample) for index in range(start, start + count))
        return shift

    def delete(self, dimension: str, start: int, end: int) -> Shift:
        shift = Deletion(start, end)
        if dimension == ROWS:
            del self.rows[start:end]
        else:
            self.rows = [row[:start] + row[end:] for row in self.rows]
        self.set_count(dimension, self.count(dimension) - (end - start))
        self._shift(dimension, shift)
        return shift

    def move(self, dimension: str, start: int, end: int, to: int) -> Shift:
        shift = Move(start, end, to)
        if dimension == ROWS:
            self._reach(max(end, to) - 1)
            self.rows = _permuted(self.rows, shift)
        else:
            self.rows = [tuple(_permuted([*row, *[None] * (max(end, to) - len(row))], shift)) for row in self.rows]
        self._shift(dimension, shift)
        return shift

    def _shift(self, dimension: str, shift: Shift) -> None:
        moved = ((shift.index(index), sizes) for index, sizes in self.sizes[dimension].items())
        self.sizes[dimension] = {index: sizes for index, sizes in moved if index is not None}
        for protection in list(self.protections.values()):
            area = shifted(protection.area, dimension, shift)
            if area is None:
                del self.protections[protection.id]
            else:
                changed = Protection(
                    protection.id, area, protection.editors, protection.description, protection.warning_only
                )
                self.protections[protection.id] = changed

    # ------------------------------------------------------------ copies

    def copy(self) -> "Tab":
        other = Tab(self.id, self.title)
        other.restore(self)
        return other

    def restore(self, other: "Tab") -> None:
        self.properties = deepcopy(other.properties)
        self.rows = list(other.rows)
        self.sizes = {dimension: dict(sizes) for dimension, sizes in other.sizes.items()}
        self.protections = dict(other.protections)


def _trimmed(row: list[Scalar]) -> list[Scalar]:
    while row and row[-1] is None:
        row.pop()
    return row


def _format_only(row: Row) -> Row:
    return tuple(Cell(format=cell.format).or_none() if cell else None for cell in row)


def _with_columns(row: Row, start: int, count: int, like: int | None) -> Row:
    sample = row[like] if like is not None and like < len(row) else None
    blank = Cell(format=sample.format).or_none() if sample else None
    if start > len(row) and blank is None:
        return row
    before = row[:start]
    return (*before, *[None] * (start - len(before)), *[blank] * count, *row[start:])


def _permuted(items: Sequence[Any], shift: Move) -> list[Any]:
    new: list[Any] = [None] * len(items)
    where: Callable[[int], int] = shift.index
    for index, item in enumerate(items):
        new[where(index)] = item
    return new
