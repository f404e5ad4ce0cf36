"""Delivered formats: every cell as it was, and no text that becomes a formula."""

import csv
import json
import math
import tempfile
import zipfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.delivery.guest.batches import Result
from consumers.delivery.guest.export import write_tables
from consumers.delivery.guest.files import Room
from consumers.delivery.guest.naming import file_names, tab_names
from consumers.delivery.guest.xlsx import write_xlsx
from consumers.sandbox.guest.contract import Folders, Refusal

MOMENT = datetime.fromisoformat("2024-03-04T05:06:07")
NEW_YEAR, MIDNIGHT = datetime.fromisoformat("2024-01-02"), datetime.fromisoformat("2024-01-31")
MIXED = pa.table(
    {
        "id": pa.array([1, 2, None], pa.int64()),
        "long": pa.array([10**15 - 1, 10**15, -(2**62)], pa.int64()),
        "amount": pa.array([1.5, math.nan, -math.inf], pa.float64()),
        "price": pa.array([Decimal("1.20"), None, Decimal("12345678901234567.89")], pa.decimal128(30, 2)),
        "paid": pa.array([True, False, None], pa.bool_()),
        "day": pa.array([date(2024, 1, 2), None, date(1850, 5, 6)], pa.date32()),
        "seen": pa.array([MOMENT, None, MOMENT], pa.timestamp("ns")),
        "midnight": pa.array([MIDNIGHT, None, None], pa.timestamp("us")),
        "name": pa.array(["Zoë", "=1+1", ""], pa.string()),
        "kind": pa.array(["a", "b", "a"]).dictionary_encode(),
        "list": pa.array([[1, 2], None, []], pa.list_(pa.int64())),
    }
)
NO_LIMIT = 10**9


def export_all(folder, tables, file_format, max_bytes=NO_LIMIT, **choices):
    output = folder / f"output-{file_format}"
    output.mkdir(exist_ok=True)
    for old in output.iterdir():
        old.unlink()
    entries = [{"name": name, "file": f"{number}.parquet"} for number, name in enumerate(tables)]
    for entry, table in zip(entries, tables.values(), strict=True):
        pq.write_table(table, folder / entry["file"])
    told = {"format": file_format, "max_bytes": max_bytes, "bom": False, "formula_safe": True, "tables": entries}
    report = write_tables(told | choices, Folders(folder, output))
    assert [file["size"] for file in report["files"]] == [(output / f["file"]).stat().st_size for f in report["files"]]
    assert {file["file"] for file in report["files"]} == {path.name for path in output.iterdir()}
    return [output / file["file"] for file in report["files"]], report


def export(folder, table, file_format, max_bytes=NO_LIMIT, **choices):
    (path,), report = export_all(folder, {"Sales": table}, file_format, max_bytes, **choices)
    assert path.name == f"result.{file_format}"
    return path, report


def csv_rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def sheet_of(path):
    return openpyxl.load_workbook(path).active


def cells(path):
    return [list(row) for row in sheet_of(path).iter_rows(values_only=True)]


def test_an_excel_cell_has_the_type_of_its_column(tmp_path):
    path, report = export(tmp_path, MIXED, "xlsx")

    assert cells(path) == [
        MIXED.column_names,
        [1, 10**15 - 1, 1.5, 1.2, True, NEW_YEAR, MOMENT, MIDNIGHT, "Zoë", "a", "[1, 2]"],
        [2, str(10**15), None, None, False, None, None, None, "=1+1", "b", None],
        [None, str(-(2**62)), "-inf", "12345678901234567.89", None, "1850-05-06", MOMENT, None, None, "a", "[]"],
    ]
    sheet = sheet_of(path)
    assert (sheet["F2"].number_format, sheet["G2"].number_format) == ("yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss")
    assert sheet["H2"].number_format == "yyyy-mm-dd"
    assert (sheet.freeze_panes, sheet.auto_filter.ref, sheet["A1"].font.bold) == ("A2", "A1:K4", True)
    assert (report["files"][0]["rows"], report["files"][0]["columns"]) == (3, 11)
    assert [note.split()[0] for note in report["notes"]] == ["3", "1", "1"]


