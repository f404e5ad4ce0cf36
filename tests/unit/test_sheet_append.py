"""What an append leaves in a sheet, and where: never over something that was there."""

import asyncio

import pytest
from memory_store import MemoryStore
from sheet_kit import SheetKit, Told
from sheets_in_process import ACCOUNT, SpreadsheetsInProcess

from consumers.delivery.google_sheet import GoogleSheets
from consumers.delivery.sheet.plan import MAX_CELLS
from consumers.drop import Answer
from consumers.errors import Permanent, Transient
from consumers.ports import Limits, SandboxCrash, SandboxMemory, SandboxOutput, SandboxTimeout
from events.results import FailureCode
from infra.embedded.sheets.calls import ApplyThen, LoseReply, Refuse
from infra.embedded.sheets.cell import Cell
from infra.embedded.sheets.ranges import Area

COLUMNS = [("Name", "text"), ("Day", "date"), ("Amount", "number")]
ROWS = [["Anna", 46000, 1.5], ["Ben", 46001, 2]]
NAMES = ["Name", "Day", "Amount"]
DATE = {"numberFormat": {"type": "DATE", "pattern": "yyyy-mm-dd"}}
LONG = [("Text", "text"), ("Day", "date"), ("Yes", "bool")]
LONG_ROWS = [[f"{number:03}" + "x" * 45_000, 46_000 + number, number % 2 == 0] for number in range(100)]


@pytest.fixture
def kit(tmp_path):
    return SheetKit(tmp_path)


def formats_in(tab, column):
    return {row: style["numberFormat"]["type"] for (row, at), style in tab.formats().items() if at == column}


def before_write(kit, number, act):
    """Somebody does something right before the n-th write: the first is the check, the next is the append."""
    writes = 0

    def fault(call):
        nonlocal writes
        writes += call.is_write
        if call.is_write and writes == number:
            return act()
        return None

    kit.service.fault = fault


class Crash(BaseException):
    """The worker is gone, right here."""


def crash():
    raise Crash


# ---------------------------------------------------------------- where the rows go


async def test_a_blank_tab_gets_the_header_and_the_rows(kit):
    answer = await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert kit.tab().values() == [NAMES, *ROWS]
    assert kit.tab().formats()[0, 0] == {"textFormat": {"bold": True}}
    assert {kit.tab().formats()[row, 1]["numberFormat"]["pattern"] for row in (1, 2)} == {"yyyy-mm-dd"}
    assert (answer.sheet.tab, answer.sheet.first_row, answer.sheet.rows, answer.sheet.new_tab) == (
        "Sheet1",
        2,
        2,
        False,
    )
    assert answer.sheet.url == f"{kit.url}?gid=0#gid=0&range=2:3"
    assert kit.tab().row_count == 1000 + 3


async def test_rows_go_below_the_last_row_of_data_whatever_the_order_of_columns(kit):
    kit.tab().write([["Amount", "Name", "Day"], [1, "Zoe", 45000]])
    answer = await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert kit.tab().values() == [["Amount", "Name", "Day"], [1, "Zoe", 45000], [1.5, "Anna", 46000], [2, "Ben", 46001]]
    assert (answer.sheet.first_row, answer.sheet.added_columns) == (3, ())


@pytest.mark.parametrize(
    "header",
    [
        ["name", "DAY", "amount"],
        [" Name ", "day  of  birth", "Amt"],
        ["NAME", "dayOfBirth", "amount:"],
        ["Náme", "Day-of-birth", "(Amount)"],
    ],
)
async def test_headers_are_known_by_case_spaces_accents_camel_case_and_synonyms(kit, header):
    kit.tab().write([header])
    columns = [
        ("Name", "text"),
        ("DAY", "date") if header[1] == "DAY" else ("Day of birth", "date"),
        ("amount", "number"),
    ]
    await kit.deliver(kit.drop(), columns, ROWS)

    assert kit.tab().values() == [header, *ROWS]


async def test_a_title_above_the_header_stays_a_title(kit):
    kit.tab().write([["Sales 2026"], [], NAMES, ["Zoe", 45000, 1]])
    await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert kit.tab().values() == [["Sales 2026"], [], NAMES, ["Zoe", 45000, 1], *ROWS]


