"""A batchUpdate: its requests in order, all of them or none; here those about the spreadsheet and its tabs."""

from collections.abc import Callable
from typing import Any

from infra.embedded.sheets.batch_cells import CELL_REQUESTS
from infra.embedded.sheets.batch_dimensions import DIMENSION_REQUESTS
from infra.embedded.sheets.batch_notes import NOTE_REQUESTS
from infra.embedded.sheets.edit import Edit, update_mask
from infra.embedded.sheets.errors import ApiError, Json, invalid, not_emulated
from infra.embedded.sheets.grid import Tab
from infra.embedded.sheets.masks import Mask, merge

MAX_TITLE_CHARS = 100


def apply_batch(edit: Edit, requests: list[Json]) -> list[Json]:
    """Apply every request and return their replies; raises ApiError at the first that is refused.

    The service takes back what was done until then.
    """
    if not requests:
        raise invalid("Must specify at least one request.")
    return [_apply(edit, request, place=f"requests[{index}]") for index, request in enumerate(requests)]


def _apply(edit: Edit, request: Json, *, place: str) -> Json:
    if not request:
        raise invalid(f"Invalid {place}: No request set.")
    if len(request) > 1:
        second = list(request)[1]
        raise invalid(f"Invalid value at '{place}' (oneof), oneof field 'kind' is already set. Cannot set '{second}'")
    ((kind, content),) = request.items()
    handler = REQUESTS.get(kind)
    if handler is None:
        raise not_emulated(f"the request {kind}").within(f"{place}.{kind}")
    try:
        return handler(edit, content) or {}
    except ApiError as error:
        raise error.within(f"{place}.{kind}") from error


def index_of(edit: Edit, tab: Tab) -> int:
    return edit.book.tabs.index(tab)


def sheet_properties(tab: Tab, index: int) -> Json:
    """The SheetProperties that are told of a tab."""
    return {**tab.properties, "index": index, "gridProperties": dict(tab.properties["gridProperties"])}


def _check_title(edit: Edit, title: str, *, but: Tab | None = None) -> None:
    if not title or len(title) > MAX_TITLE_CHARS:
        raise invalid(f"A sheet's name must have 1 to {MAX_TITLE_CHARS} characters.")
    other = edit.book.titled(title)
    if other is not None and other is not but:
        raise invalid(f'A sheet with the name "{title}" already exists. Please enter another name.')


def _check_grid(grid: Json) -> None:
    rows, columns = grid.get("rowCount", 0), grid.get("columnCount", 0)
    if rows < 1 or columns < 1:
        raise invalid("A sheet must have at least one row and one column.")
    if not 0 <= grid.get("frozenRowCount", 0) < rows:
        raise invalid("You can't freeze all visible rows on the sheet.")
    if not 0 <= grid.get("frozenColumnCount", 0) < columns:
        raise invalid("You can't freeze all visible columns on the sheet.")


def _check_visible(edit: Edit) -> None:
    if all(tab.hidden for tab in edit.book.tabs):
        raise invalid("You can't remove all the visible sheets in a document.")


def new_tab(edit: Edit, wanted: Json) -> Tab:
    """A tab with these SheetProperties, at its place in the book."""
    book = edit.book
    if wanted.get("sheetType", "GRID") != "GRID":
        raise not_emulated("sheets that are no grids")
    taken = [tab.id for tab in book.tabs]
    sheet_id = wanted.get("sheetId")
    if sheet_id is None:
        sheet_id = book.new_id(taken)
    if sheet_id in taken:
        raise invalid(f"Sheet with id {sheet_id} already exists.")
    if sheet_id < 0:
        raise invalid("A sheet's id must not be negative.")
    title = wanted.get("title") or _free_title(edit)
    _check_title(edit, title)
    tab = Tab(sheet_id, title)
    grid = {**tab.properties["gridProperties"], **wanted.get("gridProperties", {})}
    _check_grid(grid)
    told = {name: value for name, value in wanted.items() if name != "index" and value is not False}
    tab.properties = {**told, **tab.properties, "gridProperties": grid}
    index = wanted.get("index", len(book.tabs))
    if not 0 <= index <= len(book.tabs):
        raise invalid(f"The sheet index {index} is out of bounds.")
    book.tabs.insert(index, tab)
    book.check_size()
    return tab


