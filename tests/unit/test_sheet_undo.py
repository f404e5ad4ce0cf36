"""What an undo takes away: exactly what the job had added, or nothing at all."""

import asyncio

import pytest
from sheet_kit import SheetKit, Told
from sheets_in_process import ACCOUNT, SpreadsheetsInProcess

from consumers.delivery.sheet import marks, requests
from consumers.drop import Answer
from consumers.errors import Permanent, SheetRefused, SheetUnclear, Transient
from events.results import FailureCode
from infra.embedded.sheets.book import OWNER
from infra.embedded.sheets.calls import ApplyThen, LoseReply, Refuse
from infra.embedded.sheets.cell import Cell
from infra.embedded.sheets.ranges import Area

COLUMNS = [("Name", "text"), ("Day", "date"), ("Amount", "number")]
NAMES = ["Name", "Day", "Amount"]
ROWS = [["Anna", 46000, 1.5], ["Ben", 46001, 2], ["Cleo", 46002, 3]]
BEFORE = [NAMES, ["Zoe", 45000, 7], ["Yan", 45001, 8]]
LONG = [("Text", "text")]
LONG_ROWS = [[f"{number:03}" + "x" * 45_000] for number in range(100)]


@pytest.fixture
def kit(tmp_path):
    kit = SheetKit(tmp_path)
    kit.tab().write(BEFORE)
    return kit


@pytest.fixture
def blank(tmp_path):
    return SheetKit(tmp_path)


async def appended(kit, columns=COLUMNS, rows=ROWS, **destination):
    drop = kit.drop(**destination)
    await kit.deliver(drop, columns, rows)
    return drop


async def refusal(kit, drop):
    tabs = [tab.values() for tab in kit.book.tabs]
    with pytest.raises(Permanent) as error:
        await kit.undo(drop)

    assert error.value.code is FailureCode.SHEET_CHANGED
    assert error.value.message.startswith("Nothing was removed")
    assert [tab.values() for tab in kit.book.tabs] == tabs
    return error.value.message


def as_owner(kit):
    return SpreadsheetsInProcess(kit.service, OWNER)


def before_call(kit, wanted, number, act):
    """Somebody does something right before the n-th of these calls from now on."""
    seen = 0

    def fault(call):
        nonlocal seen
        seen += wanted(call)
        if wanted(call) and seen == number:
            return act()
        return None

    kit.service.fault = fault


def is_write(call):
    return call.is_write and call.email == ACCOUNT


def sizes(kit):
    return [(tab.row_count, tab.column_count) for tab in kit.book.tabs]


# ---------------------------------------------------------------- what others do to the sheet


async def test_an_undo_gives_back_the_sheet_as_it_was(kit):
    cells, size = kit.tab().cells(), sizes(kit)
    drop = await appended(kit)
    taken = await kit.undo(drop)

    assert (kit.tab().cells(), sizes(kit)) == (cells, size)
    assert (taken.rows, taken.message) == (3, "3 rows removed from the sheet.")


async def test_an_undo_of_a_blank_tab_leaves_it_blank(blank):
    size = sizes(blank)
    drop = await appended(blank)
    await blank.undo(drop)

    assert (blank.tab().cells(), sizes(blank)) == ({}, size)


async def test_an_undo_narrows_a_tab_that_was_widened(tmp_path):
    kit = SheetKit(tmp_path, rows=3, columns=2)
    drop = await appended(kit)
    await kit.undo(drop)

    assert (kit.tab().cells(), sizes(kit)) == ({}, [(3, 2)])


@pytest.mark.parametrize(("at", "count"), [(0, 2), (1, 5), (3, 1), (6, 4)])
async def test_rows_inserted_above_or_below_do_not_matter(kit, at, count):
    drop = await appended(kit)
    kit.book.insert(kit.tab(), "ROWS", at, count)
    kit.tab().write([[f"new {number}"] for number in range(count)], start_row=at)
    await kit.undo(drop)

    left = [row for row in kit.tab().values() if not str(row[0]).startswith("new")]
    assert left == BEFORE
    assert sum(str(row[0]).startswith("new") for row in kit.tab().values()) == count


