"""What Google tells of a spreadsheet, parsed: tabs, cells and developer metadata.

Source: Google Sheets API v4, REST reference, ``spreadsheets``. Fields that are zero or false are left
out there.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from consumers.ports import JsonObject

MAX_COLUMNS = 18_278
_CELLS = "startRow,startColumn,rowData(values(userEnteredValue,effectiveValue,userEnteredFormat(numberFormat(type))))"
_PROPERTIES = "properties(sheetId,title,index,sheetType,hidden,gridProperties(rowCount,columnCount))"
_METADATA = "developerMetadata(metadataId,metadataKey,metadataValue,visibility)"
BOOK_FIELDS = f"{_METADATA},sheets({_PROPERTIES})"
BOOK_AND_CELL_FIELDS = f"{_METADATA},sheets({_PROPERTIES},data({_CELLS}))"
ENTERED_FIELDS = "sheets(data(startRow,startColumn,rowData(values(userEnteredValue,effectiveValue,note))))"


class _Theirs(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel)


class Value(_Theirs):
    """An ``ExtendedValue``: at most one of these is set."""

    number_value: float | None = None
    string_value: str | None = None
    bool_value: bool | None = None
    formula_value: str | None = None
    error_value: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """As a person would read it, more or less."""
        if self.number_value is not None:
            return f"{self.number_value:.15g}"
        if self.bool_value is not None:
            return str(self.bool_value).upper()
        return self.formula_value or self.string_value or ("#ERROR" if self.error_value else "")

    @property
    def is_data(self) -> bool:
        """False for what only looks filled: a prepared formula that shows nothing, an unticked box."""
        return (
            self.number_value is not None or self.error_value is not None or bool(self.string_value or self.bool_value)
        )


class NumberFormat(_Theirs):
    type: str = ""


class CellFormat(_Theirs):
    number_format: NumberFormat = NumberFormat()


class Cell(_Theirs):
    user_entered_value: Value | None = None
    effective_value: Value | None = None
    user_entered_format: CellFormat = CellFormat()
    note: str = ""

    @property
    def shown(self) -> Value:
        return self.effective_value or self.user_entered_value or Value()

    @property
    def is_dated(self) -> bool:
        return self.user_entered_format.number_format.type in {"DATE", "DATE_TIME"}


class Row(_Theirs):
    values: tuple[Cell, ...] = ()

    @property
    def has_data(self) -> bool:
        return any(cell.shown.is_data for cell in self.values)


class Grid(_Theirs):
    """A rectangle of cells; what is blank at its right and below is left out."""

    start_row: int = 0
    start_column: int = 0
    row_data: tuple[Row, ...] = ()


class GridProperties(_Theirs):
    row_count: int = 0
    column_count: int = 0


class TabProperties(_Theirs):
    sheet_id: int = 0
    title: str = ""
    index: int = 0
    sheet_type: str = "GRID"
    hidden: bool = False
    grid_properties: GridProperties = GridProperties()


class Tab(_Theirs):
    """One tab ("sheet" in Google's API)."""

    properties: TabProperties
    data: tuple[Grid, ...] = ()

    @property
    def id(self) -> int:
        return self.properties.sheet_id

    @property
    def title(self) -> str:
        return self.properties.title

    @property
    def rows(self) -> int:
        return self.properties.grid_properties.row_count

    @property
    def columns(self) -> int:
        return self.properties.grid_properties.column_count

    def row(self, index: int) -> Row:
        """A row of what was read; blank where nothing was."""
        for grid in self.data:
            if 0 <= index - grid.start_row < len(grid.row_data):
                return grid.row_data[index - grid.start_row]
        return Row()

    def last_data_row(self) -> int | None:
        """The index of the last row with data in what was read."""
        filled = [
            grid.start_row + offset for grid in self.data for offset, row in enumerate(grid.row_data) if row.has_data
        ]
        return max(filled, default=None)


class DimensionRange(_Theirs):
    sheet_id: int = 0
    dimension: Literal["ROWS", "COLUMNS"] = "ROWS"
    start_index: int = 0
    end_index: int = 0


class Location(_Theirs):
    dimension_range: DimensionRange | None = None
    sheet_id: int | None = None
    spreadsheet: bool = False


class Metadata(_Theirs):
    metadata_id: int = 0
    metadata_key: str = ""
    metadata_value: str = ""
    location: Location = Location()
    visibility: str = ""

    @property
    def is_our_projects(self) -> bool:
        """Made by us: what is visible to the whole document, anybody may have written."""
        return self.visibility == "PROJECT"

    @property
    def tab_id(self) -> int | None:
        """Of the tab whose row or column it is on."""
        return self.location.dimension_range.sheet_id if self.location.dimension_range else None


class Book(_Theirs):
    """A spreadsheet."""

    developer_metadata: tuple[Metadata, ...] = ()
    sheets: tuple[Tab, ...] = ()

    @property
    def cells(self) -> int:
        """What counts against the 10 million: every cell of every tab's grid, filled or not."""
        return sum(tab.rows * tab.columns for tab in self.sheets)

    @property
    def visible_tabs(self) -> list[Tab]:
        """Those that hold cells, from left to right."""
        grids = [tab for tab in self.sheets if tab.properties.sheet_type == "GRID" and not tab.properties.hidden]
        return sorted(grids, key=lambda tab: tab.properties.index)

    def among(self, whole: "Book") -> "Book":
        """This book, of which only some tabs were asked for, with the others as they were seen before."""
        others = [tab for tab in whole.sheets if self.tab(tab.id) is None]
        return self.model_copy(update={"sheets": (*others, *self.sheets)})

    def tab(self, tab_id: int) -> Tab | None:
        return next((tab for tab in self.sheets if tab.id == tab_id), None)


class _Found(_Theirs):
    developer_metadata: Metadata


class _SearchReply(_Theirs):
    matched_developer_metadata: tuple[_Found, ...] = ()


def metadata_of(reply: JsonObject) -> list[Metadata]:
    """What ``developerMetadata.search`` found."""
    return [found.developer_metadata for found in _SearchReply.model_validate(reply).matched_developer_metadata]


def book_of(reply: JsonObject) -> Book:
    """What ``spreadsheets.get`` told, parsed row by row: in a thread of its own, that lets others go on."""
    book = Book.model_validate(reply | {"sheets": []})
    return book.model_copy(update={"sheets": tuple(_tab_of(sheet) for sheet in reply.get("sheets", []))})


def _tab_of(sheet: JsonObject) -> Tab:
    grids = []
    for grid in sheet.get("data", []):
        rows = tuple(Row.model_validate(row) for row in grid.get("rowData", []))
        grids.append(Grid.model_validate(grid | {"rowData": []}).model_copy(update={"row_data": rows}))
    return Tab.model_validate(sheet | {"data": []}).model_copy(update={"data": tuple(grids)})


def cells_told(reply: JsonObject) -> int:
    """How many cells ``spreadsheets.get`` told of."""
    grids = [grid for sheet in reply.get("sheets", []) for grid in sheet.get("data", [])]
    return sum(len(row.get("values", ())) for grid in grids for row in grid.get("rowData", []))


def rows_told(reply: JsonObject) -> Iterator[tuple[int, Row]]:
    """Each row that ``spreadsheets.get`` told of one range, with its index; none is kept."""
    for sheet in reply.get("sheets", []):
        for grid in sheet.get("data", []):
            for index, row in enumerate(grid.get("rowData", []), grid.get("startRow", 0)):
                yield index, Row.model_validate(row)


def a1(title: str, first_row: int, end_row: int, columns: range | None = None) -> str:
    """Rows of a tab in A1 notation, whole or some columns of them; indices from 0, the end not included."""
    quoted = title.replace("'", "''")
    first, last = ("", "") if columns is None else (_letters(columns.start), _letters(columns.stop - 1))
    return f"'{quoted}'!{first}{first_row + 1}:{last}{end_row}"


def _letters(column: int) -> str:
    letters, left = "", column + 1
    while left:
        left, letter = divmod(left - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters
