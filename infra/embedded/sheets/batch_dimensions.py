"""The requests of a batch about whole rows and columns: insert, append, delete, move, size."""

from infra.embedded.sheets.dimension import COLUMNS, ROWS
from infra.embedded.sheets.edit import Edit, update_mask
from infra.embedded.sheets.errors import Json, invalid, not_emulated
from infra.embedded.sheets.grid import Tab
from infra.embedded.sheets.masks import merge
from infra.embedded.sheets.ranges import Area


def _span(edit: Edit, named: Json, *, bounded: bool) -> tuple[Tab, str, int, int]:
    """The tab, the dimension and the half-open span that a DimensionRange names."""
    tab = edit.book.sheet(named.get("sheetId", 0))
    dimension = _dimension(named)
    count = tab.count(dimension)
    if bounded and "endIndex" not in named:
        raise invalid("Both the start and end indexes must be bounded.")
    start, end = named.get("startIndex", 0), named.get("endIndex", count)
    if start < 0 or end <= start:
        raise invalid(f"range.startIndex[{start}] must be less than range.endIndex[{end}].")
    return tab, dimension, start, end


def _dimension(named: Json) -> str:
    dimension = named.get("dimension")
    if dimension not in (ROWS, COLUMNS):
        raise invalid("No dimension was specified.")
    return str(dimension)


def _across(dimension: str, start: int, end: int) -> Area:
    if dimension == ROWS:
        return Area(start_row=start, end_row=end)
    return Area(start_column=start, end_column=end)


def _word(dimension: str) -> str:
    return "row" if dimension == ROWS else "column"


def _insert(edit: Edit, request: Json) -> None:
    tab, dimension, start, end = _span(edit, request.get("range", {}), bounded=True)
    before = request.get("inheritFromBefore", False)
    count = tab.count(dimension)
    if start > count or (start == count and not before):
        raise invalid(f"range.startIndex[{start}] is beyond the last {_word(dimension)} of the sheet [{count}].")
    if before and start == 0:
        raise invalid("inheritFromBefore cannot be true when the start index is 0.")
    edit.check_unprotected(tab)
    # Between two protected rows a new one would be protected too.
    if 0 < start < count:
        for protection in tab.protections.values():
            low = protection.area.meets(_across(dimension, start - 1, start))
            if low and protection.area.meets(_across(dimension, start, start + 1)):
                edit.check_writable(tab, protection.area)
    edit.book.insert(tab, dimension, start, end - start, like=start - 1 if before else start)


def _append(edit: Edit, request: Json) -> None:
    tab = edit.book.sheet(request.get("sheetId", 0))
    length = request.get("length", 0)
    if length < 1:
        raise invalid("The length to append must be positive.")
    edit.check_unprotected(tab)
    edit.book.append(tab, _dimension(request), length)


def _delete(edit: Edit, request: Json) -> None:
    tab, dimension, start, end = _span(edit, request.get("range", {}), bounded=False)
    count, word = tab.count(dimension), _word(dimension)
    if end > count:
        raise invalid(
            f"Cannot delete a {word} that doesn't exist. "
            f"Tried to delete {word} index {end - 1} but there are only {count} {word}s."
        )
    if end - start == count:
        raise invalid(f"You can't delete all the {word}s on the sheet.")
    frozen = tab.properties["gridProperties"].get("frozenRowCount" if dimension == ROWS else "frozenColumnCount", 0)
    if start <= frozen and end == count and frozen:
        raise invalid(f"Sorry, it is not possible to delete all non-frozen {word}s.")
    edit.check_writable(tab, _across(dimension, start, end))
    edit.book.delete(tab, dimension, start, end)


def _move(edit: Edit, request: Json) -> None:
    tab, dimension, start, end = _span(edit, request.get("source", {}), bounded=True)
    to, count = request.get("destinationIndex", 0), tab.count(dimension)
    if end > count or not 0 <= to <= count:
        raise invalid(f"The {_word(dimension)}s to move must be within the sheet's {count}.")
    if start < to < end:
        raise invalid("The destination of a move must not lie within its source.")
    edit.check_writable(tab, _across(dimension, min(start, to), max(end, to)))
    edit.book.move(tab, dimension, start, end, to)


def _update_properties(edit: Edit, request: Json) -> None:
    if "dataSourceSheetRange" in request:
        raise not_emulated("sheets that are no grids")
    mask = update_mask(request, "DimensionProperties") or {"hiddenByUser": {}, "pixelSize": {}}
    if unknown := set(mask) - {"hiddenByUser", "pixelSize"}:
        raise not_emulated(f"the dimension property {min(unknown)}")
    tab, dimension, start, end = _span(edit, request.get("range", {}), bounded=False)
    if end > tab.count(dimension):
        raise invalid(f"range.endIndex[{end}] is beyond the sheet's {tab.count(dimension)} {_word(dimension)}s.")
    edit.check_writable(tab, _across(dimension, start, end))
    sizes = tab.sizes[dimension]
    for index in range(start, end):
        wanted = merge(sizes.get(index, {}), request.get("properties", {}), mask)
        sizes[index] = {name: value for name, value in wanted.items() if value is not False}


DIMENSION_REQUESTS = {
    "insertDimension": _insert,
    "appendDimension": _append,
    "deleteDimension": _delete,
    "moveDimension": _move,
    "updateDimensionProperties": _update_properties,
}