async def test_rows_inserted_between_ours_stay(kit):
    drop = await appended(kit)
    kit.book.insert(kit.tab(), "ROWS", 4, 2)
    kit.tab().write([["theirs"]], start_row=4)
    await kit.undo(drop)

    assert kit.tab().values() == [*BEFORE, ["theirs"]]


async def test_what_others_add_below_stays(kit):
    drop = await appended(kit)
    kit.tab().write([["Below", 46003, 4]], start_row=6)
    await kit.undo(drop)

    assert kit.tab().values() == [*BEFORE, ["Below", 46003, 4]]


async def test_an_edited_row_is_shown_and_nothing_is_removed(kit):
    drop = await appended(kit)
    kit.tab().write([["Bernd"]], start_row=4)
    message = await refusal(kit, drop)

    assert "1 row of 3 are not there as they were" in message
    assert "row 5 (Bernd | 46001 | 2)" in message


async def test_rows_that_were_sorted_are_not_removed(kit):
    drop = await appended(kit)
    area = {"sheetId": 0, "startRowIndex": 3, "endRowIndex": 6, "startColumnIndex": 0, "endColumnIndex": 3}
    sort = {"sortRange": {"range": area, "sortSpecs": [{"dimensionIndex": 0, "sortOrder": "DESCENDING"}]}}
    await as_owner(kit).update(kit.book.id, [sort])

    assert "rows 4 to 6 were sorted" in await refusal(kit, drop)


async def test_rows_that_were_sorted_among_others_are_not_removed(kit):
    drop = await appended(kit)
    area = {"sheetId": 0, "startRowIndex": 1, "endRowIndex": 6, "startColumnIndex": 0, "endColumnIndex": 3}
    await as_owner(kit).update(kit.book.id, [{"sortRange": {"range": area, "sortSpecs": [{"dimensionIndex": 0}]}}])

    assert "Zoe" in await refusal(kit, drop)


@pytest.mark.parametrize("row", [3, 4, 5])
async def test_a_row_that_was_deleted_leaves_the_others_in_doubt(kit, row):
    drop = await appended(kit)
    kit.book.delete(kit.tab(), "ROWS", row, row + 1)

    await refusal(kit, drop)


async def test_a_row_that_somebody_has_blanked_is_in_doubt(kit):
    drop = await appended(kit)
    kit.tab().write([[None, None, None]], start_row=4)

    assert "row 5 (" in await refusal(kit, drop)


async def test_something_written_beside_a_row_is_not_thrown_away(kit):
    drop = await appended(kit)
    kit.tab().write([["call back"]], start_row=4, start_column=5)

    assert "call back" in await refusal(kit, drop)


@pytest.mark.parametrize("column", [0, 7])
async def test_a_note_on_a_cell_of_a_row_is_not_thrown_away(kit, column):
    drop = await appended(kit)
    cell = kit.tab().cell(4, column) or Cell()
    kit.tab().put(4, column, [cell._replace(note="ask Ben")])

    await refusal(kit, drop)


async def test_a_value_that_became_a_formula_is_an_edit(kit):
    drop = await appended(kit)
    kit.tab().put(4, 2, [Cell({"formulaValue": "=1+1"})])

    await refusal(kit, drop)


@pytest.mark.parametrize("change", ["move", "insert", "delete"])
async def test_columns_in_another_place_are_not_guessed(kit, change):
    drop = await appended(kit)
    if change == "move":
        kit.book.move(kit.tab(), "COLUMNS", 0, 1, 3)
    elif change == "insert":
        kit.book.insert(kit.tab(), "COLUMNS", 1, 1)
    else:
        kit.book.delete(kit.tab(), "COLUMNS", 1, 2)

    await refusal(kit, drop)


async def test_columns_inserted_at_the_right_do_not_matter(kit):
    drop = await appended(kit)
    kit.book.insert(kit.tab(), "COLUMNS", 3, 2)
    await kit.undo(drop)

    assert kit.tab().values() == BEFORE


async def test_a_renamed_tab_is_still_the_one(tmp_path):
    kit = SheetKit(tmp_path, "Sheet1", "Other")
    tab, other = kit.tab(), kit.tab("Other")
    tab.write(BEFORE)
    drop = await appended(kit)
    tab.properties["title"], other.properties["title"] = "It's / old", "Sheet1"
    await kit.undo(drop)

    assert (tab.values(), other.values()) == (BEFORE, [])


async def test_a_tab_that_is_gone_has_nothing_to_undo(tmp_path):
    kit = SheetKit(tmp_path, "Sheet1", "Other")
    drop = await appended(kit)
    kit.book.tabs.remove(kit.tab())
    first, second = await kit.undo(drop), await kit.undo(drop)

    assert first.message == "The tab with the rows was gone already."
    assert (first.rows, second.rows) == (0, 0)


async def test_rows_that_were_moved_as_one_block_are_still_ours(kit):
    drop = await appended(kit)
    kit.book.move(kit.tab(), "ROWS", 3, 6, 1)
    await kit.undo(drop)

    assert kit.tab().values() == BEFORE


async def test_rows_that_only_look_like_ours_stay(kit):
    kit.tab().write(ROWS, start_row=3)
    drop = await appended(kit)
    kit.tab().write(ROWS, start_row=9)
    await kit.undo(drop)

    assert kit.tab().values() == [*BEFORE, *ROWS, *ROWS]
    assert kit.tab().row_count == 1000


async def test_rows_between_ours_that_look_like_ours_leave_as_many_as_there_were(kit):
    drop = await appended(kit, rows=[ROWS[0]] * 3)
    kit.book.insert(kit.tab(), "ROWS", 4, 1)
    kit.tab().write([ROWS[0]], start_row=4)
    await kit.undo(drop)

    assert kit.tab().values() == [*BEFORE, ROWS[0]]


async def test_a_copy_of_the_tab_with_copies_of_our_marks_is_left_alone(tmp_path):
    kit = SheetKit(tmp_path, "Sheet1", "Copy")
    kit.tab().write(BEFORE)
    drop = await appended(kit)
    copy = kit.tab("Copy")
    copy.write([["elsewhere"], [], *BEFORE, *ROWS])
    # What Google does to the marks of a tab that is copied: new ids, the same keys.
    anchors = requests.anchors(marks.key_of(drop.job), copy.id, range(5, 8), range(1, 2))
    await kit.spreadsheets.update(kit.book.id, anchors)
    await kit.undo(drop)

    assert kit.tab().values() == BEFORE
    assert copy.values() == [["elsewhere"], [], *BEFORE, *ROWS]


async def test_a_spreadsheet_that_knows_nothing_of_the_job_is_not_touched(kit):
    drop = await appended(kit)
    kit.book.metadata.clear()

    assert "may be a copy" in await refusal(kit, drop)


async def test_without_what_was_kept_unchanged_rows_are_known_all_the_same(kit):
    drop = await appended(kit)
    kit.store.objects.clear()
    await kit.undo(drop)

    assert kit.tab().values() == BEFORE


async def test_without_what_was_kept_a_row_between_leaves_them_in_doubt(kit):
    drop = await appended(kit)
    kit.store.objects.clear()
    kit.book.insert(kit.tab(), "ROWS", 4, 1)

    assert "rows 4 to 7 are not all as they were" in await refusal(kit, drop)


async def test_the_last_rows_of_a_grid_cannot_go_and_it_is_said(tmp_path):
    kit = SheetKit(tmp_path, rows=1)
    drop = await appended(kit)
    kit.book.delete(kit.tab(), "ROWS", 4, 5)

    assert "add a row" in await refusal(kit, drop)


# ---------------------------------------------------------------- twice, late, at the same time


async def test_an_undo_is_made_once(kit):
    drop = await appended(kit)
    first = await kit.undo(drop)
    kit.tab().write(ROWS, start_row=3)
    second = await kit.undo(drop)

    assert second == first
    assert kit.tab().values() == [*BEFORE, *ROWS]


@pytest.mark.parametrize("fault", [LoseReply(), ApplyThen(503), Refuse(500)])
async def test_an_unclear_undo_is_made_once(kit, fault):
    kit.tab().write(ROWS, start_row=3)
    drop = await appended(kit)
    before_call(kit, is_write, 1, lambda: fault)
    await kit.undo(drop)

    assert kit.tab().values() == [*BEFORE, *ROWS]


