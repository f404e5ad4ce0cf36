"""The Sheets emulator's core: how cells are read, and values written, by range and field mask."""

from typing import Any

import pytest
from test_sheets_emulator import ORDERS, WORKER, Desk, appended, noted, rows, text, with_key

from infra.embedded.sheets import HttpCall
from infra.embedded.sheets.discovery import discovery
from infra.embedded.sheets.masks import merge, parse, select
from infra.embedded.sheets.methods import CREATE, READS, WRITES
from infra.embedded.sheets.number_format import formatted
from infra.embedded.sheets.ranges import Area, Bounds, a1, cells_area, column_index, column_letters

RAW = ("valueInputOption", "RAW")
TYPED = ("valueInputOption", "USER_ENTERED")


@pytest.fixture
def desk() -> Desk:
    return Desk()


def message(desk: Desk, method: str, path: str, body: Any = None, *query: tuple[str, str]) -> str:
    reply = desk.of_book(method, path, body, *query)

    assert reply.status == 400, reply.json
    return reply.json["error"]["message"]


# ---------------------------------------------------------------- the spreadsheet


def test_a_mask_decides_what_is_told_and_that_cells_are(desk):
    desk.tab.write([["id", "n"], ["a", 1.5], [None, None]], start_row=1)
    desk.done(noted(7, row=2), noted(8), noted(9, location={"sheetId": ORDERS}))
    fields = (
        "properties.title,sheets(properties(sheetId,title),developerMetadata.metadataId,"
        "data(startRow,rowData(values(userEnteredValue)),rowMetadata(developerMetadata(metadataId)))),"
        "developerMetadata(metadataId)"
    )

    reply = desk.of_book("GET", "", None, ("fields", fields), ("ranges", "Orders!2:4"))

    data = {
        "startRow": 1,
        "rowData": [
            {"values": [{"userEnteredValue": {"stringValue": "id"}}, {"userEnteredValue": {"stringValue": "n"}}]},
            {"values": [{"userEnteredValue": {"stringValue": "a"}}, {"userEnteredValue": {"numberValue": 1.5}}]},
        ],
        "rowMetadata": [{}, {"developerMetadata": [{"metadataId": 7}]}, {}],
    }
    assert reply.json == {
        "properties": {"title": "Shop"},
        "sheets": [
            {
                "properties": {"sheetId": 0, "title": "Orders"},
                "developerMetadata": [{"metadataId": 9}],
                "data": [data],
            }
        ],
        "developerMetadata": [{"metadataId": 8}],
    }


def test_cells_are_told_only_when_asked_for(desk):
    desk.tab.write([["x"]])

    plain = desk.of_book("GET", "").json
    grid = desk.of_book("GET", "", None, ("includeGridData", "true")).json
    everything = desk.of_book("GET", "", None, ("fields", "*")).json

    assert "data" not in plain["sheets"][0]
    assert grid["sheets"][0]["data"][0]["rowData"][0]["values"][0]["formattedValue"] == "x"
    assert everything == grid
    assert plain["spreadsheetUrl"] == f"https://docs.google.com/spreadsheets/d/{desk.book.id}/edit"


def test_only_the_tabs_of_the_ranges_are_told(desk):
    desk.done({"addSheet": {"properties": {"sheetId": 5, "title": "It's 5%"}}})

    reply = desk.of_book("GET", "", None, ("ranges", "'It''s 5%'!B2"), ("includeGridData", "true"))

    assert [sheet["properties"]["sheetId"] for sheet in reply.json["sheets"]] == [5]
    assert reply.json["sheets"][0]["data"][0]["startColumn"] == 1


def test_a_data_filter_reads_the_row_that_metadata_marks(desk):
    desk.tab.write([["a"], ["b"], ["c"]])
    desk.done(noted(7, row=1))
    body = {"dataFilters": [with_key("job")], "includeGridData": True}

    reply = desk.of_book("POST", ":getByDataFilter", body)

    (data,) = reply.json["sheets"][0]["data"]
    assert data["startRow"] == 1
    assert [row["values"][0]["formattedValue"] for row in data["rowData"]] == ["b"]