FORMULAS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.builds("{}{}".format, st.sampled_from([*"=+-@{\t\r'", "http://", "mailto:"]), st.text("A1()+", max_size=6)),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(FORMULAS, min_size=2, max_size=2), min_size=1, max_size=5))
def test_no_text_is_ever_stored_as_a_formula_or_a_link(rows):
    table = pa.table({"=A1": [row[0] for row in rows], "b": [row[1] for row in rows], "n": [1] * len(rows)})
    with tempfile.TemporaryDirectory() as folder:
        path, _ = export(Path(folder), table, "xlsx")
        with zipfile.ZipFile(path) as archive:
            sheet = ET.fromstring(archive.read("xl/worksheets/sheet1.xml"))
        tags = {element.tag.rpartition("}")[2] for element in sheet.iter()}

        assert not tags & {"f", "hyperlink", "hyperlinks"}
        kinds = {cell.data_type for row in sheet_of(path).iter_rows() for cell in row if cell.value is not None}
        assert kinds <= {"s", "n"}
        texts = [["" if value is None else value for value in row[:2]] for row in cells(path)[1:]]
        assert [[_as_xml(t) for t in row] for row in texts] == [[_as_xml(t) for t in row] for row in rows]


def _as_xml(text):
    # XML parsers read every line end as "\n"; openpyxl shows escaped controls as they are stored.
    return openpyxl.utils.escape.unescape(text).replace("\r\n", "\n").replace("\r", "\n")


def test_a_text_beyond_excels_limit_is_cut_and_told(tmp_path):
    path, report = export(tmp_path, pa.table({"a": ["x" * 40_000, "𝄞" * 20_000]}), "xlsx")

    assert cells(path)[1:] == [["x" * 32_767], ["𝄞" * 16_383]]
    assert report["notes"] == ["2 texts were cut at Excel's 32,767 characters."]


def test_columns_that_do_not_fit_on_a_sheet_are_refused_and_told_another_way(tmp_path):
    table = pa.table([pa.array([1], pa.int8())] * 16_385, names=[str(i) for i in range(16_385)])
    with pytest.raises(Refusal, match="Choose csv or parquet") as refusal:
        export(tmp_path, table, "xlsx")
    assert refusal.value.code == "result_too_large"


def test_rows_that_do_not_fit_on_a_sheet_go_on_on_the_next(tmp_path):
    pq.write_table(pa.table({"n": range(12_001), "t": ["x"] * 12_001}), tmp_path / "long.parquet")
    pq.write_table(pa.table({"n": [1]}), tmp_path / "short.parquet")
    results = [Result(tmp_path / "long.parquet", "Long"), Result(tmp_path / "short.parquet", "Short")]
    notes = write_xlsx(results, tmp_path / "result.xlsx", Room(NO_LIMIT), max_rows=6_000)

    book = openpyxl.load_workbook(tmp_path / "result.xlsx")
    assert book.sheetnames == ["Long", "Long (2)", "Long (3)", "Short"]
    assert [(sheet.dimensions, sheet.auto_filter.ref) for sheet in book] == [
        ("A1:B6001", "A1:B6001"),
        ("A1:B6001", "A1:B6001"),
        ("A1:B2", "A1:B2"),
        ("A1:A2", "A1:A2"),
    ]
    numbers = [row[0] for name in book.sheetnames[:3] for row in book[name].iter_rows(min_row=2, values_only=True)]
    assert numbers == list(range(12_001))
    assert notes == ["3 tabs hold 12,001 rows, because an Excel sheet holds 6,000 of them beside its headings."]


def test_number_formats_show_the_digits_that_a_column_has(tmp_path):
    table = pa.table(
        {
            "whole": [1.0, 2.0],
            "cents": [1.5, 2.25],
            "late": [1.0, 0.125],
            "third": [1 / 3, 2.0],
            "huge": [1e20, 1.0],
            "price": pa.array([Decimal("1.20"), Decimal("3.00")], pa.decimal128(10, 2)),
            "n": [10**11, 2],
            "odd": [math.nan, math.inf],
            "seen": [datetime.fromisoformat("2024-01-01T10:00:00.250"), None],
        }
    )
    path, _ = export(tmp_path, table, "xlsx")

    formats = [cell.number_format for cell in sheet_of(path)[2]]
    assert formats == ["0", "0.00", "0.000", "General", "General", "0.00", "0", "General", "yyyy-mm-dd hh:mm:ss.000"]