class LateSpreadsheets(SpreadsheetsInProcess):
    """One change gets no answer, and is applied only when ``arrive`` is called."""

    def hold(self, number, error):
        self.held, self.count, self.error = number, 0, error

    async def update(self, spreadsheet_id, steps, *, fields="spreadsheetId"):
        self.count += 1
        if self.count == self.held:
            self.late = (spreadsheet_id, steps)
            raise self.error
        return await super().update(spreadsheet_id, steps, fields=fields)

    def arrive(self):
        spreadsheet_id, steps = self.late
        self._called("POST", f"/v4/spreadsheets/{spreadsheet_id}:batchUpdate", [], {"requests": list(steps)})


async def test_an_undo_that_arrives_a_second_time_removes_nothing_more(kit):
    drop = await appended(kit)
    kit.tab().write([["Below", 46003, 4]] * 5, start_row=6)
    kit.spreadsheets = LateSpreadsheets(kit.service)
    kit.spreadsheets.hold(1, SheetUnclear("timeout"))
    await kit.undo(drop)
    left = kit.tab().values()
    with pytest.raises(SheetRefused):
        kit.spreadsheets.arrive()

    assert left == kit.tab().values() == [*BEFORE, *[["Below", 46003, 4]] * 5]


@pytest.mark.parametrize("at", [0, 1, 3])
async def test_rows_inserted_while_an_undo_reads_do_not_lead_it_astray(kit, at):
    drop = await appended(kit)
    before_call(
        kit, lambda call: call.method == "spreadsheets.get", 2, lambda: kit.book.insert(kit.tab(), "ROWS", at, 1)
    )
    await kit.undo(drop)

    assert [row for row in kit.tab().values() if row] == BEFORE


async def test_a_sheet_that_never_stands_still_is_transient(kit):
    drop = await appended(kit)
    before_search = []

    def fault(call):
        if call.method == "spreadsheets.developerMetadata.search":
            before_search.append(kit.book.insert(kit.tab(), "ROWS", 0, 1))

    kit.service.fault = fault
    with pytest.raises(Transient):
        await kit.undo(drop)

    assert len(before_search) == 5
    assert [row for row in kit.tab().values() if row] == [*BEFORE, *ROWS]


async def test_an_undo_that_is_refused_for_no_known_reason_ends(kit):
    drop = await appended(kit)
    kit.service.fault = lambda call: Refuse(400, "Not allowed on cells in a table.") if call.is_write else None
    with pytest.raises(Permanent) as error:
        await kit.undo(drop)

    assert error.value.code is FailureCode.INTERNAL
    assert "could not be removed" in error.value.message


async def test_an_undo_in_a_protected_tab_says_what_to_do(kit):
    drop = await appended(kit)
    kit.tab().protect(["someone@example.com"], Area())
    with pytest.raises(Permanent) as error:
        await kit.undo(drop)

    assert error.value.code is FailureCode.SHEET_PROTECTED
    assert ACCOUNT in error.value.message
    assert "another tab" not in error.value.message


async def test_a_long_undo_lets_others_go_on(kit):
    rows = [[f"Name {number}", 46_000, number] for number in range(5_000)]
    drop = await appended(kit, rows=rows)
    beats, stop = 0, asyncio.Event()

    async def beat():
        nonlocal beats
        while not stop.is_set():
            await asyncio.sleep(0)
            beats += 1

    beating = asyncio.create_task(beat())
    taken = await kit.undo(drop)
    stop.set()
    await beating

    assert taken.rows == 5_000
    assert beats > 30


async def test_rows_deleted_while_an_undo_reads_make_it_look_again(tmp_path):
    kit = SheetKit(tmp_path, rows=8)
    kit.tab().write(BEFORE)
    drop = await appended(kit)
    before_call(
        kit, lambda call: call.method == "spreadsheets.get", 2, lambda: kit.book.delete(kit.tab(), "ROWS", 1, 3)
    )
    await kit.undo(drop)

    assert kit.tab().values() == [NAMES]


# ---------------------------------------------------------------- header and added columns


async def test_the_header_stays_where_others_have_rows_below_it(blank):
    drop = await appended(blank)
    blank.tab().write([["Below"]], start_row=4)
    taken = await blank.undo(drop)

    assert blank.tab().values() == [NAMES, ["Below"]]
    assert "The header row stays, because there are other rows." in taken.message


