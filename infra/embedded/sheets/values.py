"""The methods below ``values``: plain values by reference in A1 notation, read and written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.embedded.sheets.book import beyond
from infra.embedded.sheets.cell import Cell, from_scalar, is_number, scalar, typed_in
from infra.embedded.sheets.edit import Edit
from infra.embedded.sheets.errors import Json, invalid
from infra.embedded.sheets.grid import Tab
from infra.embedded.sheets.number_format import formatted, is_moment
from infra.embedded.sheets.ranges import Bounds, a1, column_letters
from infra.embedded.sheets.tables import table_at_end

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rendering:
    """How values are told: a ValueRenderOption and a DateTimeRenderOption."""

    values: str = "FORMATTED_VALUE"
    moments: str = "SERIAL_NUMBER"

    def of(self, cell: Cell | None) -> Any:
        if cell is None or cell.value is None:
            return ""
        if self.values == "FORMULA" and "formulaValue" in cell.value:
            return cell.value["formulaValue"]
        as_text = self.moments == "FORMATTED_STRING" and is_moment(cell.format)
        if self.values == "FORMATTED_VALUE" or (as_text and is_number(scalar(cell.value))):
            return formatted(cell.value, cell.format)
        return scalar(cell.value)


def rendering(options: Options) -> Rendering:
    """From the parameters of a read."""
    return Rendering(
        options.get("valueRenderOption", "FORMATTED_VALUE"), options.get("dateTimeRenderOption", "SERIAL_NUMBER")
    )


def response_rendering(options: Options) -> Rendering:
    """From the parameters of a write."""
    return Rendering(
        options.get("responseValueRenderOption", "FORMATTED_VALUE"),
        options.get("responseDateTimeRenderOption", "SERIAL_NUMBER"),
    )


def get(edit: Edit, text: str, options: Options) -> Json:
    tab, bounds = edit.book.find_bounds(text)
    by_columns = options.get("majorDimension") == "COLUMNS"
    return _told(tab, bounds, rendering(options), by_columns=by_columns)


def _told(tab: Tab, bounds: Bounds, how: Rendering, *, by_columns: bool = False) -> Json:
    told: Json = {"range": a1(tab.title, bounds), "majorDimension": "COLUMNS" if by_columns else "ROWS"}
    rows = [
        [how.of(cell) for cell in row[bounds.start_column : bounds.end_column]]
        for row in tab.rows[bounds.start_row : bounds.end_row]
    ]
    if by_columns:
        width = max(map(len, rows), default=0)
        rows = [[row[at] if at < len(row) else "" for row in rows] for at in range(width)]
    for row in rows:
        while row and row[-1] == "":
            row.pop()
    while rows and not rows[-1]:
        rows.pop()
    if rows:
        told["values"] = rows
    return told


def update(edit: Edit, text: str, body: Json, options: Options) -> Json:
    if body.get("range", text) != text:
        raise invalid(
            f"Requested writing within range [{text}], but the body of the request names range [{body['range']}]."
        )
    tab, bounds = edit.book.find_bounds(text)
    rows = _rows(body)
    written = _written_bounds(tab, bounds, rows)
    return _write(edit, tab, written, rows, options)


def _written_bounds(tab: Tab, bounds: Bounds, rows: Sequence[Sequence[Any]]) -> Bounds:
    """Where rows go that begin at the start of a range; a range of one cell is only a start."""
    height, width = len(rows), max(map(len, rows), default=0)
    start_row, start_column = bounds.start_row, bounds.start_column
    written = Bounds(start_row, start_row + height, start_column, start_column + width)
    if written.end_row > tab.row_count or written.end_column > tab.column_count:
        raise beyond(tab, written)
    if (bounds.height, bounds.width) != (1, 1):
        within = f"Requested writing within range [{a1(tab.title, bounds)}], but tried writing to"
        if width > bounds.width:
            raise invalid(f"{within} column [{column_letters(bounds.end_column)}]")
        if height > bounds.height:
            raise invalid(f"{within} row [{bounds.end_row + 1}]")
    return written


def append(edit: Edit, text: str, body: Json, options: Options) -> Json:
    tab, bounds = edit.book.find_bounds(text)
    rows = _rows(body)
    table = table_at_end(tab, bounds)
    row, column = (bounds.start_row, bounds.start_column) if table is None else (table.end_row, table.start_column)
    height, width = len(rows), max(map(len, rows), default=0)
    if column + width > tab.column_count:
        raise beyond(tab, Bounds(row, row + height, column, column + width))
    if options.get("insertDataOption") == "INSERT_ROWS" and row < tab.row_count and height:
        edit.check_unprotected(tab)
        edit.book.insert(tab, "ROWS", row, height, like=row - 1 if row else None)
    elif row + height > tab.row_count:
        edit.book.append(tab, "ROWS", row + height - tab.row_count)
    told: Json = {"spreadsheetId": edit.book.id}
    if table is not None:
        told["tableRange"] = a1(tab.title, table)
    told["updates"] = _write(edit, tab, Bounds(row, row + height, column, column + width), rows, options)
    return told


def batch_update(edit: Edit, body: Json) -> Json:
    told: Json = {"spreadsheetId": edit.book.id}
    found = [update(edit, part.get("range", ""), part, body) for part in body.get("data", [])]
    sheets = {edit.book.find(part.get("range", ""))[0].id for part in body.get("data", [])}
    for total, name in (
        ("totalUpdatedRows", "updatedRows"),
        ("totalUpdatedColumns", "updatedColumns"),
        ("totalUpdatedCells", "updatedCells"),
    ):
        told[total] = sum(part.get(name, 0) for part in found)
    told["totalUpdatedSheets"] = len(sheets)
    told["responses"] = found
    return told


def clear(edit: Edit, text: str) -> Json:
    tab, bounds = edit.book.find_bounds(text)
    edit.check_writable(tab, bounds.area)
    for row in range(bounds.start_row, min(bounds.end_row, len(tab.rows))):
        cells = tab.row(row)[bounds.start_column : bounds.end_column]
        edit.book.put(
            tab, row, bounds.start_column, [cell._replace(value=None).or_none() if cell else None for cell in cells]
        )
    return {"spreadsheetId": edit.book.id, "clearedRange": a1(tab.title, bounds)}


def _rows(body: Json) -> list[list[Any]]:
    rows: list[list[Any]] = body.get("values", [])
    if body.get("majorDimension") == "COLUMNS":
        height = max(map(len, rows), default=0)
        return [[column[at] if at < len(column) else None for column in rows] for at in range(height)]
    return rows


def _write(edit: Edit, tab: Tab, bounds: Bounds, rows: Sequence[Sequence[Any]], options: Options) -> Json:
    option = options.get("valueInputOption", "INPUT_VALUE_OPTION_UNSPECIFIED")
    if option == "INPUT_VALUE_OPTION_UNSPECIFIED":
        raise invalid("'valueInputOption' is required but not specified")
    edit.check_writable(tab, bounds.area)
    for index, row in enumerate(rows):
        old = [tab.cell(bounds.start_row + index, bounds.start_column + at) for at in range(len(row))]
        new = [
            _entered(cell, item, typed=option == "USER_ENTERED", place=f"values[{index}][{at}]")
            for at, (cell, item) in enumerate(zip(old, row, strict=True))
        ]
        edit.book.put(tab, bounds.start_row + index, bounds.start_column, new)
    told: Json = {"spreadsheetId": edit.book.id, "updatedRange": a1(tab.title, bounds)}
    cells = sum(item is not None for row in rows for item in row)
    if cells:
        told |= {"updatedRows": bounds.height, "updatedColumns": bounds.width, "updatedCells": cells}
    if str(options.get("includeValuesInResponse", False)).lower() == "true":
        told["updatedData"] = _told(tab, bounds, response_rendering(options))
    return told


def _entered(old: Cell | None, item: Any, *, typed: bool, place: str) -> Cell | None:
    if item is None:
        return old
    if isinstance(item, list | dict):
        kind = "list_value" if isinstance(item, list) else "struct_value"
        raise invalid(f"Invalid {place}: {kind}")
    cell = old or Cell()
    if typed and isinstance(item, str):
        new = typed_in(item)
        style = cell.format if new.format is None else {**new.format, **(cell.format or {})}
        return cell._replace(value=new.value, format=style).or_none()
    return cell._replace(value=from_scalar(item)).or_none()
