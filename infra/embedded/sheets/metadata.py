"""Developer metadata: notes that programs leave on a spreadsheet, a tab, a row or a column, and how they are found."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from infra.embedded.sheets.dimension import COLUMNS, ROWS, Shift
from infra.embedded.sheets.errors import Json, invalid
from infra.embedded.sheets.ranges import WHOLE, Area

MAX_CHARS = 30_000
"""Of keys and values together, for the spreadsheet and for each sheet. Source: Sheets API guide, "metadata"."""

KIND_OF = {ROWS: "ROW", COLUMNS: "COLUMN"}
DIMENSION_OF = {"ROW": ROWS, "COLUMN": COLUMNS}


@dataclass(frozen=True, slots=True)
class Place:
    """``kind`` is a DeveloperMetadataLocationType; ``sheet_id`` and ``index`` where it has them."""

    kind: str
    sheet_id: int | None = None
    index: int = 0

    @property
    def area(self) -> Area:
        """What it covers of its tab."""
        if self.kind == "ROW":
            return Area(start_row=self.index, end_row=self.index + 1)
        if self.kind == "COLUMN":
            return Area(start_column=self.index, end_column=self.index + 1)
        return WHOLE

    def meets(self, sheet_id: int, area: Area) -> bool:
        return self.sheet_id == sheet_id and self.area.meets(area)

    def to_json(self) -> Json:
        told: Json = {"locationType": self.kind}
        if self.kind == "SPREADSHEET":
            told["spreadsheet"] = True
        elif self.kind == "SHEET":
            told["sheetId"] = self.sheet_id
        else:
            # Google leaves out what is 0.
            span = {"sheetId": self.sheet_id or None, "dimension": DIMENSION_OF[self.kind]}
            span |= {"startIndex": self.index or None, "endIndex": self.index + 1}
            told["dimensionRange"] = {name: value for name, value in span.items() if value is not None}
        return told


@dataclass(frozen=True, slots=True)
class Metadata:
    id: int
    key: str
    value: str
    visibility: str
    project: str
    place: Place

    @property
    def chars(self) -> int:
        return len(self.key) + len(self.value)

    def seen_by(self, project: str) -> bool:
        return self.visibility == "DOCUMENT" or self.project == project

    def to_json(self) -> Json:
        return {
            "metadataId": self.id,
            "metadataKey": self.key,
            "metadataValue": self.value,
            "location": self.place.to_json(),
            "visibility": self.visibility,
        }


def place_of(location: Json) -> Place:
    """The place that a DeveloperMetadataLocation names; raises ApiError unless it is exactly one."""
    named = [name for name in ("spreadsheet", "sheetId", "dimensionRange") if name in location]
    if named == ["spreadsheet"] and location["spreadsheet"]:
        return Place("SPREADSHEET")
    if named == ["sheetId"]:
        return Place("SHEET", location["sheetId"])
    if named == ["dimensionRange"]:
        span = location["dimensionRange"]
        kind = KIND_OF.get(span.get("dimension", ""))
        start = span.get("startIndex", 0)
        if kind is None or span.get("endIndex") != start + 1 or start < 0:
            raise invalid("The dimension range of developer metadata must represent a single row or column.")
        return Place(kind, span.get("sheetId", 0), start)
    raise invalid("Developer metadata must have exactly one location.")


def moved(entry: Metadata, sheet_id: int, dimension: str, shift: Shift) -> Metadata | None:
    """Where an entry is after rows or columns have moved; None if it went with them."""
    if entry.place.sheet_id != sheet_id or entry.place.kind != KIND_OF[dimension]:
        return entry
    index = shift.index(entry.place.index)
    return None if index is None else replace(entry, place=replace(entry.place, index=index))


def check_room(entries: Iterable[Metadata]) -> None:
    """Raise ApiError where the entries of the spreadsheet, or of one tab, have too many characters."""
    chars: dict[int | None, int] = {}
    for entry in entries:
        chars[entry.place.sheet_id] = chars.get(entry.place.sheet_id, 0) + entry.chars
    for sheet_id, total in chars.items():
        if total > MAX_CHARS:
            where = "spreadsheet" if sheet_id is None else f"sheet {sheet_id}"
            raise invalid(f"Developer metadata of the {where} exceeds the limit of {MAX_CHARS} characters.")


def matches(entry: Metadata, lookup: Json) -> bool:
    """Whether a DeveloperMetadataLookup selects an entry."""
    fields = {
        "metadataId": entry.id,
        "metadataKey": entry.key,
        "metadataValue": entry.value,
        "visibility": entry.visibility,
        "locationType": entry.place.kind,
    }
    if any(name in lookup and lookup[name] != value for name, value in fields.items()):
        return False
    location = lookup.get("metadataLocation")
    if location is None:
        return True
    wanted = place_of(location)
    if lookup.get("locationMatchingStrategy") == "EXACT_LOCATION" or wanted.kind == "SPREADSHEET":
        return entry.place == wanted
    return wanted.sheet_id is not None and entry.place.meets(wanted.sheet_id, wanted.area)


def check_lookup(lookup: Json) -> None:
    if not lookup:
        raise invalid("A developer metadata lookup must have at least one criterion.")
    strategy = lookup.get("locationMatchingStrategy")
    if strategy is not None and "metadataLocation" not in lookup:
        raise invalid("A location matching strategy needs a metadata location.")
    if strategy == "EXACT_LOCATION" and "locationType" in lookup:
        raise invalid("A location type must not be specified with EXACT_LOCATION.")