async def test_the_header_stays_where_others_have_rows_between_ours(blank):
    drop = await appended(blank)
    blank.book.insert(blank.tab(), "ROWS", 2, 1)
    blank.tab().write([["between"]], start_row=2)
    await blank.undo(drop)

    assert blank.tab().values() == [NAMES, ["between"]]


@pytest.mark.parametrize(
    "cells", [["Name", "Day", "Amount", "Checked"], ["Name", "Day", "Sum"], [None, "Day", "Amount"]]
)
async def test_a_header_that_was_changed_stays_and_it_is_told(blank, cells):
    drop = await appended(blank)
    blank.tab().write([cells])
    taken = await blank.undo(drop)

    assert blank.tab().values() == [cells]
    assert "The header row stays, because it was changed." in taken.message


async def test_an_added_column_goes_with_its_rows(tmp_path):
    kit = SheetKit(tmp_path, columns=1)
    kit.tab().write([["Name"], ["Zoe"]])
    drop = await appended(kit)
    await kit.undo(drop)

    assert (kit.tab().values(), sizes(kit)) == ([["Name"], ["Zoe"]], [(1000, 1)])


async def test_an_added_column_stays_where_somebody_uses_it_and_it_is_told(kit):
    drop = await appended(kit, [*COLUMNS, ("City", "text"), ("Zip", "text")], [["Anna", 1, 2, "Oslo", "0150"]])
    kit.tab().write([["Rome"]], start_row=1, start_column=3)
    taken = await kit.undo(drop)

    assert kit.tab().values() == [[*NAMES, "City"], ["Zoe", 45000, 7, "Rome"], BEFORE[2]]
    assert "A column that was added stays" in taken.message
    assert not [entry for entry in kit.book.metadata.values() if entry.place.kind != "SPREADSHEET"]


async def test_an_added_column_that_was_renamed_stays(kit):
    drop = await appended(kit, [("Name", "text"), ("City", "text")], [["Anna", "Oslo"]])
    kit.tab().write([["Town"]], start_column=3)
    await kit.undo(drop)

    assert kit.tab().values() == [[*NAMES, "Town"], *BEFORE[1:]]


async def test_a_note_in_an_added_column_keeps_it(kit):
    drop = await appended(kit, [("Name", "text"), ("City", "text")], [["Anna", "Oslo"]])
    kit.tab().put(1, 3, [Cell(note="where?")])
    await kit.undo(drop)

    assert kit.tab().cell(1, 3).note == "where?"


@pytest.mark.parametrize("first", [0, 1])
async def test_two_jobs_are_undone_in_either_order(blank, first):
    drops = [
        await appended(blank),
        await appended(blank, [("amount", "number"), ("New", "bool"), ("name", "text")], [[5, True, "Eve"]] * 2),
    ]
    await blank.undo(drops[first])
    halfway = blank.tab().values()
    await blank.undo(drops[1 - first])

    assert halfway == ([[*NAMES, "New"], *[["Eve", None, 5, True]] * 2] if first == 0 else [NAMES, *ROWS])
    assert blank.tab().values() == ([NAMES] if first == 0 else [])
    assert sizes(blank) == [(1001 if first == 0 else 1000, 26)]


async def test_jobs_with_the_same_rows_take_back_each_its_own(kit):
    drops = [await appended(kit) for _ in range(3)]
    left = []
    for drop in (drops[1], drops[0], drops[2]):
        await kit.undo(drop)
        left.append(len(kit.tab().values()))

    assert left == [9, 6, 3]
    assert kit.tab().values() == BEFORE


@pytest.mark.parametrize("end", [[None, None, None], ["", None, None], [None, 0, None]])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_rows_that_look_blank_are_told_apart_all_the_same(kit, end, order):
    drops = [await appended(kit, rows=[ROWS[0], end]) for _ in range(2)]
    for number in order:
        await kit.undo(drops[number])

    assert kit.tab().values() == BEFORE
    assert kit.tab().row_count == 1000


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_rows_of_unticked_boxes_only_are_told_apart_too(blank, order):
    drops = [await appended(blank, [("Done", "bool")], [[False]] * 3) for _ in range(2)]
    there = blank.tab().values()
    taken = [await blank.undo(drops[number]) for number in order]

    assert there == [["Done"], *[[False]] * 6]
    assert [each.rows for each in taken] == [3, 3]
    assert not any(False in row for row in blank.tab().values())