def test_a_text_that_looks_like_a_formula_stays_text_when_its_cell_is_edited(tmp_path):
    path, _ = export(tmp_path, pa.table({"=head": ["=1+1", "plain"]}), "xlsx")

    assert [row[0].quotePrefix for row in sheet_of(path).iter_rows()] == [True, True, False]


def test_several_tables_are_tabs_of_one_workbook(tmp_path):
    names = ["Sales", "sales", "a/b [x]?", "'Q'", "", "History", "y" * 40, "y" * 40]
    tables = {f"{name}": pa.table({"n": [1]}) for name in names}
    paths, report = export_all(tmp_path, tables | {"empty": pa.table({"n": pa.array([], pa.int8())})}, "xlsx")

    book = openpyxl.load_workbook(paths[0])
    assert book.sheetnames == [
        "Sales",
        "sales (2)",
        "a b x",
        "Q",
        "Table 5",
        "History table",
        "y" * 31,
        "empty",
    ]
    assert report["files"][0]["rows"] == 7
    assert "columns" not in report["files"][0]


@settings(max_examples=60)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=1, max_size=6))
def test_whatever_tables_are_called_a_workbook_takes_their_names(names):
    tabs = tab_names(names)

    for tab in tabs:
        assert 0 < len(tab.encode("utf-16-le")) <= 62
        assert not set("[]:*?/\\\0") & set(tab)
        assert tab.strip("'") == tab
    assert len({tab.casefold() for tab in tabs} | {"history"}) == len(names) + 1
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table({"n": [1]}), Path(folder) / "n.parquet")
        path = Path(folder) / "result.xlsx"
        write_xlsx([Result(Path(folder) / "n.parquet", name) for name in names], path, Room(NO_LIMIT))

        assert openpyxl.load_workbook(path).sheetnames == tabs


@pytest.mark.parametrize("file_format", ["csv", "parquet", "json", "jsonl"])
def test_several_tables_are_a_file_each(file_format, tmp_path):
    tables = {"Süd & Ost": pa.table({"n": [1, 2]}), "../etc": pa.table({"n": [3]}), "日本": pa.table({"n": [4]})}
    paths, report = export_all(tmp_path, tables, file_format)

    assert [path.name for path in paths] == [
        f"1-sud-ost.{file_format}",
        f"2-etc.{file_format}",
        f"3-table.{file_format}",
    ]
    assert [(file["rows"], file["columns"]) for file in report["files"]] == [(2, 1), (1, 1), (1, 1)]