async def test_a_title_is_no_header_even_where_no_column_is_ours(kit):
    kit.tab().write([["Sales 2026"], [], ["City", "Population"], ["Oslo", 700]])
    await kit.deliver(kit.drop(), [("Name", "text")], [["Anna"]])

    assert kit.tab().values() == [
        ["Sales 2026"],
        [],
        ["City", "Population", "Name"],
        ["Oslo", 700],
        [None, None, "Anna"],
    ]


async def test_columns_that_are_missing_come_at_the_right(kit):
    kit.tab().write([["Name"], ["Zoe"]])
    answer = await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert kit.tab().values() == [NAMES, ["Zoe"], *ROWS]
    assert answer.sheet.added_columns == ("Day", "Amount")
    assert answer.notes == ("Columns added to the sheet: Day, Amount.",)
    assert kit.tab().column_count == 28


async def test_columns_are_added_to_a_grid_that_is_full_to_its_edge(tmp_path):
    kit = SheetKit(tmp_path, rows=2, columns=1)
    kit.tab().write([["Name"], ["Zoe"]])
    await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert kit.tab().values() == [NAMES, ["Zoe"], *ROWS]
    assert (kit.tab().row_count, kit.tab().column_count) == (4, 3)


async def test_a_blank_tab_that_is_too_narrow_is_widened(tmp_path):
    kit = SheetKit(tmp_path, rows=1, columns=1)
    await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert kit.tab().values() == [NAMES, *ROWS]


async def test_a_table_at_the_right_of_the_header_is_pushed_aside_and_stays_whole(kit):
    kit.tab().write([["Name", None, None], ["Zoe", None, "side"], [None, None, 10], [None, None, 20]])
    await kit.deliver(kit.drop(), [("Name", "text"), ("New", "number")], [["Anna", 1]])

    assert kit.tab().values() == [
        ["Name", "New"],
        ["Zoe", None, None, "side"],
        [None, None, None, 10],
        [None, None, None, 20],
        ["Anna", 1],
    ]


async def test_what_only_looks_filled_is_not_taken_for_data(kit):
    kit.tab().write([["Name", "Done"], ["Zoe", True]])
    for row in range(2, 100):
        kit.tab().put(row, 0, [Cell({"formulaValue": '=""'}), Cell({"boolValue": False})])
    await kit.deliver(kit.drop(), [("Name", "text")], [["Anna"]])

    assert kit.tab().values()[:4] == [["Name", "Done"], ["Zoe", True], ["Anna"], ["", False]]
    assert kit.tab().cells()[100, 0] == {"formulaValue": '=""'}


async def test_a_row_of_totals_is_data(kit):
    kit.tab().write([["Name", "Amount"], ["Zoe", 1]])
    kit.tab().put(2, 1, [Cell({"formulaValue": "=SUM(B2:B2)"})])
    await kit.deliver(kit.drop(), [("Name", "text"), ("Amount", "number")], [["Anna", 2]])

    assert kit.tab().cells()[2, 1] == {"formulaValue": "=SUM(B2:B2)"}
    assert kit.tab().values()[3] == ["Anna", 2]


@pytest.mark.parametrize(("end", "most"), [(10, 7), (30_000, 6)])
async def test_the_end_of_the_data_is_found_in_a_grid_of_50_000_rows(tmp_path, end, most):
    kit = SheetKit(tmp_path, rows=50_000, columns=3)
    kit.tab().write([NAMES, *(["Zoe", 45000, number] for number in range(end - 1))])
    answer = await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert kit.tab().values()[end - 1 :] == [["Zoe", 45000, end - 2], *ROWS]
    assert answer.sheet.first_row == end + 1
    assert len(kit.service.calls) <= most


async def test_data_below_a_blank_top_has_no_header(kit):
    kit.tab().write([["Anna", 1]], start_row=40)
    with pytest.raises(Permanent) as error:
        await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert error.value.code is FailureCode.SHEET_NO_HEADER
    assert kit.tab().values()[40] == ["Anna", 1]


