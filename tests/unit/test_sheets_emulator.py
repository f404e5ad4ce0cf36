"""The Sheets emulator's core: what a batch may do, and what is refused in Google's words."""

import json
from typing import Any

import pytest

from infra.embedded.sheets import (
    OWNER,
    ApplyThen,
    Book,
    Call,
    Fault,
    Hang,
    HttpCall,
    LoseReply,
    Refuse,
    Reply,
    ReplyLost,
    SheetsService,
)

WORKER = "worker@dropchute-dev.iam.gserviceaccount.com"
ORDERS = 0


class Desk:
    """One spreadsheet with a tab "Orders" (id 0), and somebody who calls the API about it."""

    def __init__(self, **options: Any) -> None:
        self.service = SheetsService(**{"requests_per_minute": None, **options})
        self.book: Book = self.service.create("Shop", tabs=("Orders",), rows=20, columns=5)
        self.service.share(self.book.id, WORKER, "writer")
        self.tab = self.book.tab("Orders")

    def call(self, method: str, path: str, body: Any = None, *query: tuple[str, str], **who: Any) -> Reply:
        data = b"" if body is None else json.dumps(body).encode()
        caller = {"email": WORKER, "project": "dropchute-dev", **who}
        return self.service.handle(HttpCall(method, f"/v4/spreadsheets{path}", list(query), data, **caller))

    def of_book(self, method: str, path: str, body: Any = None, *query: tuple[str, str], **who: Any) -> Reply:
        return self.call(method, f"/{self.book.id}{path}", body, *query, **who)

    def batch(self, *requests: Any, **who: Any) -> Reply:
        return self.of_book("POST", ":batchUpdate", {"requests": list(requests)}, **who)

    def done(self, *requests: Any, **who: Any) -> list[Any]:
        reply = self.batch(*requests, **who)

        assert reply.status == 200, reply.json
        return reply.json["replies"]

    def refused(self, *requests: Any, **who: Any) -> str:
        """The words of a refusal, after which the spreadsheet is as it was."""
        before = self.snapshot()
        reply = self.batch(*requests, **who)

        assert reply.status == 400, reply.json
        assert self.snapshot() == before
        return reply.json["error"]["message"]

    def snapshot(self) -> Any:
        tabs = [(tab.properties, tab.cells(), tab.formats(), tab.sizes, tab.protections) for tab in self.book.tabs]
        return self.book.properties, dict(self.book.metadata), [*tabs]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def text(*words: str) -> dict[str, Any]:
    return {"values": [{"userEnteredValue": {"stringValue": word}} for word in words]}


def appended(*rows: Any, fields: str = "userEnteredValue") -> dict[str, Any]:
    return {"appendCells": {"sheetId": ORDERS, "rows": list(rows), "fields": fields}}


def rows(start: int, end: int) -> dict[str, Any]:
    return {"sheetId": ORDERS, "dimension": "ROWS", "startIndex": start, "endIndex": end}


def noted(number: int | None = None, *, row: int | None = None, **changes: Any) -> dict[str, Any]:
    location = {"spreadsheet": True} if row is None else {"dimensionRange": rows(row, row + 1)}
    entry = {"metadataKey": "job", "metadataValue": "v", "visibility": "PROJECT", "location": location, **changes}
    return {
        "createDeveloperMetadata": {"developerMetadata": entry | ({} if number is None else {"metadataId": number})}
    }


def with_key(key: str) -> dict[str, Any]:
    return {"developerMetadataLookup": {"metadataKey": key}}


# ---------------------------------------------------------------- batches


def test_appended_rows_come_after_the_last_row_with_a_value(desk):
    desk.tab.write([["id"], ["1"]])
    bold = {"values": [{"userEnteredFormat": {"textFormat": {"bold": True}}}]}
    start = {"sheetId": ORDERS, "rowIndex": 9, "columnIndex": 0}
    desk.done({"updateCells": {"start": start, "rows": [bold], "fields": "userEnteredFormat"}})

    desk.done(appended(text("2", "x"), {"values": [{}, {"userEnteredValue": {"numberValue": 2.0}}]}))

    assert desk.tab.values() == [["id"], ["1"], ["2", "x"], [None, 2]]
    assert desk.tab.formats() == {(9, 0): {"textFormat": {"bold": True}}}