def test_the_limit_is_for_all_files_together(tmp_path):
    table = pa.table({"n": list(range(1000))})
    (path,), _ = export_all(tmp_path, {"a": table}, "csv")
    size = path.stat().st_size

    with pytest.raises(Refusal, match="larger than"):
        export_all(tmp_path, {"a": table, "b": table}, "csv", max_bytes=size * 3 // 2)


def test_names_of_files_are_plain_whatever_tables_are_called():
    assert file_names(["con", "A" * 60, "x\n.exe"], "csv") == ["1-con.csv", f"2-{'a' * 40}.csv", "3-x-exe.csv"]


def test_csv_spells_every_cell_and_disarms_formulas(tmp_path):
    path, _ = export(tmp_path, MIXED.drop_columns(["long", "price", "midnight"]), "csv")

    assert path.read_bytes().startswith(b"id,amount,paid,day,seen,name,kind,list\r\n")
    assert csv_rows(path)[1:] == [
        ["1", "1.5", "true", "2024-01-02", "2024-03-04 05:06:07", "Zoë", "a", "[1, 2]"],
        ["2", "", "false", "", "", "'=1+1", "b", ""],
        ["", "'-inf", "", "1850-05-06", "2024-03-04 05:06:07", "", "a", "[]"],
    ]


ARMED = ["=1", "+x", "-x", "@x", "\tx", "\rx", "\nx", "＝1", "＋1", "－1", "＠x", "-1+1", "+cmd|' /C calc'!A0"]
ARMED += [" =1", '"=1', "\u00a0＝1", ' "-x', "-1e", "+"]


def test_csv_puts_an_apostrophe_before_whatever_a_spreadsheet_would_run(tmp_path):
    harmless = ["-5", "+49170", "-1,5", "-.5", "-1.5e-3", "-5%", "a=1", "'=x", " x", "a; b", ""]
    texts = [*ARMED, *harmless]
    path, report = export(tmp_path, pa.table({"@name": texts, "n": [-1] * len(texts)}), "csv")

    rows = csv_rows(path)
    assert report["notes"][0].startswith(f"{len(ARMED) + 1} texts that a spreadsheet would run")
    assert rows[0] == ["'@name", "n"]
    assert [row[0] for row in rows[1:]] == [*(f"'{text}" for text in ARMED), *harmless]
    assert {row[1] for row in rows[1:]} == {"-1"}


def test_csv_disarms_what_begins_a_cell_where_semicolons_part_cells(tmp_path):
    texts = ["a;=1+1;b", "a\n@x", 'a; "+1', "a;b", "a\n\r\n =1", "b;;=1"]
    path, _ = export(tmp_path, pa.table({"t": texts}), "csv")

    assert [row[0] for row in csv_rows(path)[1:]] == ["a;'=1+1;b", "a\n'@x", "a;' \"+1", "a;b", "a\n\r\n' =1", "b;;'=1"]


def test_csv_is_left_as_it_is_where_that_is_asked_for(tmp_path):
    texts = [*ARMED, "a;=1"]
    table = pa.table({"@name": texts, "n": [-math.inf] * len(texts)})
    path, report = export(tmp_path, table, "csv", formula_safe=False)

    assert csv_rows(path) == [["@name", "n"], *([text, "-inf"] for text in texts)]
    assert report["notes"] == []


def test_csv_begins_with_a_byte_order_mark_where_that_is_asked_for(tmp_path):
    path, _ = export(tmp_path, pa.table({"ä": [1]}), "csv", bom=True)

    assert path.read_bytes() == "\ufeffä\r\n1\r\n".encode()


def test_csv_tells_an_empty_text_from_none(tmp_path):
    path, _ = export(tmp_path, pa.table({"a": ["", None], "b": [None, ""]}), "csv")
    assert path.read_bytes() == b'a,b\r\n"",\r\n,""\r\n'

    path, _ = export(tmp_path, pa.table({"a": [1, None]}), "csv")
    assert path.read_bytes() == b'a\r\n1\r\n""\r\n'


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(st.sampled_from('a,"\r\n;ü '), max_size=6), min_size=1, max_size=6))
def test_csv_comes_back_equal(texts):
    with tempfile.TemporaryDirectory() as folder:
        path, _ = export(Path(folder), pa.table({"t": [f"x{text}" for text in texts], "n": [1.5] * len(texts)}), "csv")

        rows = csv_rows(path)
        assert rows == [["t", "n"], *([f"x{text}", "1.5"] for text in texts)]


def test_json_escapes_whatever_it_must(tmp_path):
    texts = ['"\\/\b\0\x1f\n\r\t', "\u2028\x7f😀", "plain"]
    path, _ = export(tmp_path, pa.table({'he"\nad': texts}), "json")

    assert json.loads(path.read_text(encoding="utf-8")) == [{'he"\nad': text} for text in texts]


def test_headings_that_occur_twice_are_told_apart(tmp_path):
    table = pa.table([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "a", ""])
    path, _ = export(tmp_path, table, "jsonl")

    assert json.loads(path.read_text()) == {"a": 1, "a (2)": 2, "column 3": 3}


def _read_json(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text, parse_constant=pytest.fail)
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


@pytest.mark.parametrize("file_format", ["json", "jsonl"])
def test_json_is_an_object_for_each_row(file_format, tmp_path):
    path, _ = export(tmp_path, MIXED, file_format)

    rows = _read_json(path)
    assert rows[0] == {
        "id": 1,
        "long": 10**15 - 1,
        "amount": 1.5,
        "price": 1.2,
        "paid": True,
        "day": "2024-01-02",
        "seen": "2024-03-04T05:06:07",
        "midnight": "2024-01-31",
        "name": "Zoë",
        "kind": "a",
        "list": "[1, 2]",
    }
    assert (rows[1]["amount"], rows[1]["name"], rows[2]["amount"]) == (None, "=1+1", None)
    assert rows[2]["price"] == "12345678901234567.89"