def test_a_formula_has_an_error_for_its_value_and_an_empty_one_an_empty_text(desk):
    formulas = [{"userEnteredValue": {"formulaValue": formula}} for formula in ("=A2", '=""')]
    desk.done(appended({"values": formulas}))

    reply = desk.of_book("GET", "", None, ("fields", "sheets.data.rowData.values.effectiveValue"))

    values = reply.json["sheets"][0]["data"][0]["rowData"][0]["values"]
    assert values[0]["effectiveValue"]["errorValue"]["type"] == "N_A"
    assert values[1]["effectiveValue"] == {"stringValue": ""}


def test_a_new_spreadsheet_belongs_to_who_made_it(desk):
    body = {"properties": {"title": "Mine"}, "sheets": [{"properties": {"title": "A"}}]}

    told = desk.call("POST", "", body).json

    assert told["properties"]["title"] == "Mine"
    assert desk.call("GET", f"/{told['spreadsheetId']}").status == 200
    assert desk.call("GET", f"/{told['spreadsheetId']}", email="other@example.com").status == 403


# ---------------------------------------------------------------- values


def test_raw_values_stay_what_they_are_and_typed_ones_are_read(desk):
    words = ["=1+1", "1,200.5", "5%", "2026-01-31", "true", "'007", "+A1", "-5", "x"]
    desk.done({"appendDimension": {"sheetId": ORDERS, "dimension": "COLUMNS", "length": 5}})

    desk.of_book("PUT", "/values/A1", {"values": [words]}, RAW)
    raw, evaluated = desk.tab.values(), list(desk.book.evaluated)
    desk.of_book("PUT", "/values/A1", {"values": [words]}, TYPED)

    assert (raw, evaluated) == ([words], [])
    assert desk.tab.values() == [["#N/A", 1200.5, 0.05, 46053, True, "007", "#N/A", -5, "x"]]
    assert desk.book.evaluated == ["=1+1", "=+A1"]
    assert desk.tab.formats()[0, 3] == {"numberFormat": {"type": "DATE", "pattern": "yyyy-mm-dd"}}


def test_null_skips_a_cell_and_an_empty_text_empties_it(desk):
    desk.tab.write([["a", "b", "c"]])

    reply = desk.of_book("PUT", "/values/Orders!A1:C1", {"values": [[None, "", "z"]]}, RAW)

    assert desk.tab.values() == [["a", None, "z"]]
    assert reply.json["updatedRange"] == "Orders!A1:C1"
    assert reply.json["updatedCells"] == 2


def test_values_are_told_as_text_as_they_are_or_as_formulas(desk):
    desk.of_book("PUT", "/values/A1", {"values": [["2026-01-31", "=A1", 1234.5, ""], ["x"]]}, TYPED)

    def told(*query: tuple[str, str]) -> Any:
        return desk.of_book("GET", "/values/Orders!A1:D9", None, *query).json["values"]

    assert told() == [["2026-01-31", "#N/A", "1234.5"], ["x"]]
    assert told(("valueRenderOption", "UNFORMATTED_VALUE")) == [[46053, "#N/A", 1234.5], ["x"]]
    assert told(("valueRenderOption", "FORMULA")) == [[46053, "=A1", 1234.5], ["x"]]
    moments = (("valueRenderOption", "UNFORMATTED_VALUE"), ("dateTimeRenderOption", "FORMATTED_STRING"))
    assert told(*moments) == [["2026-01-31", "#N/A", 1234.5], ["x"]]
    assert told(("majorDimension", "COLUMNS")) == [["2026-01-31", "x"], ["#N/A"], ["1234.5"]]


def test_appended_values_go_below_the_table_in_its_first_column(desk):
    desk.tab.write([["title"], [], [None, "id", "n"], [None, "a", 1]])

    reply = desk.of_book("POST", "/values/Orders:append", {"values": [["b", 2]]}, RAW)

    assert reply.json["tableRange"] == "Orders!B3:C4"
    assert reply.json["updates"]["updatedRange"] == "Orders!B5:C5"
    assert desk.tab.values()[4] == [None, "b", 2]