async def test_dates_keep_the_format_that_the_column_has(kit):
    kit.tab().write([NAMES, ["Zoe", 45000, 1]])
    german = {"numberFormat": {"type": "DATE", "pattern": "dd.mm.yyyy"}}
    kit.tab().put(1, 1, [Cell({"numberValue": 45000}, german)])
    await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert [kit.tab().formats()[row, 1] for row in (1, 2, 3)] == [german] * 3


async def test_numbers_in_a_new_column_do_not_look_like_the_dates_beside_them(tmp_path):
    kit = SheetKit(tmp_path, rows=2, columns=1)
    kit.tab().write([["Day"]])
    kit.tab().put(1, 0, [Cell({"numberValue": 45000}, DATE)])
    await kit.deliver(kit.drop(), [("Day", "date"), ("Count", "number")], [[46000, 7]])

    assert kit.tab().values() == [["Day", "Count"], [45000], [46000, 7]]
    assert formats_in(kit.tab(), 0) == {1: "DATE", 2: "DATE"}
    assert not any("numberFormat" in style for (row, at), style in kit.tab().formats().items() if (row, at) == (2, 1))


async def test_text_stays_text_whatever_it_looks_like(kit):
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "2026-01-31", "007", "1e5", "TRUE", "'x", "\t=1", "%", " ", "#N/A", "1/2"]
    await kit.deliver(kit.drop(), [("Text", "text")], [[text] for text in texts])
    await kit.deliver(kit.drop(mode="new_tab", sheet="Own"), [("=A1", "text")], [[text] for text in texts])

    assert [kit.tab().cells()[row, 0] for row in range(1, 15)] == [{"stringValue": text} for text in texts]
    assert kit.tab("Own").cells()[0, 0] == {"stringValue": "=A1"}
    assert kit.book.evaluated == []


# ---------------------------------------------------------------- which tab


async def test_a_new_tab_has_its_own_title(kit):
    answer = await kit.deliver(kit.drop(mode="new_tab", sheet="Result"), COLUMNS, ROWS)

    tab = kit.tab("Result")
    assert tab.values() == [NAMES, *ROWS]
    assert (tab.row_count, tab.column_count, tab.frozen_rows) == (3, 3, 1)
    assert (answer.sheet.tab, answer.sheet.tab_id, answer.sheet.new_tab) == ("Result", tab.id, True)
    assert kit.tab().values() == []


async def test_a_new_tab_whose_title_is_taken_gets_a_number(kit):
    titles = [(await kit.deliver(kit.drop(mode="new_tab", sheet="sheet1"), COLUMNS, ROWS)).sheet.tab for _ in range(2)]

    assert titles == ["sheet1 (2)", "sheet1 (3)"]


async def test_a_title_that_is_taken_meanwhile_gets_a_number(kit):
    before_write(kit, 2, lambda: kit.book.tabs[0].properties.update(title="Result"))
    answer = await kit.deliver(kit.drop(mode="new_tab", sheet="Result"), COLUMNS, ROWS)

    assert answer.sheet.tab == "Result (2)"
    assert kit.tab("Result (2)").values() == [NAMES, *ROWS]


async def test_the_tab_is_the_one_that_is_named_or_that_the_link_shows(tmp_path):
    kit = SheetKit(tmp_path, "One", "Two", "Three")
    two = kit.tab("Two")
    named = await kit.deliver(kit.drop(sheet=" three "), COLUMNS, ROWS)
    linked = await kit.deliver(kit.drop(url=f"{kit.url}?gid={two.id}#gid={two.id}"), COLUMNS, ROWS)

    assert (named.sheet.tab, linked.sheet.tab) == ("Three", "Two")
    assert kit.tab("One").values() == []


async def test_hidden_tabs_are_passed_over(tmp_path):
    kit = SheetKit(tmp_path, "Secret", "Seen")
    kit.tab("Secret").properties["hidden"] = True
    answer = await kit.deliver(kit.drop(), COLUMNS, ROWS)
    with pytest.raises(Permanent) as error:
        await kit.deliver(kit.drop(sheet="Secret"), COLUMNS, ROWS)

    assert answer.sheet.tab == "Seen"
    assert error.value.code is FailureCode.SHEET_TAB_MISSING
    assert "“Seen”" in error.value.message


