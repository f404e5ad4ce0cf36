"""A spreadsheet as the API tells it: what a field mask and ranges choose of it, and nothing more is built."""

from collections.abc import Sequence
from typing import Any

from infra.embedded.sheets.batch import sheet_properties
from infra.embedded.sheets.book import Book
from infra.embedded.sheets.cell import Cell, effective
from infra.embedded.sheets.edit import Edit
from infra.embedded.sheets.errors import Json
from infra.embedded.sheets.grid import PIXELS, Tab
from infra.embedded.sheets.masks import EVERYTHING, Mask, below
from infra.embedded.sheets.metadata import Metadata
from infra.embedded.sheets.number_format import formatted
from infra.embedded.sheets.ranges import Area, Bounds

EDIT_URL = "https://docs.google.com/spreadsheets/d/{}/edit"

Chosen = Sequence[tuple[Tab, Area]]


def spreadsheet(edit: Edit, *, chosen: Chosen | None, mask: Mask, grid: bool) -> Json:
    """The Spreadsheet resource; ``grid`` says whether cells belong to it where the mask does not forbid them.

    ``chosen`` limits it to some areas, of whose tabs only they are told; None is everything.
    """
    book = edit.book
    told: Json = {
        "spreadsheetId": book.id,
        "properties": dict(book.properties),
        "spreadsheetUrl": EDIT_URL.format(book.id),
    }
    seen = [entry for entry in book.metadata.values() if entry.seen_by(edit.project)]
    if own := [entry.to_json() for entry in seen if entry.place.kind == "SPREADSHEET"]:
        told["developerMetadata"] = own
    sheets = below(mask, "sheets")
    if sheets is not None:
        told["sheets"] = [
            _sheet(edit, tab, seen, _areas(tab, chosen), mask=sheets, grid=grid)
            for tab in book.tabs
            if chosen is None or any(other is tab for other, _ in chosen)
        ]
    return told


def _areas(tab: Tab, chosen: Chosen | None) -> list[Area]:
    return [Area()] if chosen is None else [area for other, area in chosen if other is tab]


def _sheet(edit: Edit, tab: Tab, seen: list[Metadata], areas: list[Area], *, mask: Mask, grid: bool) -> Json:
    told: Json = {"properties": sheet_properties(tab, edit.book.tabs.index(tab))}
    here = [entry for entry in seen if entry.place.sheet_id == tab.id]
    if own := [entry.to_json() for entry in here if entry.place.kind == "SHEET"]:
        told["developerMetadata"] = own
    if tab.protections:
        told["protectedRanges"] = [
            protection.to_json(tab.id, may_edit=edit.book.may_edit(protection.editors, edit.email))
            for protection in tab.protections.values()
        ]
    data = below(mask, "data")
    if grid and data is not None:
        told["data"] = [
            _grid_data(tab, area.within(tab.row_count, tab.column_count), here, mask=data) for area in areas
        ]
    return told


def _grid_data(tab: Tab, bounds: Bounds, here: list[Metadata], *, mask: Mask) -> Json:
    told: Json = {}
    # Google leaves out what is 0.
    if bounds.start_row:
        told["startRow"] = bounds.start_row
    if bounds.start_column:
        told["startColumn"] = bounds.start_column
    row_data = below(mask, "rowData")
    if row_data is not None and (rows := _row_data(tab, bounds, below(row_data, "values"))):
        told["rowData"] = rows
    for name, dimension, span in (
        ("rowMetadata", "ROWS", range(bounds.start_row, bounds.end_row)),
        ("columnMetadata", "COLUMNS", range(bounds.start_column, bounds.end_column)),
    ):
        if below(mask, name) is not None:
            told[name] = _dimension_metadata(tab, dimension, span, here)
    return told


def _row_data(tab: Tab, bounds: Bounds, mask: Mask | None) -> list[Json]:
    rows = [_row(row, bounds, mask) for row in tab.rows[bounds.start_row : bounds.end_row]]
    while rows and not rows[-1]:
        rows.pop()
    return rows


def _row(row: Sequence[Cell | None], bounds: Bounds, mask: Mask | None) -> Json:
    cells = row[bounds.start_column : bounds.end_column]
    end = len(cells)
    while end and cells[end - 1] is None:
        end -= 1
    if not end:
        return {}
    return {"values": [_cell(cell, mask) if cell is not None else {} for cell in cells[:end]]}


def _cell(cell: Cell, mask: Mask | None) -> Json:
    told: dict[str, Any] = {}
    everything = mask == EVERYTHING
    if mask is None:
        return told
    if cell.value is not None:
        if everything or "userEnteredValue" in mask:
            told["userEnteredValue"] = cell.value
        if everything or "effectiveValue" in mask:
            told["effectiveValue"] = effective(cell.value)
        if everything or "formattedValue" in mask:
            told["formattedValue"] = formatted(cell.value, cell.format)
    if cell.format:
        for name in ("userEnteredFormat", "effectiveFormat"):
            if everything or name in mask:
                told[name] = cell.format
    if cell.note and (everything or "note" in mask):
        told["note"] = cell.note
    return told


def _dimension_metadata(tab: Tab, dimension: str, span: range, here: list[Metadata]) -> list[Json]:
    kind = "ROW" if dimension == "ROWS" else "COLUMN"
    notes: dict[int, list[Json]] = {}
    for entry in here:
        if entry.place.kind == kind:
            notes.setdefault(entry.place.index, []).append(entry.to_json())
    told = []
    for index in span:
        properties = {"pixelSize": PIXELS[dimension], **tab.sizes[dimension].get(index, {})}
        if index in notes:
            properties["developerMetadata"] = notes[index]
        told.append(properties)
    return told


def filtered(edit: Edit, data_filters: Sequence[Json]) -> Chosen:
    """The areas that DataFilters choose; metadata of the spreadsheet itself chooses all of it."""
    chosen: list[tuple[Tab, Area]] = []
    for data_filter in data_filters:
        if "developerMetadataLookup" not in data_filter:
            chosen.append(edit.book.filtered_area(data_filter))
            continue
        for entry in edit.book.selected(data_filter, edit.project):
            tabs = [tab for tab in edit.book.tabs if entry.place.sheet_id in (None, tab.id)]
            chosen.extend((tab, entry.place.area) for tab in tabs)
    return chosen


def ranges(book: Book, texts: Sequence[str]) -> Chosen:
    """The areas of references in A1 notation; raises ApiError."""
    return [(tab, bounds.area) for tab, bounds in (book.find_bounds(text) for text in texts)]