def test_appending_grows_the_rows_and_refuses_a_column_too_many(desk):
    desk.tab.write([["x"]] * 20)

    desk.done(appended(text("y"), text("z")))

    assert desk.tab.row_count == 22
    assert desk.refused(appended(text(*"abcdef"))) == (
        "Invalid requests[0].appendCells: Attempting to write column: 5, beyond the last requested column of: 4"
    )


def test_a_batch_is_applied_whole_or_not_at_all(desk):
    message = desk.refused(
        noted(7, row=2),
        appended(text("lost")),
        {"addSheet": {"properties": {"title": "New"}}},
        {"insertDimension": {"range": rows(0, 3)}},
        {"addSheet": {"properties": {"title": "orders"}}},
    )

    assert message == (
        'Invalid requests[4].addSheet: A sheet with the name "orders" already exists. Please enter another name.'
    )


def test_a_tab_object_stays_the_same_after_a_refused_batch(desk):
    desk.refused({"deleteSheet": {"sheetId": ORDERS}})

    desk.done(appended(text("x")))

    assert desk.book.tab("Orders") is desk.tab
    assert desk.tab.values() == [["x"]]


def test_a_request_that_is_not_supported_says_so(desk):
    reply = desk.batch({"randomizeRange": {"range": {"sheetId": ORDERS}}})

    assert (reply.status, reply.json["error"]["status"]) == (501, "UNIMPLEMENTED")


def test_an_empty_batch_and_an_empty_request_are_refused(desk):
    assert desk.refused() == "Must specify at least one request."
    assert desk.refused({}) == "Invalid requests[0]: No request set."
    assert "oneof field 'kind' is already set" in desk.refused({**appended(text("x")), **noted()})


def test_the_reply_holds_the_spreadsheet_where_it_was_asked_for(desk):
    body = {
        "requests": [appended(text("x"))],
        "includeSpreadsheetInResponse": True,
        "responseIncludeGridData": True,
        "responseRanges": ["Orders!A1:A1"],
    }
    fields = ("fields", "replies,updatedSpreadsheet.sheets.data.rowData.values.userEnteredValue")

    reply = desk.of_book("POST", ":batchUpdate", body, fields)

    told = {"sheets": [{"data": [{"rowData": [{"values": [{"userEnteredValue": {"stringValue": "x"}}]}]}]}]}
    assert reply.json == {"replies": [{}], "updatedSpreadsheet": told}


# ---------------------------------------------------------------- rows and columns


def test_metadata_sizes_and_protection_move_along_with_their_rows(desk):
    desk.tab.write([["a"], ["b"], ["c"]])
    area = {"sheetId": ORDERS, "startRowIndex": 1, "endRowIndex": 2}
    desk.done(
        noted(7, row=1),
        {
            "updateDimensionProperties": {
                "range": rows(1, 2),
                "properties": {"hiddenByUser": True},
                "fields": "hiddenByUser",
            }
        },
        {"addProtectedRange": {"protectedRange": {"range": area, "editors": {"users": [WORKER]}}}},
    )

    desk.done({"insertDimension": {"range": rows(0, 2)}}, {"deleteDimension": {"range": rows(2, 3)}})

    assert desk.tab.values() == [[], [], ["b"], ["c"]]
    assert desk.book.metadata[7].place.index == 2
    assert desk.tab.sizes["ROWS"] == {2: {"hiddenByUser": True}}
    assert [protection.area.start_row for protection in desk.tab.protections.values()] == [2]


def test_rows_inserted_at_a_marked_row_push_it_down(desk):
    desk.tab.write([["a"], ["b"]])
    desk.done(noted(7, row=1))

    desk.done({"insertDimension": {"range": rows(1, 3)}}, {"insertDimension": {"range": rows(4, 5)}})

    assert desk.book.metadata[7].place.index == 3
    assert desk.tab.values() == [["a"], [], [], ["b"]]
    assert desk.tab.row_count == 23


def test_a_deleted_row_takes_its_metadata_with_it(desk):
    desk.done(noted(7, row=3))

    desk.done({"deleteDimension": {"range": rows(3, 4)}})

    assert desk.book.metadata == {}
    assert desk.tab.row_count == 19


