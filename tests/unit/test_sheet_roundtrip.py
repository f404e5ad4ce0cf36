"""Whatever a sheet holds and whatever is appended: what was there stays, and an undo gives back the same sheet."""

import asyncio

from hypothesis import example, given
from hypothesis import strategies as st
from sheet_kit import SheetKit

from consumers.errors import Permanent
from events.results import FailureCode
from infra.embedded.sheets.cell import Cell

words = st.sampled_from(["", " ", "Name", "name ", "Amount", "=1+1", "2026-01-31", "007", "TRUE", "x" * 300, "日本 ü"])
texts = words | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6)
numbers = st.integers(-(10**15) + 1, 10**15 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = {
    "text": texts.filter(bool),
    "number": numbers,
    "bool": st.booleans(),
    "date": st.integers(-100_000, 100_000),
    "datetime": st.floats(0, 80_000),
}
names = st.lists(texts.filter(lambda name: name.strip()), min_size=1, max_size=5, unique=True)


@st.composite
def tables(draw):
    columns = [(name, draw(st.sampled_from(sorted(VALUES)))) for name in draw(names)]
    row = st.tuples(*(st.none() | VALUES[kind] for _, kind in columns))
    return columns, draw(st.lists(row, min_size=1, max_size=6))


cells = st.one_of(
    st.none(),
    texts.filter(bool).map(lambda text: Cell({"stringValue": text})),
    numbers.map(lambda number: Cell({"numberValue": number})),
    st.booleans().map(lambda truth: Cell({"boolValue": truth})),
    st.sampled_from(["=A1", '=""', "=SUM(A1:A9)"]).map(lambda formula: Cell({"formulaValue": formula})),
    st.just(Cell(note="a note")),
)


@st.composite
def sheets(draw):
    """Rows of cells, maybe with a header of words above, in a grid with or without room around them."""
    header = draw(st.none() | st.lists(st.none() | texts.filter(bool).map(lambda t: Cell({"stringValue": t}))))
    rows = draw(st.lists(st.lists(cells, max_size=5), max_size=6))
    rows = rows if header is None else [header[:5], *rows]
    height = max(1, len(rows)) + draw(st.sampled_from([0, 1, 30]))
    width = max(1, *map(len, rows), 1) + draw(st.sampled_from([0, 1, 20]))
    return rows, height, width


def snapshot(kit):
    return [
        (tab.title, tab.row_count, tab.column_count, tab.cells(), [each[:2] for each in tab.filled() if each[2].note])
        for tab in kit.book.tabs
    ]


@given(sheet=sheets(), table=tables(), mode=st.sampled_from(["append", "append", "new_tab"]))
@example(sheet=([], 1, 1), table=([("a", "text"), ("b", "text")], [(None, None)]), mode="append")
@example(sheet=([[Cell({"boolValue": False})]], 1, 1), table=([("a", "bool")], [(False,)]), mode="append")
def test_an_append_and_its_undo_leave_the_sheet_as_it_was(tmp_path_factory, sheet, table, mode):
    rows, height, width = sheet
    columns, values = table
    kit = SheetKit(tmp_path_factory.mktemp("sheet"), rows=height, columns=width)
    for number, row in enumerate(rows):
        kit.tab().put(number, 0, row)
    before = snapshot(kit)
    drop = kit.drop(mode=mode)
    try:
        answer = asyncio.run(kit.deliver(drop, columns, values))
    except Permanent as error:
        refused = error.code
    else:
        refused = None
    if refused:
        assert refused is FailureCode.SHEET_NO_HEADER
        assert snapshot(kit) == before
        return
    kept = [cell.value for _, _, cell in kit.tab().filled() if cell.value is not None]
    added = kit.tab(answer.sheet.tab).row_count
    taken = asyncio.run(kit.undo(drop))

    for content in before[0][3].values():
        kept.remove(content)
    assert answer.sheet.rows == taken.rows == len(values) <= added
    assert snapshot(kit) == before
    assert kit.book.evaluated == []