def _free_title(edit: Edit) -> str:
    number = len(edit.book.tabs) + 1
    while edit.book.titled(f"Sheet{number}") is not None:
        number += 1
    return f"Sheet{number}"


def _add_sheet(edit: Edit, request: Json) -> Json:
    tab = new_tab(edit, request.get("properties", {}))
    return {"addSheet": {"properties": sheet_properties(tab, index_of(edit, tab))}}


def _delete_sheet(edit: Edit, request: Json) -> None:
    book = edit.book
    tab = book.sheet(request.get("sheetId", 0))
    for protection in tab.protections.values():
        edit.check_writable(tab, protection.area)
    book.tabs.remove(tab)
    _check_visible(edit)
    book.metadata = {key: entry for key, entry in book.metadata.items() if entry.place.sheet_id != tab.id}


def _update_sheet_properties(edit: Edit, request: Json) -> None:
    mask = update_mask(request, "SheetProperties")
    wanted = request.get("properties", {})
    tab = edit.book.sheet(wanted.get("sheetId", 0))
    edit.check_unprotected(tab)
    if not mask:
        mask = {name: {} for name in wanted if name not in ("sheetId", "sheetType")}
    if "sheetId" in mask or "sheetType" in mask:
        raise invalid("sheetId and sheetType cannot be changed.")
    if "title" in mask:
        _check_title(edit, wanted.get("title", ""), but=tab)
    _update_grid(edit, tab, wanted.get("gridProperties", {}), mask.get("gridProperties"))
    rest: Mask = {name: part for name, part in mask.items() if name not in ("index", "gridProperties")}
    if rest:
        tab.properties = _without_false(merge(tab.properties, wanted, rest))
    _check_visible(edit)
    if "index" in mask:
        _move_tab(edit, tab, wanted.get("index", 0))


def _update_grid(edit: Edit, tab: Tab, wanted: Json, mask: Mask | None) -> None:
    if mask is None:
        return
    grid = _without_false(merge(tab.properties["gridProperties"], wanted, mask))
    for count in ("rowCount", "columnCount"):
        if mask and count not in mask:
            grid[count] = tab.properties["gridProperties"][count]
    _check_grid(grid)
    if tab.row_count > grid["rowCount"] or tab.column_count > grid["columnCount"]:
        for protection in tab.protections.values():
            edit.check_writable(tab, protection.area)
    edit.book.resize(tab, "ROWS", grid["rowCount"])
    edit.book.resize(tab, "COLUMNS", grid["columnCount"])
    tab.properties = {**tab.properties, "gridProperties": {name: value for name, value in grid.items() if value != 0}}


def _move_tab(edit: Edit, tab: Tab, index: int) -> None:
    tabs = edit.book.tabs
    if not 0 <= index <= len(tabs):
        raise invalid(f"The sheet index {index} is out of bounds.")
    # Counted as before the move: discovery document, SheetProperties.index.
    now = tabs.index(tab)
    tabs.insert(index, tab)
    del tabs[now if now < index else now + 1]


def _without_false(properties: Json) -> Json:
    return {name: value for name, value in properties.items() if value is not False}


def _update_spreadsheet_properties(edit: Edit, request: Json) -> None:
    mask = update_mask(request, "SpreadsheetProperties")
    wanted = request.get("properties", {})
    mask = mask or {name: {} for name in wanted}
    if unknown := set(mask) - {"title", "locale", "timeZone", "autoRecalc"}:
        raise not_emulated(f"the spreadsheet property {min(unknown)}")
    edit.book.properties = merge(edit.book.properties, wanted, mask)
    if not edit.book.properties.get("title"):
        raise invalid("A spreadsheet must have a title.")


Handler = Callable[[Edit, Any], Json | None]

REQUESTS: dict[str, Handler] = {
    "addSheet": _add_sheet,
    "deleteSheet": _delete_sheet,
    "updateSheetProperties": _update_sheet_properties,
    "updateSpreadsheetProperties": _update_spreadsheet_properties,
    **CELL_REQUESTS,
    **DIMENSION_REQUESTS,
    **NOTE_REQUESTS,
}