def test_an_inserted_row_inherits_the_format_of_the_side_it_was_told(desk):
    bold, italic = ({"userEnteredFormat": {"textFormat": {name: True}}} for name in ("bold", "italic"))
    start = {"sheetId": ORDERS}
    styled = {"start": start, "rows": [{"values": [bold]}, {"values": [italic]}], "fields": "userEnteredFormat"}
    desk.done({"updateCells": styled})

    desk.done({"insertDimension": {"range": rows(1, 2), "inheritFromBefore": True}})
    desk.done({"insertDimension": {"range": rows(2, 3)}})

    formats = [desk.tab.formats()[row, 0]["textFormat"] for row in range(4)]
    assert formats == [{"bold": True}, {"bold": True}, {"italic": True}, {"italic": True}]


def test_rows_that_cannot_be_inserted_or_deleted_are_refused(desk):
    first = {"insertDimension": {"range": rows(0, 1), "inheritFromBefore": True}}
    everything = {"deleteDimension": {"range": rows(0, 20)}}
    missing = {"deleteDimension": {"range": rows(19, 21)}}

    assert desk.refused(first).startswith("Invalid requests[0].insertDimension: inheritFromBefore")
    assert (
        desk.refused(everything) == "Invalid requests[0].deleteDimension: You can't delete all the rows on the sheet."
    )
    assert desk.refused(missing) == (
        "Invalid requests[0].deleteDimension: Cannot delete a row that doesn't exist. "
        "Tried to delete row index 20 but there are only 20 rows."
    )


def test_moved_and_sorted_rows_hold_their_cells_together(desk):
    desk.tab.write([["c", 3], ["a", 1], ["b", 2], [None, 9]])
    desk.done(noted(7, row=0))
    area = {"sheetId": ORDERS, "endRowIndex": 4, "endColumnIndex": 2}

    desk.done({"moveDimension": {"source": rows(0, 1), "destinationIndex": 3}})
    moved = desk.tab.values()
    desk.done({"sortRange": {"range": area, "sortSpecs": [{"sortOrder": "DESCENDING"}]}})

    assert moved == [["a", 1], ["b", 2], ["c", 3], [None, 9]]
    assert desk.tab.values() == [["c", 3], ["b", 2], ["a", 1], [None, 9]]
    assert desk.book.metadata[7].place.index == 2


def test_columns_are_inserted_deleted_and_moved_like_rows(desk):
    desk.tab.write([["a", "b", "c"]])
    span = {"sheetId": ORDERS, "dimension": "COLUMNS", "startIndex": 1, "endIndex": 2}

    desk.done({"insertDimension": {"range": span}})
    inserted = desk.tab.values()
    desk.done({"moveDimension": {"source": span, "destinationIndex": 0}}, {"deleteDimension": {"range": span}})

    assert inserted == [["a", None, "b", "c"]]
    assert desk.tab.values() == [[None, "b", "c"]]
    assert desk.tab.column_count == 5


# ---------------------------------------------------------------- tabs


def test_a_tab_is_added_with_its_id_and_shown_by_a_later_batch(desk):
    added = desk.done({"addSheet": {"properties": {"sheetId": 44, "title": "Part", "hidden": True, "index": 0}}})
    hidden = [tab.title for tab in desk.book.tabs if tab.hidden]
    shown = {"properties": {"sheetId": 44, "title": "Answer", "hidden": False}, "fields": "hidden,title"}
    desk.done({"updateSheetProperties": shown})

    assert added[0]["addSheet"]["properties"]["index"] == 0
    assert hidden == ["Part"]
    assert [(tab.title, tab.hidden) for tab in desk.book.tabs] == [("Answer", False), ("Orders", False)]


def test_the_last_visible_tab_stays(desk):
    desk.done({"addSheet": {"properties": {"sheetId": 44, "hidden": True}}})
    hide = {"updateSheetProperties": {"properties": {"sheetId": ORDERS, "hidden": True}, "fields": "hidden"}}

    assert desk.refused({"deleteSheet": {"sheetId": ORDERS}}) == (
        "Invalid requests[0].deleteSheet: You can't remove all the visible sheets in a document."
    )
    assert "visible sheets" in desk.refused(hide)


def test_a_deleted_tab_takes_its_metadata_with_it(desk):
    desk.done({"addSheet": {"properties": {"sheetId": 44}}}, noted(7, location={"sheetId": 44}), noted(8))

    desk.done({"deleteSheet": {"sheetId": 44}})

    assert list(desk.book.metadata) == [8]


