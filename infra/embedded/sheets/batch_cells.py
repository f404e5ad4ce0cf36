"""The requests of a batch about cells: update, append, repeat, copy, sort."""

from typing import Any

from infra.embedded.sheets.book import beyond
from infra.embedded.sheets.cell import Cell, Change, change_by, effective
from infra.embedded.sheets.edit import Edit, update_mask
from infra.embedded.sheets.errors import Json, invalid, not_emulated
from infra.embedded.sheets.grid import Tab
from infra.embedded.sheets.ranges import Bounds, grid_area


def _write_row(
    edit: Edit, tab: Tab, at: tuple[int, int], data: list[Json], change: Change, *, last_column: int
) -> None:
    row, column = at
    if column + len(data) > last_column:
        raise invalid(
            f"Attempting to write column: {last_column}, beyond the last requested column of: {last_column - 1}"
        )
    old = tab.row(row)
    old = old[column : column + len(data)]
    old += (None,) * (len(data) - len(old))
    edit.book.put(tab, row, column, [change(cell, new) for cell, new in zip(old, data, strict=True)])


def _bounds(edit: Edit, named: Json) -> tuple[Tab, Bounds]:
    """The tab and the cells of a GridRange, which must lie within the grid."""
    tab = edit.book.sheet(named.get("sheetId", 0))
    area = grid_area(named)
    bounds = Bounds(
        area.start_row,
        tab.row_count if area.end_row is None else area.end_row,
        area.start_column,
        tab.column_count if area.end_column is None else area.end_column,
    )
    if bounds.end_row > tab.row_count or bounds.end_column > tab.column_count:
        raise beyond(tab, bounds)
    return tab, bounds


def _update_cells(edit: Edit, request: Json) -> None:
    change = change_by(update_mask(request, "CellData"))
    rows = [row.get("values", []) for row in request.get("rows", [])]
    if ("start" in request) == ("range" in request):
        raise invalid("Exactly one of start and range must be specified.")
    if "start" in request:
        _update_from(edit, request["start"], rows, change)
    else:
        _update_range(edit, request["range"], rows, change)


def _update_from(edit: Edit, start: Json, rows: list[list[Json]], change: Change) -> None:
    tab = edit.book.sheet(start.get("sheetId", 0))
    row, column = start.get("rowIndex", 0), start.get("columnIndex", 0)
    if not 0 <= row < tab.row_count:
        raise invalid(f"GridCoordinate.rowIndex[{row}] is after last row in grid[{tab.row_count - 1}]")
    if not 0 <= column < tab.column_count:
        raise invalid(f"GridCoordinate.columnIndex[{column}] is after last column in grid[{tab.column_count - 1}]")
    if row + len(rows) > tab.row_count:
        raise invalid(
            f"Attempting to write row: {tab.row_count}, beyond the last requested row of: {tab.row_count - 1}"
        )
    widest = max((len(cells) for cells in rows), default=0)
    edit.check_writable(tab, Bounds(row, row + len(rows), column, column + widest).area)
    for index, cells in enumerate(rows, start=row):
        _write_row(edit, tab, (index, column), cells, change, last_column=tab.column_count)


def _update_range(edit: Edit, named: Json, rows: list[list[Json]], change: Change) -> None:
    tab, bounds = _bounds(edit, named)
    if len(rows) > bounds.height:
        raise invalid(
            f"Attempting to write row: {bounds.end_row}, beyond the last requested row of: {bounds.end_row - 1}"
        )
    edit.check_writable(tab, bounds.area)
    for offset in range(bounds.height):
        given = rows[offset] if offset < len(rows) else []
        row = bounds.start_row + offset
        # What the rows do not cover is cleared; where nothing is, nothing needs clearing.
        filled = min(bounds.width, len(tab.row(row)) - bounds.start_column)
        data = [*given, *({} for _ in range(filled - len(given)))]
        if data:
            _write_row(edit, tab, (row, bounds.start_column), data, change, last_column=bounds.end_column)


