"""The plan: which row is the header, which tab is meant, and whether there is room."""

import pytest

from consumers.delivery.sheet.book import MAX_COLUMNS, Book, a1
from consumers.delivery.sheet.plan import MAX_CELLS, find_header, find_tab, free_title, plan_append
from consumers.delivery.sheet.rows import Column
from consumers.errors import Permanent
from events.manifest import GoogleSheetDestination
from events.results import FailureCode

LINK = "https://docs.google.com/spreadsheets/d/1234567890abcdefghij/edit"


def cell(value):
    match value:
        case None:
            return {}
        case bool():
            told = {"boolValue": value}
        case str():
            told = {"stringValue": value}
        case _:
            told = {"numberValue": value}
    return {"userEnteredValue": told, "effectiveValue": told}


def sheet(rows=(), *, tab_id=0, title="Sheet1", index=0, height=1000, width=26, **properties):
    grid = {"rowCount": height, "columnCount": width}
    told = {"sheetId": tab_id, "title": title, "index": index, "gridProperties": grid, **properties}
    return {"properties": told, "data": [{"rowData": [{"values": [cell(value) for value in row]} for row in rows]}]}


def book(*sheets):
    return Book.model_validate({"sheets": list(sheets)})


def plan(rows, names, *, count=1, last_row=None, height=1000, width=26, others=()):
    whole = book(sheet(rows, height=height, width=width), *others)
    tab = whole.sheets[0]
    end = tab.last_data_row() if last_row is None else last_row
    return plan_append(whole, tab, [Column(name=name, kind="text") for name in names], rows=count, last_row=end)


def wanted(**fields):
    return GoogleSheetDestination.model_validate({"type": "google_sheet", "url": LINK, **fields})


# ---------------------------------------------------------------- the header


@pytest.mark.parametrize(
    ("rows", "names", "header"),
    [
        ([], ["a"], None),
        ([[None], ["", False]], ["a"], None),
        ([["a", "b"], ["x", "y"]], ["a"], 0),
        ([["Title"], [], ["a", "b"]], ["b"], 2),
        ([["a report"], ["a", "b"]], ["a", "b"], 1),
        ([["a", "x"], ["a", "b"]], ["a", "b"], 1),
        ([["a", "b"], ["a", "b"]], ["a", "b"], 0),
        ([["x", "y"], [1, 2]], ["a"], 0),
        ([["Title"], ["x", "y"], [1, 2]], ["a"], 1),
        ([["x"], ["one"], ["two"]], ["a"], 0),
        ([[1, 2], ["a", 3]], ["a"], 1),
    ],
)
def test_the_header_is_the_row_that_names_most_of_ours_or_the_first(rows, names, header):
    assert find_header(book(sheet(rows)).sheets[0], names) == header


@pytest.mark.parametrize("rows", [[[1]], [["x", 2]], [[True]], [["Title"], ["x", 1]], [[], [46000, "x"]]])
def test_values_are_no_header(rows):
    with pytest.raises(Permanent) as error:
        find_header(book(sheet(rows)).sheets[0], ["a"])

    assert error.value.code is FailureCode.SHEET_NO_HEADER


def test_a_header_stands_among_the_first_twenty_rows():
    rows = [["x", "y"], *[[]] * 18, ["a"], ["a", "b"]]

    assert find_header(book(sheet(rows)).sheets[0], ["a", "b"]) == 19


def test_data_without_anything_above_has_no_header():
    with pytest.raises(Permanent) as error:
        plan([], ["a"], last_row=30)

    assert error.value.code is FailureCode.SHEET_NO_HEADER
    assert "Row 31" in error.value.message


# ---------------------------------------------------------------- the places


def test_rows_go_below_the_data_into_the_columns_of_their_names():
    made = plan([["b", None, "a"], ["x"], ["y"]], ["a", "c", "b", "d"])

    assert (made.first_row, made.header_row, made.header_end) == (3, 0, 3)
    assert made.places == (2, 3, 0, 4)
    assert made.added == (1, 3)


def test_a_header_without_rows_gets_them_right_below():
    assert plan([[], ["a"]], ["a"]).first_row == 2