def test_a_write_that_fails_half_way_changes_nothing(desk):
    data = [{"range": "A1", "values": [["x"]]}, {"range": "Orders!Z9", "values": [["y"]]}]
    body = {"valueInputOption": "RAW", "data": data}

    words = message(desk, "POST", "/values:batchUpdate", body)

    assert words == "Range (Orders!Z9) exceeds grid limits. Max rows: 20, max columns: 5"
    assert desk.tab.values() == []


def test_several_ranges_are_written_read_and_cleared_at_once(desk):
    data = [{"range": "A1", "values": [["x"]]}, {"range": "B2:B3", "values": [[1], [2]]}]

    written = desk.of_book("POST", "/values:batchUpdate", {"valueInputOption": "RAW", "data": data}).json
    read = desk.of_book("GET", "/values:batchGet", None, ("ranges", "A:A"), ("ranges", "Orders!B2:B")).json
    desk.of_book("POST", "/values:batchClear", {"ranges": ["A1"]})
    desk.of_book("POST", "/values/B3:clear")

    assert (written["totalUpdatedCells"], written["totalUpdatedSheets"]) == (3, 1)
    assert [part.get("values") for part in read["valueRanges"]] == [[["x"]], [["1"], ["2"]]]
    assert desk.tab.values() == [[], [None, 1]]


def test_writing_outside_of_the_range_that_was_named_is_refused(desk):
    words = message(desk, "PUT", "/values/Orders!A1:B1", {"values": [["x", "y", "z"]]}, RAW)

    assert words == "Requested writing within range [Orders!A1:B1], but tried writing to column [C]"
    assert message(desk, "PUT", "/values/A1", {"values": [["x"]]}) == "'valueInputOption' is required but not specified"
    assert message(desk, "GET", "/values/Nowhere!A1") == "Unable to parse range: Nowhere!A1"


# ---------------------------------------------------------------- Google's own document


def test_what_the_document_does_not_know_is_refused_in_its_place(desk):
    def refused(request: Any) -> str:
        return message(desk, "POST", ":batchUpdate", {"requests": [request]})

    sheet = {"addSheet": {"properties": {"titel": "x"}}}
    assert refused({"x": {}}) == (
        "Invalid JSON payload received. Unknown name \"x\" at 'requests[0]': Cannot find field."
    )
    assert "Unknown name \"titel\" at 'requests[0].add_sheet.properties'" in refused(sheet)
    assert refused({"deleteSheet": {"sheetId": "1"}}) == (
        "Invalid value at 'requests[0].delete_sheet.sheet_id' (TYPE_INT32), \"1\""
    )
    assert "TYPE_INT32), 2147483648" in refused({"deleteSheet": {"sheetId": 2**31}})
    assert "(TYPE_ENUM)" in refused({"appendDimension": {"dimension": "LINES"}})
    assert "(TYPE_BOOL)" in refused(noted(location={"spreadsheet": 1}))
    assert "(repeated)" in refused(appended(text("x")) | {"appendCells": {"rows": {}}})
    assert "Invalid field mask: note.x" in refused(appended(text("x"), fields="note.x"))


def test_unknown_parameters_and_masks_are_refused(desk):
    assert "Cannot bind query parameter. Field 'grid'" in message(desk, "GET", "", None, ("grid", "1"))
    assert "(TYPE_BOOL)" in message(desk, "GET", "", None, ("includeGridData", "yes"))
    assert "(TYPE_ENUM)" in message(desk, "GET", "/values/A1", None, ("majorDimension", "X"))
    assert message(desk, "GET", "", None, ("fields", "sheets(rows)")) == "Request contains an invalid argument."
    assert message(desk, "GET", "", None, ("fields", "sheets(data")) == "Request contains an invalid argument."