def test_a_tab_moves_to_the_index_counted_before_the_move(desk):
    desk.done({"addSheet": {"properties": {"sheetId": 1, "title": "B"}}})
    desk.done({"addSheet": {"properties": {"sheetId": 2, "title": "C"}}})

    desk.done({"updateSheetProperties": {"properties": {"sheetId": ORDERS, "index": 2}, "fields": "index"}})

    assert [tab.title for tab in desk.book.tabs] == ["B", "Orders", "C"]


# ---------------------------------------------------------------- cells


def test_a_text_is_never_evaluated_and_a_formula_is_remembered(desk):
    desk.done(appended(text("=1+1", "+1", "@x")))
    plain = list(desk.book.evaluated)
    desk.done(appended({"values": [{"userEnteredValue": {"formulaValue": '=IMPORTXML("x")'}}]}))

    assert plain == []
    assert desk.tab.values() == [["=1+1", "+1", "@x"], ["#N/A"]]
    assert desk.book.evaluated == ['=IMPORTXML("x")']


def test_a_mask_changes_only_what_it_names_and_clears_what_is_missing(desk):
    day = {"numberFormat": {"type": "DATE", "pattern": "yyyy-mm-dd"}, "textFormat": {"bold": True}}
    cell = {"userEnteredValue": {"numberValue": 45000}, "userEnteredFormat": day, "note": "n"}
    start = {"sheetId": ORDERS}
    desk.done({"updateCells": {"start": start, "rows": [{"values": [cell]}], "fields": "*"}})

    other = {"userEnteredValue": {"numberValue": 1}, "userEnteredFormat": {"textFormat": {"bold": False}}}
    mask = "userEnteredFormat.numberFormat,userEnteredFormat.textFormat.italic"
    desk.done({"updateCells": {"start": start, "rows": [{"values": [other]}], "fields": mask}})
    desk.done({"updateCells": {"range": {"sheetId": ORDERS}, "fields": "note"}})

    assert desk.tab.cells() == {(0, 0): {"numberValue": 45000}}
    assert desk.tab.formats() == {(0, 0): {"textFormat": {"bold": True}}}
    assert desk.tab.cell(0, 0).note is None


def test_a_cell_takes_exactly_one_value_of_at_most_50000_characters(desk):
    two = {"values": [{"userEnteredValue": {"stringValue": "1", "numberValue": 1}}]}

    assert "exactly one" in desk.refused(appended(two))
    assert desk.refused(appended(text("x" * 50_001))) == (
        "Invalid requests[0].appendCells: "
        "Your input contains more than the maximum of 50000 characters in a single cell."
    )
    assert "At least one field" in desk.refused(appended(text("x"), fields=""))


def test_pasted_values_leave_the_format_of_what_they_cover(desk):
    desk.tab.write([["a", "b"]])
    bold = {"userEnteredFormat": {"textFormat": {"bold": True}}}
    source = {"sheetId": ORDERS, "endRowIndex": 1, "endColumnIndex": 2}
    target = {"sheetId": ORDERS, "startRowIndex": 2, "endRowIndex": 4, "endColumnIndex": 2}

    desk.done(
        {"repeatCell": {"range": target, "cell": bold, "fields": "userEnteredFormat"}},
        {"copyPaste": {"source": source, "destination": target, "pasteType": "PASTE_VALUES"}},
    )

    assert desk.tab.values() == [["a", "b"], [], ["a", "b"], ["a", "b"]]
    assert len(desk.tab.formats()) == 4


def test_writing_beyond_the_grid_is_refused(desk):
    far = {"updateCells": {"start": {"sheetId": ORDERS, "rowIndex": 20}, "rows": [text("x")], "fields": "*"}}
    wide = {"repeatCell": {"range": {"sheetId": ORDERS, "endRowIndex": 21}, "cell": {}, "fields": "note"}}

    assert "GridCoordinate.rowIndex[20] is after last row in grid[19]" in desk.refused(far)
    assert desk.refused(wide) == (
        "Invalid requests[0].repeatCell: Range (Orders!A1:E21) exceeds grid limits. Max rows: 20, max columns: 5"
    )
    assert "No grid with id: 9" in desk.refused({"appendDimension": {"sheetId": 9, "dimension": "ROWS", "length": 1}})