# ---------------------------------------------------------------- somebody else is at work


async def opened(kit, drop, columns=COLUMNS, rows=ROWS):
    sheets = kit.sheets(columns, rows)
    scratch = kit.folder / drop.job.job_id
    scratch.mkdir()
    return sheets, await sheets.open(drop, drop.manifest.destination), scratch


async def append(sheets, opened, scratch):
    return await sheets.append(opened, scratch / "x.parquet", Answer((), text="t"), report=Told(), scratch=scratch)


async def test_a_tab_that_was_renamed_meanwhile_is_still_the_one(kit):
    drop = kit.drop()
    sheets, checked, scratch = await opened(kit, drop)
    tab = kit.tab()
    tab.properties["title"] = "It's renamed"
    answer = await append(sheets, checked, scratch)

    assert answer.sheet.tab == "It's renamed"
    assert tab.values() == [NAMES, *ROWS]


async def test_a_tab_whose_name_another_one_has_taken_is_still_the_one(tmp_path):
    kit = SheetKit(tmp_path, "Sheet1", "Other")
    tab, other = kit.tab(), kit.tab("Other")
    drop = kit.drop(sheet="Sheet1")
    sheets, checked, scratch = await opened(kit, drop)
    tab.properties["title"], other.properties["title"] = "Old", "Sheet1"
    answer = await append(sheets, checked, scratch)

    assert answer.sheet.tab == "Old"
    assert (tab.values(), other.values()) == ([NAMES, *ROWS], [])


async def test_a_tab_that_was_deleted_meanwhile_is_missing(tmp_path):
    kit = SheetKit(tmp_path, "Sheet1", "Other")
    drop = kit.drop()
    sheets, checked, scratch = await opened(kit, drop)
    kit.book.tabs.remove(kit.tab())
    with pytest.raises(Permanent) as error:
        await append(sheets, checked, scratch)

    assert error.value.code is FailureCode.SHEET_TAB_MISSING
    assert "“Sheet1” was deleted" in error.value.message
    assert kit.tab("Other").values() == []


async def test_a_tab_that_is_deleted_at_the_last_moment_is_missing(tmp_path):
    kit = SheetKit(tmp_path, "Sheet1", "Other")
    before_write(kit, 2, lambda: kit.book.tabs.remove(kit.tab()))
    with pytest.raises(Permanent) as error:
        await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert error.value.code is FailureCode.SHEET_TAB_MISSING


async def test_rows_that_are_deleted_meanwhile_make_a_new_plan(tmp_path):
    kit = SheetKit(tmp_path, rows=30)
    kit.tab().write([NAMES, *([f"old {number}", 1, number] for number in range(29))])
    before_write(kit, 2, lambda: kit.book.delete(kit.tab(), "ROWS", 10, 30))
    await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert kit.tab().values()[9:] == [["old 8", 1, 8], *ROWS]
    assert kit.tab().row_count == 12


@pytest.mark.parametrize("rows", [5, 1000])
async def test_rows_that_somebody_adds_at_the_last_moment_are_not_overwritten(tmp_path, rows):
    kit = SheetKit(tmp_path, rows=rows)
    kit.tab().write([NAMES, *(["Zoe", 1, number] for number in range(4))])
    theirs = [[f"theirs {number}", 2, number] for number in range(10)]
    before_write(kit, 2, lambda: kit.tab().write(theirs, start_row=5))
    await kit.deliver(kit.drop(), COLUMNS, ROWS)

    now = kit.tab().values()
    assert [row for row in now if row and str(row[0]).startswith("theirs")] == theirs
    assert [row for row in now if row in ROWS] == ROWS


async def test_columns_that_somebody_adds_at_the_last_moment_are_not_overwritten(tmp_path):
    kit = SheetKit(tmp_path, columns=1)
    kit.tab().write([["Name"], ["Zoe"]])
    before_write(kit, 2, lambda: kit.tab().write([["Note"], ["mine"]], start_column=1))
    await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert kit.tab().values() == [["Name", "Day", "Amount", "Note"], ["Zoe", None, None, "mine"], *ROWS]


class SlowSpreadsheets(SpreadsheetsInProcess):
    """Others have their turn at each call."""

    async def get(self, *args, **options):
        await asyncio.sleep(0)
        return await super().get(*args, **options)

    async def update(self, *args, **options):
        await asyncio.sleep(0)
        return await super().update(*args, **options)


class SlowStore(MemoryStore):
    async def get(self, key, *, max_bytes):
        await asyncio.sleep(0)
        return await super().get(key, max_bytes=max_bytes)


@pytest.mark.parametrize("rows", [1, 1000])
async def test_jobs_at_once_on_one_blank_tab_write_one_header(tmp_path, rows):
    kit = SheetKit(tmp_path, rows=rows, columns=2)
    kit.spreadsheets, kit.store = SlowSpreadsheets(kit.service), SlowStore()
    jobs = [kit.deliver(kit.drop(), COLUMNS, [[name, 46000, 1]] * 2) for name in "abc"]
    await asyncio.gather(*jobs)

    now = kit.tab().values()
    assert now[0] == NAMES
    assert sorted(row[0] for row in now[1:]) == list("aabbcc")


# ---------------------------------------------------------------- more than one request holds


@pytest.mark.parametrize("mode", ["append", "new_tab"])
async def test_what_does_not_fit_into_one_request_waits_in_a_hidden_tab(kit, mode):
    seen = []
    before_write(kit, 4, lambda: seen.extend((tab.hidden, tab.values()) for tab in kit.book.tabs))
    told = Told()
    answer = await kit.deliver(kit.drop(mode=mode), LONG, LONG_ROWS, report=told)

    assert seen[0] == (False, [])
    assert seen[1][0] is True
    assert [tab.hidden for tab in kit.book.tabs] == [False] * (1 if mode == "append" else 2)
    tab = kit.tab(answer.sheet.tab)
    assert tab.values() == [["Text", "Day", "Yes"], *LONG_ROWS]
    assert formats_in_rows(tab, 1) == ["DATE"] * 100
    assert len(kit.service.calls) == 5
    assert len(told.stages) == 2
    assert kit.book.evaluated == []


def formats_in_rows(tab, column):
    return [tab.formats()[row, column]["numberFormat"]["type"] for row in range(1, 1 + len(LONG_ROWS))]


async def test_hidden_rows_go_into_columns_in_another_order(kit):
    kit.tab().write([["Yes", "Mine", "Text"], [True, "x", "y"]])
    await kit.deliver(kit.drop(), LONG, LONG_ROWS)

    assert kit.tab().values()[2:] == [[yes, None, text, day] for text, day, yes in LONG_ROWS]
    assert [tab.title for tab in kit.book.tabs] == ["Sheet1"]


@pytest.mark.parametrize("mode", ["append", "new_tab"])
@pytest.mark.parametrize("write", [3, 4])
async def test_a_crash_on_the_way_leaves_nothing_to_see_and_the_retry_cleans_up(kit, mode, write):
    drop = kit.drop(mode=mode)
    before_write(kit, write, crash)
    with pytest.raises(Crash):
        await kit.deliver(drop, LONG, LONG_ROWS)
    kit.service.fault = None
    visible = [tab.values() for tab in kit.book.tabs if not tab.hidden]
    answer = await kit.deliver(kit.drop(drop.job, epoch=2, mode=mode), LONG, LONG_ROWS)

    assert visible == [[]]
    assert not any(tab.hidden for tab in kit.book.tabs)
    assert kit.tab(answer.sheet.tab).values()[1:] == LONG_ROWS
    assert len(kit.book.tabs) == (1 if mode == "append" else 2)


@pytest.mark.parametrize("mode", ["append", "new_tab"])
@pytest.mark.parametrize("fault", [LoseReply(), ApplyThen(503), Refuse(500)])
@pytest.mark.parametrize("write", [2, 3, 4])
async def test_a_lost_reply_at_any_chunk_leads_to_the_same_rows(kit, mode, fault, write):
    before_write(kit, write, lambda: fault)
    answer = await kit.deliver(kit.drop(mode=mode), LONG, LONG_ROWS)

    assert kit.tab(answer.sheet.tab).values()[1:] == LONG_ROWS
    assert not any(tab.hidden for tab in kit.book.tabs)