@pytest.mark.parametrize("file_format", ["json", "jsonl"])
def test_integers_that_a_double_would_round_are_text_in_json(file_format, tmp_path):
    whole = [2**53 - 1, -(2**53 - 1), None, 2**53, -(2**53), 2**62, -(2**63)]
    table = pa.table({"n": pa.array(whole, pa.int64()), "u": pa.array([1] * 6 + [2**64 - 1], pa.uint64())})
    path, report = export(tmp_path, table, file_format)

    rows = _read_json(path)
    assert [row["n"] for row in rows] == [*whole[:3], *map(str, whole[3:])]
    assert [row["u"] for row in rows] == [1] * 6 + [str(2**64 - 1)]
    told = "5 numbers that most readers of JSON would round were written as text, to keep every digit."
    assert report["notes"] == [told]


def test_the_largest_unsigned_integers_are_text_in_a_workbook(tmp_path):
    path, report = export(tmp_path, pa.table({"u": pa.array([1, 2**64 - 1], pa.uint64())}), "xlsx")

    assert cells(path)[1:] == [[1], [str(2**64 - 1)]]
    assert report["notes"] == ["1 numbers of more than 15 digits were written as text, to keep every digit."]


def test_parquet_keeps_types_and_loses_what_pandas_adds(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "t": ["x", None], "d": pd.to_datetime(["2024-01-01", "2024-01-02"])})
    path, _ = export(tmp_path, pa.Table.from_pandas(frame), "parquet")

    back = pq.read_table(path)
    assert back.schema.metadata is None
    assert back.to_pydict() == {"a": [1, 2], "t": ["x", None], "d": [date(2024, 1, 1), date(2024, 1, 2)]}


@pytest.mark.parametrize("file_format", ["xlsx", "csv", "json", "jsonl", "parquet"])
def test_many_rows_are_all_there_and_too_many_bytes_are_refused(file_format, tmp_path):
    table = pa.table({"n": range(12_000), "t": [f"text {i * 7919}" for i in range(12_000)]})
    path, report = export(tmp_path, table, file_format)

    readers = {
        "xlsx": lambda path: [row[0] for row in cells(path)[1:]],
        "csv": lambda path: [int(row[0]) for row in csv_rows(path)[1:]],
        "json": lambda path: [row["n"] for row in _read_json(path)],
        "jsonl": lambda path: [row["n"] for row in _read_json(path)],
        "parquet": lambda path: pq.read_table(path)["n"].to_pylist(),
    }
    assert readers[file_format](path) == list(range(12_000))
    with pytest.raises(Refusal) as refusal:
        export(tmp_path, table, file_format, max_bytes=report["files"][0]["size"] // 2)
    assert refusal.value.code == "result_too_large"


@pytest.mark.parametrize("file_format", ["xlsx", "csv", "json", "jsonl", "parquet"])
def test_a_file_that_grows_too_large_is_given_up_early(file_format, tmp_path):
    with pytest.raises(Refusal):
        export(tmp_path, pa.table({"n": [i * 7919**3 % 10**9 for i in range(200_000)]}), file_format, max_bytes=400_000)

    assert (tmp_path / f"output-{file_format}" / f"result.{file_format}").stat().st_size <= 400_000


@pytest.mark.parametrize("table", [pa.table({"a": pa.array([], pa.int64())}), pa.table({})], ids=["rows", "columns"])
def test_a_result_of_nothing_is_refused(table, tmp_path):
    with pytest.raises(Refusal) as refusal:
        export(tmp_path, table, "csv")
    assert refusal.value.code == "result_empty"


def test_a_moment_with_a_zone_shows_the_clock_of_its_zone(tmp_path):
    moment = pa.array([1_704_110_400_000], pa.timestamp("ms", "Europe/Berlin"))
    path, _ = export(tmp_path, pa.table({"t": moment}), "json")

    assert json.loads(path.read_text()) == [{"t": "2024-01-01T13:00:00"}]
