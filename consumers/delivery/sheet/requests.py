"""Requests: what is asked of ``spreadsheets.batchUpdate``. Source: Google Sheets API v4, REST reference, "Requests"."""

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

from consumers.delivery.sheet.marks import COLUMN, FIRST, FIRST_COLUMN, LAST, LAST_COLUMN, Record
from consumers.delivery.sheet.plan import Plan
from consumers.delivery.sheet.rows import Column, Scalar, value_of
from consumers.ports import JsonObject

Dimension = Literal["ROWS", "COLUMNS"]
Rows = Sequence[Sequence[Scalar]]

# A tab has room for 30,000 characters of metadata, and an anchor takes some 40. Columns that are added are
# neighbours: of more than these, the first and the last one have anchors.
MAX_COLUMN_ANCHORS = 20

_FORMATS = {
    "date": {"type": "DATE", "pattern": "yyyy-mm-dd"},
    "datetime": {"type": "DATE_TIME", "pattern": "yyyy-mm-dd hh:mm:ss"},
}


# ---------------------------------------------------------------- cells


def write_rows(tab_id: int, first_row: int, rows: Rows, places: Sequence[int]) -> JsonObject:
    """Values into rows that are new, hence blank: column ``places[i]`` gets each row's value i."""
    start = min(places)
    blank: list[Scalar] = [None] * (max(places) - start + 1)

    def placed(row: Sequence[Scalar]) -> JsonObject:
        cells = list(blank)
        for place, value in zip(places, row, strict=True):
            cells[place - start] = value
        return {"values": [{"userEnteredValue": value_of(value)} if value is not None else {} for value in cells]}

    return {
        "updateCells": {
            "start": {"sheetId": tab_id, "rowIndex": first_row, "columnIndex": start},
            "rows": [placed(row) for row in rows],
            "fields": "userEnteredValue",
        }
    }


def write_names(tab_id: int, row: int, column: int, names: Sequence[str]) -> JsonObject:
    """Names of columns, in bold."""
    cells = [
        {"userEnteredValue": {"stringValue": name}, "userEnteredFormat": {"textFormat": {"bold": True}}}
        for name in names
    ]
    return {
        "updateCells": {
            "start": {"sheetId": tab_id, "rowIndex": row, "columnIndex": column},
            "rows": [{"values": cells}],
            "fields": "userEnteredValue,userEnteredFormat.textFormat.bold",
        }
    }


def format_dates(tab_id: int, rows: range, columns: Sequence[Column], plan_places: Sequence[int]) -> list[JsonObject]:
    """Serial numbers are shown as dates."""
    return [
        {
            "repeatCell": {
                "range": _rectangle(tab_id, rows, place, place + 1),
                "cell": {"userEnteredFormat": {"numberFormat": _FORMATS[column.kind]}},
                "fields": "userEnteredFormat.numberFormat",
            }
        }
        for column, place in zip(columns, plan_places, strict=True)
        if column.kind in _FORMATS
    ]


def clear_format(tab_id: int, rows: range, first_column: int, end_column: int | None, what: str) -> JsonObject:
    """What new rows or columns took over from their neighbours; up to the last column if that is None."""
    area = _rectangle(tab_id, rows, first_column, end_column)
    return {"repeatCell": {"range": area, "cell": {}, "fields": what}}


def copy_rows(source: int, count: int, target: int, first_row: int, places: Sequence[int]) -> list[JsonObject]:
    """The first ``count`` rows of the hidden tab into their places: one copy for each run of neighbours."""
    copies = []
    for _, run in groupby(enumerate(places), key=lambda pair: pair[1] - pair[0]):
        pairs = list(run)
        position, place, width = pairs[0][0], pairs[0][1], len(pairs)
        copies.append(
            {
                "copyPaste": {
                    "source": _rectangle(source, range(count), position, position + width),
                    "destination": _rectangle(target, range(first_row, first_row + count), place, place + width),
                    "pasteType": "PASTE_VALUES",
                }
            }
        )
    return copies


def _rectangle(tab_id: int, rows: range, first_column: int, end_column: int | None) -> JsonObject:
    area: JsonObject = {
        "sheetId": tab_id,
        "startRowIndex": rows.start,
        "endRowIndex": rows.stop,
        "startColumnIndex": first_column,
    }
    return area if end_column is None else area | {"endColumnIndex": end_column}


# ---------------------------------------------------------------- rows, columns, tabs


def insert(tab_id: int, dimension: Dimension, at: int, count: int, *, of: int, like_before: bool = False) -> JsonObject:
    """New rows or columns, where nothing can be overwritten; ``of`` is how many the tab has.

    Never appendDimension: where others have added some meanwhile, ``at`` would be theirs.
    """
    return {
        "insertDimension": {
            "range": {"sheetId": tab_id, "dimension": dimension, "startIndex": at, "endIndex": at + count},
            # Google refuses anything else at the edge of the grid.
            "inheritFromBefore": like_before or at == of,
        }
    }


def delete(tab_id: int, dimension: Dimension, first: int, end: int) -> JsonObject:
    dimension_range = {"sheetId": tab_id, "dimension": dimension, "startIndex": first, "endIndex": end}
    return {"deleteDimension": {"range": dimension_range}}