async def test_ten_thousand_rows_take_three_calls(kit):
    columns = [("A", "text"), ("B", "date"), ("C", "number"), ("D", "bool")]
    rows = [[f"name {number}", 40_000 + number, number / 4, number % 2 == 0] for number in range(10_000)]
    await kit.deliver(kit.drop(), columns, rows)

    assert kit.tab().values()[1:] == rows
    assert len(kit.service.calls) == 3


async def test_ten_thousand_rows_of_eight_columns_take_four_calls(kit):
    columns = [(f"Column {number}", "number" if number % 2 else "text") for number in range(8)]
    rows = [[f"text {row}" if at % 2 == 0 else row * at for at in range(8)] for row in range(10_000)]
    await kit.deliver(kit.drop(), columns, rows)

    assert kit.tab().values()[-1] == rows[-1]
    assert len(kit.service.calls) == 4


# ---------------------------------------------------------------- exactly once


@pytest.mark.parametrize("mode", ["append", "new_tab"])
@pytest.mark.parametrize("fault", [LoseReply(), ApplyThen(503), Refuse(503)])
async def test_an_unclear_append_is_made_once(kit, mode, fault):
    before_write(kit, 2, lambda: fault)
    answer = await kit.deliver(kit.drop(mode=mode), COLUMNS, ROWS)

    assert kit.tab(answer.sheet.tab).values() == [NAMES, *ROWS]
    assert len(kit.book.tabs) == (1 if mode == "append" else 2)


async def test_a_second_try_of_a_job_gives_the_first_ones_answer(kit):
    drop = kit.drop()
    first = await kit.deliver(drop, COLUMNS, ROWS, answer=Answer((), text="first", notes=("n",)))
    second = await kit.deliver(kit.drop(drop.job, epoch=2), COLUMNS, [["Other", 1, 1]])

    assert second == first
    assert kit.tab().values() == [NAMES, *ROWS]


async def test_google_that_never_answers_clearly_is_transient_and_adds_nothing(kit):
    kit.service.fault = lambda call: Refuse(503) if call.is_write and call.number > 1 else None
    with pytest.raises(Transient) as error:
        await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert error.value.code is FailureCode.SHEETS_UNAVAILABLE
    assert kit.tab().values() == []


async def test_the_report_says_which_spreadsheet_may_change_before_it_does(kit):
    told = Told()
    before_write(kit, 2, lambda: told.stages.append(told.spreadsheet_id))
    await kit.deliver(kit.drop(), COLUMNS, ROWS, report=told)

    assert told.stages == [kit.book.id]


# ---------------------------------------------------------------- limits


def fill(kit, room):
    """Leave room for so many cells."""
    now = sum(tab.row_count * tab.column_count for tab in kit.book.tabs)
    filler = kit.tab("Filler")
    filler.set_count("COLUMNS", 1)
    filler.set_count("ROWS", MAX_CELLS - (now - filler.column_count) - room)


@pytest.mark.parametrize("mode", ["append", "new_tab"])
@pytest.mark.parametrize(("room", "fits"), [(10, True), (9, True), (8, False)])
async def test_a_spreadsheet_takes_ten_million_cells_and_no_more(tmp_path, mode, room, fits):
    kit = SheetKit(tmp_path, "Sheet1", "Filler", rows=1, columns=3)
    kit.tab("Filler").set_count("COLUMNS", 1)
    fill(kit, room)
    cells = sum(tab.row_count * tab.column_count for tab in kit.book.tabs)
    if fits:
        await kit.deliver(kit.drop(mode=mode), COLUMNS, ROWS)
    else:
        with pytest.raises(Permanent) as error:
            await kit.deliver(kit.drop(mode=mode), COLUMNS, ROWS)

    assert cells == MAX_CELLS - room
    if not fits:
        assert error.value.code is FailureCode.SHEET_FULL
        assert "10,000,000 cells" in error.value.message
        assert kit.tab().values() == []