def _append_cells(edit: Edit, request: Json) -> None:
    if "tableId" in request:
        raise not_emulated("tables")
    change = change_by(update_mask(request, "CellData"))
    rows = [row.get("values", []) for row in request.get("rows", [])]
    tab = edit.book.sheet(request.get("sheetId", 0))
    start = tab.data_end()
    edit.check_writable(tab, Bounds(start, start + len(rows), 0, max(map(len, rows), default=0)).area)
    missing = start + len(rows) - tab.row_count
    if missing > 0:
        edit.book.append(tab, "ROWS", missing)
    for index, cells in enumerate(rows, start=start):
        _write_row(edit, tab, (index, 0), cells, change, last_column=tab.column_count)


def _repeat_cell(edit: Edit, request: Json) -> None:
    change = change_by(update_mask(request, "CellData"))
    tab, bounds = _bounds(edit, request.get("range", {}))
    edit.check_writable(tab, bounds.area)
    cell = request.get("cell", {})
    data = [cell] * bounds.width
    for row in range(bounds.start_row, bounds.end_row):
        _write_row(edit, tab, (row, bounds.start_column), data, change, last_column=bounds.end_column)


def _copy_paste(edit: Edit, request: Json) -> None:
    kind = request.get("pasteType", "PASTE_NORMAL")
    if kind not in ("PASTE_NORMAL", "PASTE_VALUES") or request.get("pasteOrientation", "NORMAL") != "NORMAL":
        raise not_emulated("this way of pasting")
    source_tab, source = _bounds(edit, request.get("source", {}))
    tab, wanted = _bounds(edit, request.get("destination", {}))
    if not source.height or not source.width:
        return
    height = wanted.height if wanted.height % source.height == 0 else 0
    width = wanted.width if wanted.width % source.width == 0 else 0
    row, column = wanted.start_row, wanted.start_column
    target = Bounds(row, row + max(height, source.height), column, column + max(width, source.width))
    if target.end_row > tab.row_count or target.end_column > tab.column_count:
        raise beyond(tab, target)
    edit.check_writable(tab, target.area)
    cells = [
        [source_tab.cell(y, x) for x in range(source.start_column, source.end_column)]
        for y in range(source.start_row, source.end_row)
    ]
    for index in range(target.height):
        line = cells[index % source.height] * (target.width // source.width)
        if kind == "PASTE_VALUES":
            line = [_value_pasted(cell, tab.cell(row + index, column + at)) for at, cell in enumerate(line)]
        edit.book.put(tab, row + index, column, line)


def _value_pasted(cell: Cell | None, over: Cell | None) -> Cell | None:
    value = None if cell is None or cell.value is None else effective(cell.value)
    return (over or Cell())._replace(value=value).or_none()


def _sort_range(edit: Edit, request: Json) -> None:
    tab, bounds = _bounds(edit, request.get("range", {}))
    edit.check_writable(tab, bounds.area)
    rows = [
        [tab.cell(row, column) for column in range(bounds.start_column, bounds.end_column)]
        for row in range(bounds.start_row, min(bounds.end_row, len(tab.rows)))
    ]
    for spec in reversed(request.get("sortSpecs", [])):
        at = spec.get("dimensionIndex", 0) - bounds.start_column
        if not 0 <= at < bounds.width:
            raise invalid(f"The sort column {spec.get('dimensionIndex', 0)} is outside of the range.")
        # Empty cells come last in both orders.
        filled = [row for row in rows if _order(row[at])[0] < _EMPTY_LAST]
        empty = [row for row in rows if _order(row[at])[0] == _EMPTY_LAST]
        descending = spec.get("sortOrder") == "DESCENDING"
        rows = [*sorted(filled, key=lambda row: _order(row[at]), reverse=descending), *empty]
    for index, cells in enumerate(rows, start=bounds.start_row):
        tab.put(index, bounds.start_column, cells)


_EMPTY_LAST = 4


def _order(cell: Cell | None) -> tuple[int, Any]:
    """Numbers, then texts, then truths, then errors, then what is empty."""
    if cell is None or cell.value is None:
        return _EMPTY_LAST, 0
    shown = effective(cell.value)
    if "numberValue" in shown:
        return 0, shown["numberValue"]
    if "stringValue" in shown:
        return 1, shown["stringValue"].lower()
    return (2, shown["boolValue"]) if "boolValue" in shown else (3, 0)


CELL_REQUESTS = {
    "updateCells": _update_cells,
    "appendCells": _append_cells,
    "repeatCell": _repeat_cell,
    "copyPaste": _copy_paste,
    "sortRange": _sort_range,
}