async def test_an_undo_of_a_simple_append_takes_few_calls(kit):
    drop = await appended(kit)
    kit.service.calls.clear()
    await kit.undo(drop)

    assert len(kit.service.calls) == 5


async def test_a_hundred_columns_are_added_and_removed(kit):
    columns = [(f"Column {number}", "number") for number in range(100)]
    drop = await appended(kit, columns, [list(range(100))])
    await kit.undo(drop)

    assert (kit.tab().values(), sizes(kit)) == (BEFORE, [(1000, 26)])


@pytest.mark.parametrize("count", [20, 21, 250, 2_000])
async def test_many_columns_are_added_and_removed(kit, count):
    columns = [(f"Column {number}", "number") for number in range(count)]
    drop = await appended(kit, columns, [list(range(count))])
    taken = await kit.undo(drop)

    assert (kit.tab().values(), sizes(kit)) == (BEFORE, [(1000, 26)])
    assert taken.message == "1 row removed from the sheet."


async def test_of_many_added_columns_those_in_use_stay_and_so_do_columns_of_others_between_them(kit):
    columns = [(f"Column {number}", "number") for number in range(50)]
    drop = await appended(kit, columns, [list(range(50))])
    kit.book.insert(kit.tab(), "COLUMNS", 10, 1)
    kit.tab().write([["Mine"]], start_column=10)
    kit.tab().write([["used"]], start_row=1, start_column=30)
    kit.book.insert(kit.tab(), "COLUMNS", 0, 1)
    # Our rows are no longer where they were written: the user puts them back.
    kit.book.delete(kit.tab(), "COLUMNS", 0, 1)
    kit.book.move(kit.tab(), "COLUMNS", 10, 11, 54)
    taken = await kit.undo(drop)

    assert kit.tab().values()[0] == [*NAMES, "Column 26", "Mine"]
    assert kit.tab().values()[1] == [*BEFORE[1], "used"]
    assert taken.message.count("A column that was added stays") == 1
    assert not [entry for entry in kit.book.metadata.values() if entry.place.kind != "SPREADSHEET"]


async def test_many_jobs_add_many_columns_each(kit):
    for job in range(6):
        await appended(kit, [(f"Column {job} {number}", "number") for number in range(200)], [[1] * 200])

    assert len(kit.tab().values()[0]) == 3 + 6 * 200


# ---------------------------------------------------------------- new tabs


async def test_a_new_tab_goes_again(kit):
    drop = await appended(kit, mode="new_tab", sheet="Result")
    kit.tab("Result").properties["title"] = "Renamed"
    taken = await kit.undo(drop)

    assert [tab.title for tab in kit.book.tabs] == ["Sheet1"]
    assert taken.rows == 3


@pytest.mark.parametrize("place", [(5, 0), (2, 3), (2, 1), (0, 0), (0, 4), (3, 9)])
async def test_a_new_tab_in_which_somebody_typed_stays(kit, place):
    drop = await appended(kit, mode="new_tab", sheet="Result")
    kit.tab("Result").write([["typed"]], start_row=place[0], start_column=place[1])

    assert "typed" in await refusal(kit, drop)


async def test_a_new_tab_with_a_note_stays(kit):
    drop = await appended(kit, mode="new_tab", sheet="Result")
    kit.book.append(kit.tab("Result"), "ROWS", 5)
    kit.tab("Result").put(6, 2, [Cell(note="look")])

    await refusal(kit, drop)


async def test_a_new_tab_that_is_the_last_one_stays(kit):
    drop = await appended(kit, mode="new_tab", sheet="Result")
    kit.book.tabs.remove(kit.tab())

    assert "add a tab" in await refusal(kit, drop)


@pytest.mark.parametrize("mode", ["append", "new_tab"])
async def test_what_came_in_chunks_goes_at_once(blank, mode):
    drop = await appended(blank, LONG, LONG_ROWS, mode=mode)
    await blank.undo(drop)

    assert (blank.tab().cells(), sizes(blank)) == ({}, [(1000, 26)])