async def test_a_full_spreadsheet_is_told_before_the_work(tmp_path):
    kit = SheetKit(tmp_path, "Sheet1", "Filler", rows=1, columns=3)
    kit.tab("Filler").set_count("COLUMNS", 1)
    fill(kit, 0)
    drop = kit.drop()
    with pytest.raises(Permanent) as error:
        await kit.sheets().open(drop, drop.manifest.destination)

    assert error.value.code is FailureCode.SHEET_FULL


# ---------------------------------------------------------------- every no has its sentence


async def refusal(kit, **destination):
    drop = kit.drop(**destination)
    with pytest.raises(Permanent) as error:
        await kit.sheets().open(drop, drop.manifest.destination)

    return error.value


async def test_a_sheet_that_is_not_shared_names_the_account(kit):
    kit.service.unshare(kit.book.id, ACCOUNT)
    error = await refusal(kit)

    assert error.code is FailureCode.SHEET_NOT_SHARED
    assert error.message == f'Share the sheet with {ACCOUNT} as Editor (button "Share"), then try again.'


async def test_a_sheet_to_read_only_says_so(kit):
    kit.service.share(kit.book.id, ACCOUNT, "reader")
    error = await refusal(kit)

    assert error.code is FailureCode.SHEET_READ_ONLY
    assert error.message.startswith(f"The sheet is shared with {ACCOUNT} for reading only.")


async def test_a_sheet_that_is_not_there_is_not_found(kit):
    del kit.service.books[kit.book.id]
    error = await refusal(kit)

    assert error.code is FailureCode.SHEET_NOT_FOUND
    assert "no such spreadsheet" in error.message


async def test_an_office_file_is_no_sheet(kit):
    kit.book.office_file = True
    error = await refusal(kit)

    assert error.code is FailureCode.SHEET_NOT_A_SHEET
    assert "Save as Google Sheets" in error.message


async def test_a_tab_that_is_missing_names_those_that_are_there(tmp_path):
    error = await refusal(SheetKit(tmp_path, "One", "Two"), sheet="Three")

    assert error.code is FailureCode.SHEET_TAB_MISSING
    assert error.message == (
        "The spreadsheet does not have a tab “Three”. Its tabs are: “One”, “Two”. Choose one of them, or a new tab."
    )


async def test_a_link_to_a_tab_that_is_gone_says_so(kit):
    error = await refusal(kit, url=f"{kit.url}#gid=123")

    assert error.code is FailureCode.SHEET_TAB_MISSING
    assert "the tab that the link shows" in error.message


@pytest.mark.parametrize("area", [Area(), Area(start_row=0, end_row=1), Area(start_column=0, end_column=1)])
async def test_a_protected_place_names_the_account(kit, area):
    kit.tab().write([["Name"]])
    kit.tab().protect(["someone@example.com"], area)
    with pytest.raises(Permanent) as error:
        await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert error.value.code is FailureCode.SHEET_PROTECTED
    assert ACCOUNT in error.value.message
    assert kit.tab().values() == [["Name"]]


async def test_values_without_names_have_no_header(kit):
    kit.tab().write([["Anna", 46000, 1.5]])
    with pytest.raises(Permanent) as error:
        await kit.deliver(kit.drop(), [("City", "text")], [["Oslo"]])

    assert error.value.code is FailureCode.SHEET_NO_HEADER
    assert error.value.message.startswith("Row 1 of the tab “Sheet1” holds values, not the names of columns")
    assert kit.tab().values() == [["Anna", 46000, 1.5]]


DISABLED = (
    "Google Sheets API has not been used in project 123 before or it is disabled. Enable it by visiting "
    "https://console.developers.google.com/apis/api/sheets.googleapis.com/overview?project=123 then retry."
)


@pytest.mark.parametrize("fault", [Refuse(403, DISABLED), Refuse(401, "Request had invalid credentials.")])
async def test_an_account_that_may_not_call_the_api_is_for_the_operator(kit, fault):
    kit.service.fault = lambda _: fault
    error = await refusal(kit)

    assert error.code is FailureCode.SHEETS_NOT_SET_UP
    assert "123" not in error.message