def test_a_blank_tab_gets_header_and_rows_at_its_top():
    made = plan([], ["a", "b"])

    assert (made.first_row, made.header_row, made.places, made.added) == (0, None, (0, 1), ())


def test_a_header_of_a_space_is_one():
    assert plan([[" "]], ["a"]).places == (1,)


# ---------------------------------------------------------------- the room


def filler(cells):
    return sheet(tab_id=1, title="Filler", height=cells, width=1)


@pytest.mark.parametrize(("room", "fits"), [(2 * 26, True), (2 * 26 - 1, False)])
def test_rows_are_as_wide_as_the_grid(room, fits):
    others = [filler(MAX_CELLS - 1000 * 26 - room)]
    if fits:
        assert plan([["a"]], ["a"], count=2, others=others).first_row == 1
    else:
        with pytest.raises(Permanent) as error:
            plan([["a"]], ["a"], count=2, others=others)

        assert error.value.code is FailureCode.SHEET_FULL


@pytest.mark.parametrize(("room", "fits"), [(1000 + 27, True), (1000 + 26, False)])
def test_a_column_more_is_as_long_as_the_grid(room, fits):
    others = [filler(MAX_CELLS - 1000 * 26 - room)]
    if fits:
        assert plan([["a"]], ["b"], others=others).places == (1,)
    else:
        with pytest.raises(Permanent):
            plan([["a"]], ["b"], others=others)


@pytest.mark.parametrize(("width", "fits"), [(MAX_COLUMNS - 1, True), (MAX_COLUMNS, False)])
def test_a_tab_has_no_more_columns_than_google_allows(width, fits):
    if fits:
        assert plan([["a"]], ["b"], height=2, width=width).places == (1,)
    else:
        with pytest.raises(Permanent) as error:
            plan([["a"]], ["b"], height=2, width=width)

        assert error.value.code is FailureCode.SHEET_FULL


# ---------------------------------------------------------------- the tab


TABS = book(
    sheet(tab_id=3, title="Third", index=2),
    sheet(tab_id=9, title="Chart", index=0, sheetType="OBJECT"),
    sheet(tab_id=1, title="First", index=1),
    sheet(tab_id=4, title="first", index=3),
    sheet(tab_id=5, title="Secret", index=4, hidden=True),
)


@pytest.mark.parametrize(
    ("fields", "tab"),
    [
        ({}, 1),
        ({"url": f"{LINK}#gid=3"}, 3),
        ({"url": f"{LINK}?gid=3", "sheet": "First"}, 1),
        ({"sheet": "first"}, 4),
        ({"sheet": " FIRST "}, 1),
        ({"sheet": "third"}, 3),
    ],
)
def test_a_tab_is_found_by_name_or_link_or_is_the_first(fields, tab):
    assert find_tab(TABS, wanted(**fields)).id == tab


@pytest.mark.parametrize("fields", [{"sheet": "Secret"}, {"sheet": "Chart"}, {"sheet": "x"}, {"url": f"{LINK}#gid=5"}])
def test_tabs_that_cannot_be_seen_or_hold_no_cells_are_missing(fields):
    with pytest.raises(Permanent) as error:
        find_tab(TABS, wanted(**fields))

    assert error.value.code is FailureCode.SHEET_TAB_MISSING
    assert "“First”, “Third”, “first”" in error.value.message
    assert "Secret”," not in error.value.message.partition("Its tabs are")[2]


def test_a_free_title_is_the_wanted_one_or_has_a_number():
    tabs = book(sheet(title="Result"), sheet(tab_id=1, title="result (2)"))

    assert [free_title(tabs, title) for title in ("Other", "RESULT")] == ["Other", "RESULT (3)"]


def test_a_range_names_whole_rows_of_any_tab():
    assert a1("It's 5%", 0, 20) == "'It''s 5%'!1:20"
    assert a1("T", 4, 6, range(26)) == "'T'!A5:Z6"
    assert a1("T", 0, 1, range(26, 18_278)) == "'T'!AA1:ZZZ1"