# ---------------------------------------------------------------- withdraw


async def withdraw(kit, drop):
    return await kit.sheets().withdraw(drop.job, kit.book.id)


async def test_where_nothing_was_added_nothing_is_withdrawn(kit):
    taken = [await withdraw(kit, drop) for drop in [kit.drop()] * 2]

    assert taken[0].rows == taken[1].rows == 0
    assert kit.tab().values() == BEFORE


async def test_rows_that_are_there_are_withdrawn(kit):
    drop = await appended(kit)
    taken = await withdraw(kit, drop)

    assert taken.rows == 3
    assert kit.tab().values() == BEFORE


class Crash(BaseException):
    """The worker is gone, right here."""


def crash():
    raise Crash


@pytest.mark.parametrize("mode", ["append", "new_tab"])
async def test_hidden_tabs_are_withdrawn(kit, mode):
    drop = kit.drop(mode=mode)
    for epoch in (1, 2):
        before_call(kit, is_write, 3, crash)
        with pytest.raises(Crash):
            await kit.deliver(kit.drop(drop.job, epoch=epoch, mode=mode), LONG, LONG_ROWS)
    hidden = [tab.hidden for tab in kit.book.tabs]
    kit.service.fault = None
    await withdraw(kit, drop)

    assert hidden == [False, True, True]
    assert [tab.values() for tab in kit.book.tabs] == [BEFORE]


async def test_a_batch_that_arrives_after_the_withdrawal_is_refused(kit):
    kit.spreadsheets = LateSpreadsheets(kit.service)
    drop = kit.drop()
    kit.spreadsheets.hold(2, Crash())
    with pytest.raises(Crash):
        await kit.deliver(drop, COLUMNS, ROWS)
    await withdraw(kit, drop)
    with pytest.raises(SheetRefused):
        kit.spreadsheets.arrive()

    assert kit.tab().values() == BEFORE


@pytest.mark.parametrize("mode", ["append", "new_tab"])
async def test_a_hidden_tab_that_arrives_after_the_withdrawal_is_refused(kit, mode):
    kit.spreadsheets = LateSpreadsheets(kit.service)
    drop = kit.drop(mode=mode)
    kit.spreadsheets.hold(2, Crash())
    with pytest.raises(Crash):
        await kit.deliver(drop, LONG, LONG_ROWS)
    await withdraw(kit, drop)
    with pytest.raises(SheetRefused):
        kit.spreadsheets.arrive()

    assert [tab.values() for tab in kit.book.tabs] == [BEFORE]


async def test_a_long_try_that_comes_back_after_the_withdrawal_was_cancelled(kit):
    drop = kit.drop()
    sheets = kit.sheets(LONG, LONG_ROWS)
    opened = await sheets.open(drop, drop.manifest.destination)
    await withdraw(kit, drop)
    with pytest.raises(Permanent) as error:
        await sheets.append(opened, kit.folder / "x", Answer((), text="t"), report=Told(), scratch=kit.folder)

    assert error.value.code is FailureCode.CANCELLED
    assert [tab.values() for tab in kit.book.tabs] == [BEFORE]


async def test_a_batch_that_arrives_during_the_withdrawal_is_taken_back(kit):
    kit.spreadsheets = LateSpreadsheets(kit.service)
    drop = kit.drop()
    kit.spreadsheets.hold(2, Crash())
    with pytest.raises(Crash):
        await kit.deliver(drop, COLUMNS, ROWS)

    def arrive():
        kit.service.fault = None
        kit.spreadsheets.arrive()

    before_call(kit, is_write, 1, arrive)
    taken = await withdraw(kit, drop)

    assert taken.rows == 3
    assert kit.tab().values() == BEFORE


async def test_a_try_that_comes_back_after_the_withdrawal_adds_nothing(kit):
    drop = kit.drop()
    sheets = kit.sheets(COLUMNS, ROWS)
    opened = await sheets.open(drop, drop.manifest.destination)
    await withdraw(kit, drop)
    with pytest.raises(Permanent) as error:
        await sheets.append(opened, kit.folder / "x", Answer((), text="t"), report=Told(), scratch=kit.folder)

    assert error.value.code is FailureCode.CANCELLED
    assert kit.tab().values() == BEFORE