async def test_without_a_service_account_there_is_no_delivery(kit):
    drop = kit.drop()
    sheets = GoogleSheets(None, None, kit.store, limits=Limits())
    with pytest.raises(Permanent) as error:
        await sheets.open(drop, drop.manifest.destination)

    assert error.value.code is FailureCode.SHEETS_NOT_SET_UP


async def test_a_refusal_that_nobody_knows_is_ours_to_look_into(kit):
    before_write(kit, 2, lambda: Refuse(400, "Something new."))
    kit.service.fault = lambda call: Refuse(400, "Something new.") if call.is_write and call.number > 1 else None
    with pytest.raises(Permanent) as error:
        await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert error.value.code is FailureCode.INTERNAL
    assert "Something new" not in error.value.message


@pytest.mark.parametrize("fault", [LoseReply(), ApplyThen(503), Refuse(503)])
async def test_an_unclear_check_is_made_again(kit, fault):
    before_write(kit, 1, lambda: fault)
    await kit.deliver(kit.drop(), COLUMNS, ROWS)

    assert kit.tab().values() == [NAMES, *ROWS]
    assert not [each for each in kit.book.metadata.values() if each.key.endswith("probe")]


async def test_a_check_that_stays_unclear_is_transient(kit):
    kit.service.fault = lambda _: Refuse(503)
    drop = kit.drop()
    with pytest.raises(Transient):
        await kit.sheets().open(drop, drop.manifest.destination)

    assert len(kit.service.calls) == 4


class FailingGuest:
    tier = "played"
    walls = ()

    def __init__(self, error):
        self.error = error

    async def run(self, task):
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SandboxTimeout("slow"), FailureCode.RESULT_TOO_LARGE),
        (SandboxMemory("full"), FailureCode.RESULT_TOO_LARGE),
        (SandboxOutput("long"), FailureCode.RESULT_TOO_LARGE),
        (SandboxCrash("gone"), FailureCode.INTERNAL),
    ],
)
async def test_a_result_that_the_sandbox_cannot_write_out_is_too_large(kit, error, code):
    drop = kit.drop()
    sheets = GoogleSheets(kit.spreadsheets, FailingGuest(error), kit.store, limits=Limits())
    opened = await sheets.open(drop, drop.manifest.destination)
    with pytest.raises(Permanent) as raised:
        await append(sheets, opened, kit.folder)

    assert raised.value.code is code
    assert "Google" not in raised.value.message


async def test_a_busy_sheet_forgets_no_job_that_may_be_tried_again(kit):
    kit.tab().write([["Name"]])
    first = kit.drop()
    await kit.deliver(first, [("Name", "text")], [["first"]])

    async def deliver_many():
        for number in range(300):
            await kit.deliver(kit.drop(), [("Name", "text")], [[number]])

    with pytest.raises(Permanent) as error:
        await deliver_many()
    there = kit.tab().values()
    await kit.deliver(kit.drop(first.job, epoch=2), [("Name", "text")], [["first"]])

    assert error.value.code is FailureCode.SHEET_FULL
    assert "today" in error.value.message
    assert kit.tab().values() == there
    assert len(there) > 120


class AskedSpreadsheets(SpreadsheetsInProcess):
    async def get(self, spreadsheet_id, *, fields, ranges=()):
        self.asked = [*getattr(self, "asked", ()), *ranges]
        return await super().get(spreadsheet_id, fields=fields, ranges=ranges)


async def test_a_wide_tab_is_read_in_small_parts(tmp_path):
    kit = SheetKit(tmp_path, rows=100, columns=5_000)
    kit.spreadsheets = AskedSpreadsheets(kit.service)
    kit.tab().write([[f"Column {number}" for number in range(5_000)], *[[1]] * 99])
    await kit.deliver(kit.drop(), [("Column 7", "number")], [[2]])

    assert kit.tab().values()[100][7] == 2
    assert kit.spreadsheets.asked == ["'Sheet1'!1:20", "'Sheet1'!81:100"]
