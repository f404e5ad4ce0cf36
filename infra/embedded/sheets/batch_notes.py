"""The requests of a batch that leave something beside the cells: developer metadata and protected ranges."""

from dataclasses import replace

from infra.embedded.sheets.dimension import COLUMNS, ROWS
from infra.embedded.sheets.edit import Edit, update_mask
from infra.embedded.sheets.errors import Json, invalid, not_emulated
from infra.embedded.sheets.grid import Protection
from infra.embedded.sheets.metadata import Metadata, Place, check_lookup, check_room, place_of
from infra.embedded.sheets.ranges import grid_area

VISIBILITIES = ("DOCUMENT", "PROJECT")


def _create(edit: Edit, request: Json) -> Json:
    wanted = request.get("developerMetadata", {})
    if not wanted.get("metadataKey"):
        raise invalid("Developer metadata must have a key.")
    if wanted.get("visibility") not in VISIBILITIES:
        raise invalid("Developer metadata must have a visibility.")
    entry = Metadata(
        id=_metadata_id(edit, wanted.get("metadataId")),
        key=wanted["metadataKey"],
        value=wanted.get("metadataValue", ""),
        visibility=wanted["visibility"],
        project=edit.project,
        place=_checked_place(edit, wanted.get("location", {})),
    )
    edit.book.add_metadata(entry)
    return {"createDeveloperMetadata": {"developerMetadata": entry.to_json()}}


def _metadata_id(edit: Edit, wanted: int | None) -> int:
    if wanted is None:
        return edit.book.new_id(edit.book.metadata)
    if wanted <= 0:
        raise invalid("The metadata ID must be positive.")
    if wanted in edit.book.metadata:
        raise invalid(f"Developer metadata with ID {wanted} already exists.")
    return wanted


def _checked_place(edit: Edit, location: Json) -> Place:
    place = place_of(location)
    if place.sheet_id is not None:
        tab = edit.book.sheet(place.sheet_id)
        limit = {"ROW": tab.count(ROWS), "COLUMN": tab.count(COLUMNS)}.get(place.kind, 1)
        if place.index >= limit:
            raise invalid(f"The dimension range of developer metadata is beyond the sheet's {limit}.")
    return place


def _selected(edit: Edit, data_filters: list[Json]) -> list[Metadata]:
    found: dict[int, Metadata] = {}
    for data_filter in data_filters:
        if "developerMetadataLookup" in data_filter:
            check_lookup(data_filter["developerMetadataLookup"])
        found |= {entry.id: entry for entry in edit.book.selected(data_filter, edit.project)}
    return list(found.values())


def _update(edit: Edit, request: Json) -> Json:
    mask = update_mask(request, "DeveloperMetadata")
    wanted = request.get("developerMetadata", {})
    filters = request.get("dataFilters", [])
    if not filters:
        raise invalid("At least one data filter must be specified.")
    if unknown := set(mask) - {"metadataKey", "metadataValue", "visibility", "location"}:
        raise invalid(f"The field {min(unknown)} of developer metadata cannot be updated.")
    names = set(mask) or {"metadataKey", "metadataValue", "visibility", "location"} & set(wanted)
    updated = [_changed(edit, entry, wanted, names) for entry in _selected(edit, filters)]
    edit.book.metadata.update({entry.id: entry for entry in updated})
    check_room(edit.book.metadata.values())
    return {"updateDeveloperMetadata": {"developerMetadata": [entry.to_json() for entry in updated]}}


def _changed(edit: Edit, entry: Metadata, wanted: Json, names: set[str]) -> Metadata:
    if "metadataKey" in names:
        if not wanted.get("metadataKey"):
            raise invalid("Developer metadata must have a key.")
        entry = replace(entry, key=wanted["metadataKey"])
    if "metadataValue" in names:
        entry = replace(entry, value=wanted.get("metadataValue", ""))
    if "visibility" in names:
        if wanted.get("visibility") not in VISIBILITIES:
            raise invalid("Developer metadata must have a visibility.")
        entry = replace(entry, visibility=wanted["visibility"], project=edit.project)
    if "location" in names:
        entry = replace(entry, place=_checked_place(edit, wanted.get("location", {})))
    return entry


def _delete(edit: Edit, request: Json) -> Json:
    gone = _selected(edit, [request.get("dataFilter", {})])
    for entry in gone:
        del edit.book.metadata[entry.id]
    return {"deleteDeveloperMetadata": {"deletedDeveloperMetadata": [entry.to_json() for entry in gone]}}


def _protect(edit: Edit, request: Json) -> Json:
    wanted = request.get("protectedRange", {})
    if unknown := {"namedRangeId", "tableId", "unprotectedRanges"} & set(wanted):
        raise not_emulated(f"{min(unknown)} of a protected range")
    named = wanted.get("range", {})
    tab = edit.book.sheet(named.get("sheetId", 0))
    taken = {protection_id for other in edit.book.tabs for protection_id in other.protections}
    protection_id = wanted.get("protectedRangeId") or edit.book.new_id(taken)
    if protection_id in taken:
        raise invalid(f"Protected range with id {protection_id} already exists.")
    editors = wanted.get("editors", {}).get("users") or [edit.email]
    protection = Protection(
        protection_id,
        grid_area(named),
        frozenset(user.lower() for user in editors),
        wanted.get("description", ""),
        wanted.get("warningOnly", False),
    )
    tab.protections[protection_id] = protection
    may_edit = edit.book.may_edit(protection.editors, edit.email)
    return {"addProtectedRange": {"protectedRange": protection.to_json(tab.id, may_edit=may_edit)}}


def _unprotect(edit: Edit, request: Json) -> None:
    protection_id = request.get("protectedRangeId", 0)
    for tab in edit.book.tabs:
        protection = tab.protections.get(protection_id)
        if protection is not None:
            edit.check_writable(tab, protection.area)
            del tab.protections[protection_id]
            return
    raise invalid(f"No protected range with id: {protection_id}")


NOTE_REQUESTS = {
    "createDeveloperMetadata": _create,
    "updateDeveloperMetadata": _update,
    "deleteDeveloperMetadata": _delete,
    "addProtectedRange": _protect,
    "deleteProtectedRange": _unprotect,
}