def test_a_workbook_holds_ten_million_cells(desk):
    desk.done({"appendDimension": {"sheetId": ORDERS, "dimension": "ROWS", "length": 1_999_980}})

    assert desk.refused({"appendDimension": {"sheetId": ORDERS, "dimension": "ROWS", "length": 1}}) == (
        "Invalid requests[0].appendDimension: This action would increase the number of cells in the workbook "
        "above the limit of 10000000 cells."
    )


# ---------------------------------------------------------------- developer metadata


def test_an_id_that_is_taken_is_refused_with_the_rows_beside_it(desk):
    desk.done(noted(7), appended(text("once")))

    message = desk.refused(noted(7), appended(text("twice")))

    assert message == "Invalid requests[0].createDeveloperMetadata: Developer metadata with ID 7 already exists."
    assert "must be positive" in desk.refused(noted(0))


def test_metadata_is_found_by_key_value_id_and_place(desk):
    desk.done(noted(1, row=2), noted(2, metadataKey="other"), noted(3, location={"sheetId": ORDERS}))

    def found(**lookup: Any) -> list[int]:
        body = {"dataFilters": [{"developerMetadataLookup": lookup}]}
        reply = desk.of_book("POST", "/developerMetadata:search", body)
        return [match["developerMetadata"]["metadataId"] for match in reply.json.get("matchedDeveloperMetadata", [])]

    assert found(metadataKey="job") == [1, 3]
    assert found(metadataKey="job", metadataValue="w") == []
    assert found(metadataId=2) == [2]
    assert found(locationType="ROW") == [1]
    assert found(metadataLocation={"dimensionRange": rows(2, 3)}) == [1, 3]
    exact = {"locationMatchingStrategy": "EXACT_LOCATION"}
    assert found(metadataLocation={"dimensionRange": rows(2, 3)}, **exact) == [1]
    assert found(metadataLocation={"dimensionRange": rows(3, 4)}, **exact) == []


def test_metadata_of_a_project_is_hidden_from_others(desk):
    desk.done(noted(7), noted(8, visibility="DOCUMENT"))

    ours = desk.of_book("GET", "/developerMetadata/7")
    theirs = desk.of_book("GET", "/developerMetadata/7", project="other")
    listed = desk.of_book("GET", "", None, ("fields", "developerMetadata.metadataId"), project="other")

    assert ours.json["metadataValue"] == "v"
    assert theirs.status == 404
    assert listed.json == {"developerMetadata": [{"metadataId": 8}]}


def test_metadata_is_updated_and_deleted_by_filter_and_matching_nothing_is_no_error(desk):
    desk.done(noted(7), noted(8))
    change = {"dataFilters": [with_key("job")], "developerMetadata": {"metadataValue": "w"}, "fields": "metadataValue"}

    desk.done({"updateDeveloperMetadata": change})
    values = {entry.value for entry in desk.book.metadata.values()}
    gone = desk.done({"deleteDeveloperMetadata": {"dataFilter": with_key("job")}})
    nothing = desk.done({"deleteDeveloperMetadata": {"dataFilter": with_key("job")}})

    assert values == {"w"}
    assert len(gone[0]["deleteDeveloperMetadata"]["deletedDeveloperMetadata"]) == 2
    assert nothing == [{"deleteDeveloperMetadata": {"deletedDeveloperMetadata": []}}]
    assert desk.book.metadata == {}


def test_metadata_has_30000_characters_for_the_spreadsheet_and_for_each_tab(desk):
    desk.done(noted(1, metadataValue="x" * 29_997), noted(2, row=0, metadataValue="x" * 20_000))

    assert "30000 characters" in desk.refused(noted(3))
    assert "30000 characters" in desk.refused(noted(3, location={"sheetId": ORDERS}, metadataValue="x" * 10_000))


def test_metadata_belongs_to_exactly_one_row_or_column(desk):
    assert "single row or column" in desk.refused(noted(location={"dimensionRange": rows(0, 2)}))
    assert "beyond the sheet" in desk.refused(noted(row=20))
    assert "visibility" in desk.refused(noted(visibility="DEVELOPER_METADATA_VISIBILITY_UNSPECIFIED"))
    assert "must have a key" in desk.refused(noted(metadataKey=""))


# ---------------------------------------------------------------- protection


