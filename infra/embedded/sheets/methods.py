"""The methods of the API, each from a checked request to its reply."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from infra.embedded.sheets import values
from infra.embedded.sheets.batch import apply_batch
from infra.embedded.sheets.edit import Edit
from infra.embedded.sheets.errors import ApiError, Json, invalid
from infra.embedded.sheets.masks import EVERYTHING, Mask, below
from infra.embedded.sheets.metadata import check_lookup
from infra.embedded.sheets.reading import filtered, ranges, spreadsheet


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request: parameters of the path, of the query (the last of each name; ``ranges`` apart), the body.

    ``mask`` is the reply's field mask, None where the caller gave none.
    """

    path: Mapping[str, str]
    query: Mapping[str, str]
    ranges: list[str] = field(default_factory=list)
    body: Json = field(default_factory=dict)
    mask: Mask | None = None

    @property
    def range(self) -> str:
        return self.path["range"]


def _get(edit: Edit, request: Request) -> Json:
    chosen = ranges(edit.book, request.ranges) if request.ranges else None
    wanted = request.query.get("includeGridData", "false").lower() in ("true", "1")
    grid = wanted if request.mask is None else True
    return spreadsheet(edit, chosen=chosen, mask=request.mask or EVERYTHING, grid=grid)


def _get_by_filter(edit: Edit, request: Request) -> Json:
    filters = request.body.get("dataFilters", [])
    chosen = filtered(edit, filters) if filters else None
    grid = request.body.get("includeGridData", False) if request.mask is None else True
    return spreadsheet(edit, chosen=chosen, mask=request.mask or EVERYTHING, grid=grid)


def _batch_update(edit: Edit, request: Request) -> Json:
    body = request.body
    if body.get("responseRanges") and body.get("includeSpreadsheetInResponse"):
        ranges(edit.book, body["responseRanges"])
    told: Json = {"spreadsheetId": edit.book.id, "replies": apply_batch(edit, body.get("requests", []))}
    if body.get("includeSpreadsheetInResponse"):
        wanted = body.get("responseRanges")
        mask = below(request.mask or EVERYTHING, "updatedSpreadsheet")
        told["updatedSpreadsheet"] = spreadsheet(
            edit,
            chosen=ranges(edit.book, wanted) if wanted else None,
            mask=mask or EVERYTHING,
            grid=body.get("responseIncludeGridData", False) or bool(mask),
        )
    return told


def _metadata_get(edit: Edit, request: Request) -> Json:
    entry = edit.book.metadata.get(int(request.path["metadataId"]))
    if entry is None or not entry.seen_by(edit.project):
        raise ApiError(404, f"No developer metadata with id: {request.path['metadataId']}")
    return entry.to_json()


def _metadata_search(edit: Edit, request: Request) -> Json:
    found: dict[int, Json] = {}
    filters = request.body.get("dataFilters", [])
    if not filters:
        raise invalid("At least one data filter must be specified.")
    for data_filter in filters:
        if "developerMetadataLookup" in data_filter:
            check_lookup(data_filter["developerMetadataLookup"])
        for entry in edit.book.selected(data_filter, edit.project):
            match = found.setdefault(entry.id, {"developerMetadata": entry.to_json(), "dataFilters": []})
            match["dataFilters"].append(data_filter)
    return {"matchedDeveloperMetadata": list(found.values())} if found else {}


def _values_batch_get(edit: Edit, request: Request) -> Json:
    told = [values.get(edit, text, request.query) for text in request.ranges]
    return {"spreadsheetId": edit.book.id, "valueRanges": told}


def _values_batch_clear(edit: Edit, request: Request) -> Json:
    cleared = [values.clear(edit, text)["clearedRange"] for text in request.body.get("ranges", [])]
    return {"spreadsheetId": edit.book.id, "clearedRanges": cleared}


Handler = Callable[[Edit, Request], Json]

READS: dict[str, Handler] = {
    "spreadsheets.get": _get,
    "spreadsheets.getByDataFilter": _get_by_filter,
    "spreadsheets.developerMetadata.get": _metadata_get,
    "spreadsheets.developerMetadata.search": _metadata_search,
    "spreadsheets.values.get": lambda edit, request: values.get(edit, request.range, request.query),
    "spreadsheets.values.batchGet": _values_batch_get,
}

WRITES: dict[str, Handler] = {
    "spreadsheets.batchUpdate": _batch_update,
    "spreadsheets.values.update": lambda edit, request: values.update(edit, request.range, request.body, request.query),
    "spreadsheets.values.append": lambda edit, request: values.append(edit, request.range, request.body, request.query),
    "spreadsheets.values.batchUpdate": lambda edit, request: values.batch_update(edit, request.body),
    "spreadsheets.values.clear": lambda edit, request: values.clear(edit, request.range),
    "spreadsheets.values.batchClear": _values_batch_clear,
}

CREATE = "spreadsheets.create"