@pytest.mark.parametrize("body", [b"{", b'{"requests": [NaN]}', b"[]", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(desk, body):
    reply = desk.service.handle(HttpCall("POST", f"/v4/spreadsheets/{desk.book.id}:batchUpdate", [], body, WORKER))

    assert reply.status == 400


def test_a_null_is_a_field_that_is_not_set(desk):
    desk.done({"insertDimension": {"range": {**rows(0, 1), "startIndex": None}}})

    assert desk.tab.row_count == 21


def test_methods_that_are_not_there_answer_501_and_paths_that_no_method_has_404(desk):
    copied = desk.of_book("POST", "/sheets/0:copyTo", {"destinationSpreadsheetId": "x"})
    nowhere = desk.of_book("DELETE", "")

    assert (copied.status, nowhere.status) == (501, 404)
    assert {*READS, *WRITES, CREATE} <= {method.name for method in discovery().methods}


# ---------------------------------------------------------------- pieces


@pytest.mark.parametrize(
    ("cells", "area"),
    [
        ("A1", Area(0, 1, 0, 1)),
        ("$B$2:A1", Area(0, 2, 0, 2)),
        ("A:C", Area(0, None, 0, 3)),
        ("2:20", Area(1, 20, 0, None)),
        ("A5:C", Area(4, None, 0, 3)),
        ("A1:1", Area(0, 1, 0, None)),
        ("ZZZ10", Area(9, 10, 18277, 18278)),
        ("A", None),
        ("7", None),
        ("A0", None),
        ("1:A", None),
    ],
)
def test_a1_notation_names_half_open_areas(cells, area):
    assert cells_area(cells) == area


def test_column_letters_and_references_are_written_as_they_are_read():
    assert all(column_index(column_letters(index)) == index for index in range(18278))
    assert a1("It's", Bounds(0, 20, 0, 3)) == "'It''s'!A1:C20"
    assert a1("Q1", Bounds(4, 5, 1, 2)) == "'Q1'!B5"


def test_masks_choose_and_update():
    resource = {"a": {"b": 1, "c": 2}, "d": [{"e": 1, "f": 2}], "g": 3}

    assert select(resource, parse("a.b,d(e)")) == {"a": {"b": 1}, "d": [{"e": 1}]}
    assert select(resource, parse("a/b,a/c,g")) == {"a": {"b": 1, "c": 2}, "g": 3}
    assert select(resource, parse("a(b),a")) == {"a": {"b": 1, "c": 2}}
    assert merge(resource, {"a": {"b": 9}}, parse("a.b,a.c,g")) == {"a": {"b": 9}, "d": resource["d"]}


@pytest.mark.parametrize(
    ("number", "kind", "pattern", "shown"),
    [
        (1234.5, None, "", "1234.5"),
        (0.1 + 0.2, None, "", "0.3"),
        (1e20, None, "", "1E+20"),
        (1234.5, "NUMBER", "#,##0.00", "1,234.50"),
        (-1234.5, "NUMBER", "#,##0.##", "-1,234.5"),
        (-5, "NUMBER", "0;(0)", "(5)"),
        (7, "NUMBER", "0000", "0007"),
        (0.256, "PERCENT", "0.0%", "25.6%"),
        (12.5, "CURRENCY", '"€ "#,##0.00', "€ 12.50"),
        (12345, "SCIENTIFIC", "0.00E+00", "1.23E+04"),
        (46053, "DATE", "yyyy-mm-dd", "2026-01-31"),
        (46053, "DATE", "", "1/31/2026"),
        (46053.5, "DATE_TIME", "dd.mm.yyyy hh:mm:ss", "31.01.2026 12:00:00"),
        (46053.75, "DATE_TIME", "d mmm yyyy h:mm am/pm", "31 Jan 2026 6:00 PM"),
        (1.5, "TIME", "[h]:mm", "36:00"),
        (1e18, "DATE", "yyyy", "1E+18"),
    ],
)
def test_numbers_read_as_their_format_says(number, kind, pattern, shown):
    style = {"numberFormat": {"type": kind, "pattern": pattern}} if kind else None

    assert formatted({"numberValue": number}, style) == shown