def test_only_an_editor_writes_into_a_protected_range(desk):
    area = {"sheetId": ORDERS, "startRowIndex": 0, "endRowIndex": 3}
    protect = {"addProtectedRange": {"protectedRange": {"range": area, "editors": {"users": ["boss@example.com"]}}}}
    added = desk.done(protect, email=OWNER)
    protection_id = added[0]["addProtectedRange"]["protectedRange"]["protectedRangeId"]
    words = (
        "You are trying to edit a protected cell or object. "
        "Please contact the spreadsheet owner to remove protection if you need to edit."
    )

    assert desk.refused(appended(text("x"))) == f"Invalid requests[0].appendCells: {words}"
    assert words in desk.refused({"deleteDimension": {"range": rows(2, 3)}})
    assert words in desk.refused({"deleteProtectedRange": {"protectedRangeId": protection_id}})
    told = desk.of_book("PUT", "/values/A1", {"values": [["x"]]}, ("valueInputOption", "RAW"))
    assert told.json["error"]["message"] == words
    desk.done({"insertDimension": {"range": rows(5, 6)}})
    desk.done(appended(text("x")), email=OWNER)


# ---------------------------------------------------------------- refusals of whole calls


def test_each_kind_of_refusal_has_googles_code_and_words():
    desk = Desk()
    desk.service.share(desk.book.id, "reader@example.com", "reader")

    def error(reply: Reply) -> tuple[int, str, str]:
        told = reply.json["error"]
        return reply.status, told["status"], told["message"]

    denied = (403, "PERMISSION_DENIED", "The caller does not have permission")
    assert error(desk.batch(noted(), email="reader@example.com")) == denied
    assert error(desk.of_book("GET", "", email="nobody@example.com")) == denied
    assert desk.of_book("GET", "", email="reader@example.com").status == 200
    assert error(desk.call("GET", "/unknown")) == (404, "NOT_FOUND", "Requested entity was not found.")
    assert error(desk.of_book("GET", "", email=None))[:2] == (401, "UNAUTHENTICATED")
    desk.book.office_file = True
    words = "This operation is not supported for this document"
    assert error(desk.of_book("GET", "")) == (400, "FAILED_PRECONDITION", words)


def test_reads_and_writes_have_a_quota_each_that_comes_back_after_a_minute():
    now = [1000.0]
    desk = Desk(requests_per_minute=2, clock=lambda: now[0])

    statuses = [desk.of_book("GET", "").status for _ in range(3)]
    written = [desk.batch(appended(text("x"))) for _ in range(3)]
    now[0] += 60
    later = desk.batch(appended(text("x")))

    assert statuses == [200, 200, 429]
    assert [reply.status for reply in (*written, later)] == [200, 200, 429, 200]
    error = written[2].json["error"]
    assert error["status"] == "RESOURCE_EXHAUSTED"
    assert error["message"].startswith(
        "Quota exceeded for quota metric 'Write requests' and limit 'Write requests per minute per user' "
        "of service 'sheets.googleapis.com' for consumer 'project_number:"
    )
    assert desk.tab.values() == [["x"]] * 3


def test_a_body_over_ten_mebibytes_is_refused(desk):
    body = b'{"requests": []}' + b" " * 10_485_760

    reply = desk.service.handle(HttpCall("POST", f"/v4/spreadsheets/{desk.book.id}:batchUpdate", [], body, WORKER))

    assert (reply.status, reply.json["error"]["message"]) == (
        400,
        "Request payload size exceeds the limit: 10485760 bytes.",
    )


# ---------------------------------------------------------------- faults


def test_a_fault_is_asked_before_each_call_and_decides_its_end(desk):
    asked: list[Call] = []
    faults: list[Fault | None] = [Refuse(503), ApplyThen(500), LoseReply(), Hang(3), None]

    def fault(call: Call) -> Fault | None:
        asked.append(call)
        return faults[call.number - 1]

    desk.service.fault = fault
    statuses = [desk.batch(appended(text(word))).status for word in ("refused", "told wrong")]
    with pytest.raises(ReplyLost) as lost:
        desk.batch(appended(text("lost")))
    late = desk.batch(appended(text("late")))
    read = desk.of_book("GET", "")

    assert statuses == [503, 500]
    assert lost.value.reply.status == 200
    assert (late.status, late.after_seconds, read.status) == (200, 3, 200)
    assert desk.tab.values() == [["told wrong"], ["lost"], ["late"]]
    assert asked == desk.service.calls
    assert [(call.method, call.is_write) for call in asked[3:]] == [
        ("spreadsheets.batchUpdate", True),
        ("spreadsheets.get", False),
    ]