def add_tab(tab_id: int, title: str, size: tuple[int, int], *, hidden: bool = False, frozen: int = 0) -> JsonObject:
    """``size`` is rows and columns."""
    grid: JsonObject = {"rowCount": size[0], "columnCount": size[1], "frozenRowCount": frozen}
    return {"addSheet": {"properties": {"sheetId": tab_id, "title": title, "hidden": hidden, "gridProperties": grid}}}


def show_tab(tab_id: int, title: str) -> JsonObject:
    properties = {"sheetId": tab_id, "title": title, "hidden": False}
    return {"updateSheetProperties": {"properties": properties, "fields": "title,hidden"}}


def delete_tab(tab_id: int) -> JsonObject:
    return {"deleteSheet": {"sheetId": tab_id}}


# ---------------------------------------------------------------- marks


def put_record(key: str, metadata_id: int, record: Record) -> JsonObject:
    """The job's record. It is refused where one has this id already."""
    return _create(
        {"metadataId": metadata_id, "metadataKey": key, "metadataValue": record.value}, {"spreadsheet": True}
    )


def change_record(key: str, metadata_id: int, record: Record) -> JsonObject:
    return {
        "updateDeveloperMetadata": {
            "dataFilters": [{"developerMetadataLookup": {"metadataId": metadata_id, "metadataKey": key}}],
            "developerMetadata": {"metadataValue": record.value},
            "fields": "metadataValue",
        }
    }


def put_anchor(key: str, tab_id: int, dimension: Dimension, index: int, value: str) -> JsonObject:
    """What moves along with one row or column."""
    where = {"sheetId": tab_id, "dimension": dimension, "startIndex": index, "endIndex": index + 1}
    return _create({"metadataKey": key, "metadataValue": value}, {"dimensionRange": where})


def anchors(key: str, tab_id: int, rows: range, columns: range) -> list[JsonObject]:
    """The first row, the last row, and the columns that were added: each one, or the ends of many."""
    marked = {place: f"{COLUMN}{place}" for place in columns}
    if len(columns) > MAX_COLUMN_ANCHORS:
        marked = {columns[0]: FIRST_COLUMN, columns[-1]: LAST_COLUMN}
    return [
        put_anchor(key, tab_id, "ROWS", rows.start, FIRST),
        put_anchor(key, tab_id, "ROWS", rows.stop - 1, LAST),
        *(put_anchor(key, tab_id, "COLUMNS", place, value) for place, value in marked.items()),
    ]


def forget(key: str, metadata_id: int | None = None) -> JsonObject:
    lookup: JsonObject = {"metadataKey": key} | ({} if metadata_id is None else {"metadataId": metadata_id})
    return {"deleteDeveloperMetadata": {"dataFilter": {"developerMetadataLookup": lookup}}}


def write_nothing(key: str, metadata_id: int) -> list[JsonObject]:
    """Makes and removes a mark in one step: it changes nothing, and is refused to who may not write."""
    return [
        _create({"metadataId": metadata_id, "metadataKey": key, "metadataValue": "1"}, {"spreadsheet": True}),
        forget(key, metadata_id),
    ]


def _create(metadata: JsonObject, location: JsonObject) -> JsonObject:
    # Seen by the Google project of our service account only, not by other programs that read the sheet.
    whole = metadata | {"location": location, "visibility": "PROJECT"}
    return {"createDeveloperMetadata": {"developerMetadata": whole}}


# ---------------------------------------------------------------- the visible step


def place_rows(
    plan: Plan, columns: Sequence[Column], key: str, *, hidden: tuple[int, int] | None, last: Rows
) -> list[JsonObject]:
    """All that an append changes: columns, header, rows, formats, anchors.

    ``hidden`` is the tab that the first rows wait in and how many they are; ``last`` are the others.
    """
    tab, waiting = plan.tab, hidden[1] if hidden else 0
    names = [column.name for column in columns]
    with_header = plan.header_row is None
    first = plan.first_row + with_header
    rows = range(first, first + waiting + len(last))
    # What the tab does not have yet: columns for names of ours, or just room for them.
    new = range(plan.header_end, plan.header_end + len(plan.added))
    if with_header:
        new = range(tab.columns, max(tab.columns, len(names)))
    steps: list[JsonObject] = []
    if new:
        steps.append(insert(tab.id, "COLUMNS", new.start, len(new), of=tab.columns))
    if plan.added:
        steps.append(write_names(tab.id, plan.header_row or 0, new.start, [names[at] for at in plan.added]))
    below_data = plan.header_row is not None and plan.first_row > plan.header_row + 1
    steps.append(insert(tab.id, "ROWS", plan.first_row, len(rows) + with_header, of=tab.rows, like_before=below_data))
    if plan.first_row == tab.rows and not below_data:
        steps.append(clear_format(tab.id, rows, 0, None, "userEnteredFormat"))
    elif new:
        steps.append(clear_format(tab.id, rows, new.start, new.stop, "userEnteredFormat.numberFormat"))
    if with_header:
        steps.append(write_names(tab.id, plan.first_row, 0, names))
    if hidden is not None:
        steps += copy_rows(hidden[0], waiting, tab.id, first, plan.places)
        steps.append(delete_tab(hidden[0]))
    steps.append(write_rows(tab.id, first + waiting, last, plan.places))
    undated = [(column, place) for column, place in zip(columns, plan.places, strict=True) if place not in plan.dated]
    steps += format_dates(tab.id, rows, [column for column, _ in undated], [place for _, place in undated])
    return steps + anchors(key, tab.id, rows, new)
