"""A1 notation: ``'My Tab'!A1:C20`` and the half-open area of cells that it names."""

import re
from dataclasses import dataclass

from infra.embedded.sheets.errors import Json, invalid

_END = r"\$?([A-Za-z]{1,3})?\$?([1-9][0-9]{0,7})?"
_CELLS = re.compile(rf"{_END}(?:(:){_END})?", re.ASCII)
_QUOTED = re.compile(r"'((?:[^']|'')+)'(?:!(.+))?", re.DOTALL)
_PLAIN_TITLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LIKE_A_CELL = re.compile(r"[A-Za-z]{1,3}[0-9]+|[Rr][0-9]*[Cc][0-9]*")


@dataclass(frozen=True, slots=True)
class Area:
    """Rows and columns from 0, ends excluded; an end that is None is the grid's own."""

    start_row: int = 0
    end_row: int | None = None
    start_column: int = 0
    end_column: int | None = None

    @property
    def is_whole(self) -> bool:
        return self == WHOLE

    def within(self, row_count: int, column_count: int) -> "Bounds":
        """Clipped to a grid."""
        return Bounds(
            min(self.start_row, row_count),
            row_count if self.end_row is None else min(self.end_row, row_count),
            min(self.start_column, column_count),
            column_count if self.end_column is None else min(self.end_column, column_count),
        )

    def meets(self, other: "Area") -> bool:
        return _meets(self.start_row, self.end_row, other.start_row, other.end_row) and _meets(
            self.start_column, self.end_column, other.start_column, other.end_column
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """An area whose ends are all known."""

    start_row: int
    end_row: int
    start_column: int
    end_column: int

    @property
    def height(self) -> int:
        return max(0, self.end_row - self.start_row)

    @property
    def width(self) -> int:
        return max(0, self.end_column - self.start_column)

    @property
    def area(self) -> Area:
        return Area(self.start_row, self.end_row, self.start_column, self.end_column)


WHOLE = Area()


def _meets(start: int, end: int | None, other_start: int, other_end: int | None) -> bool:
    return (other_end is None or start < other_end) and (end is None or other_start < end)


def grid_area(grid_range: Json) -> Area:
    """The area of a GridRange. Google leaves out indexes that are 0."""
    area = Area(
        grid_range.get("startRowIndex", 0),
        grid_range.get("endRowIndex"),
        grid_range.get("startColumnIndex", 0),
        grid_range.get("endColumnIndex"),
    )
    for start, end, what in (
        (area.start_row, area.end_row, "Row"),
        (area.start_column, area.end_column, "Column"),
    ):
        if start < 0 or (end is not None and end < start):
            raise invalid(f"range.start{what}Index[{start}] must not be after range.end{what}Index[{end}].")
    return area


def grid_range(sheet_id: int, area: Area) -> Json:
    indexes = {
        "sheetId": sheet_id or None,
        "startRowIndex": area.start_row or None,
        "endRowIndex": area.end_row,
        "startColumnIndex": area.start_column or None,
        "endColumnIndex": area.end_column,
    }
    return {name: index for name, index in indexes.items() if index is not None}


def split(text: str) -> tuple[str | None, str | None]:
    """The tab's title and the cells of a reference; of one word without ``!``, which of both is open."""
    quoted = _QUOTED.fullmatch(text)
    if quoted is not None:
        return quoted[1].replace("''", "'"), quoted[2]
    title, mark, cells = text.rpartition("!")
    return (title, cells) if mark else (None, text)


def cells_area(cells: str) -> Area | None:
    """The area of ``A1``, ``A1:C20``, ``A:C``, ``1:20`` or ``A5:C``; None for anything else."""
    found = _CELLS.fullmatch(cells)
    if found is None:
        return None
    first_column, first_row, colon, last_column, last_row = found.groups()
    if colon is None:
        last_column, last_row = first_column, first_row
        if first_column is None or first_row is None:
            return None
    if (first_column is None and first_row is None) or (last_column is None and last_row is None):
        return None
    # ``A5:C`` and ``A1:1`` are open at their end; nothing is open at its start only.
    if (first_column is None and last_column is not None) or (first_row is None and last_row is not None):
        return None
    rows = sorted(int(row) for row in (first_row, last_row) if row is not None)
    columns = sorted(column_index(column) for column in (first_column, last_column) if column is not None)
    return Area(
        rows[0] - 1 if rows else 0,
        rows[1] if len(rows) == 2 else None,
        columns[0] if columns else 0,
        columns[1] + 1 if len(columns) == 2 else None,
    )


def column_index(letters: str) -> int:
    index = 0
    for letter in letters.upper():
        index = index * 26 + ord(letter) - ord("A") + 1
    return index - 1


def column_letters(index: int) -> str:
    letters = ""
    number = index + 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def quoted_title(title: str) -> str:
    if _PLAIN_TITLE.fullmatch(title) and not _LIKE_A_CELL.fullmatch(title):
        return title
    return "'" + title.replace("'", "''") + "'"


def a1(title: str, bounds: Bounds) -> str:
    """The reference as Google writes it: ``Sheet1!A1:C20``, and one cell as ``Sheet1!A1``."""
    first = f"{column_letters(bounds.start_column)}{bounds.start_row + 1}"
    last = (
        f"{column_letters(max(bounds.start_column, bounds.end_column - 1))}{max(bounds.start_row + 1, bounds.end_row)}"
    )
    return f"{quoted_title(title)}!{first}" + ("" if first == last else f":{last}")
