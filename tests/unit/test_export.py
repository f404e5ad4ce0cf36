"""Delivered formats: every cell as it was, no text that becomes a formula, no chart that fetches."""

import csv
import json
import math
import tempfile
import zipfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

import altair as alt
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.delivery.guest.export import export_chart, write_table
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


def export(folder, table, file_format, max_bytes=NO_LIMIT):
    output = folder / "output"
    output.mkdir(exist_ok=True)
    pq.write_table(table, folder / "result.parquet")
    report = write_table(file_format, max_bytes, Folders(folder, output))
    (file,) = report["files"]
    assert file["size"] == (output / file["file"]).stat().st_size
    assert [path.name for path in output.iterdir()] == [f"result.{file_format}"]
    return output / file["file"], report


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


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"a": pa.nulls(1_048_576, pa.int8())}),
        pa.table([pa.array([1], pa.int8())] * 16_385, names=[str(i) for i in range(16_385)]),
    ],
    ids=["rows", "columns"],
)
def test_what_does_not_fit_on_a_sheet_is_refused_and_told_another_way(table, tmp_path):
    with pytest.raises(Refusal, match="Choose csv or parquet") as refusal:
        export(tmp_path, table, "xlsx")
    assert refusal.value.code == "result_too_large"


def test_csv_spells_every_cell_and_disarms_formulas(tmp_path):
    path, _ = export(tmp_path, MIXED.drop_columns(["long", "price", "midnight"]), "csv")

    assert path.read_bytes().startswith(b"id,amount,paid,day,seen,name,kind,list\r\n")
    assert csv_rows(path)[1:] == [
        ["1", "1.5", "true", "2024-01-02", "2024-03-04 05:06:07.000000", "Zoë", "a", "[1, 2]"],
        ["2", "", "false", "", "", "'=1+1", "b", ""],
        ["", "-inf", "", "1850-05-06", "2024-03-04 05:06:07.000000", "", "a", "[]"],
    ]


ARMED = ["=1", "+x", "-x", "@x", "\tx", "\rx", "\nx", "＝1", "＋1", "－1", "＠x", "-1+1", "+cmd|' /C calc'!A0"]


def test_csv_puts_an_apostrophe_before_whatever_a_spreadsheet_would_run(tmp_path):
    harmless = ["-5", "+49170", "-1,5", "a=1", "'x", " x", ""]
    path, _ = export(tmp_path, pa.table({"@name": [*ARMED, *harmless], "n": [-1] * 20}), "csv")

    rows = csv_rows(path)
    assert rows[0] == ["'@name", "n"]
    assert [row[0] for row in rows[1:]] == [*(f"'{text}" for text in ARMED), *harmless]
    assert {row[1] for row in rows[1:]} == {"-1"}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(st.sampled_from('a,"\r\n;ü '), max_size=6), min_size=1, max_size=6))
def test_csv_comes_back_equal(texts):
    with tempfile.TemporaryDirectory() as folder:
        path, _ = export(Path(folder), pa.table({"t": [f"x{text}" for text in texts], "n": [1.5] * len(texts)}), "csv")

        rows = csv_rows(path)
        assert rows == [["t", "n"], *([f"x{text}", "1.5"] for text in texts)]


def test_json_is_an_array_of_rows(tmp_path):
    path, _ = export(tmp_path, MIXED, "json")

    rows = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
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


def test_parquet_keeps_types_and_loses_what_pandas_adds(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "t": ["x", None], "d": pd.to_datetime(["2024-01-01", "2024-01-02"])})
    path, _ = export(tmp_path, pa.Table.from_pandas(frame), "parquet")

    back = pq.read_table(path)
    assert back.schema.metadata is None
    assert back.to_pydict() == {"a": [1, 2], "t": ["x", None], "d": [date(2024, 1, 1), date(2024, 1, 2)]}


@pytest.mark.parametrize("file_format", ["xlsx", "csv", "json", "parquet"])
def test_many_rows_are_all_there_and_too_many_bytes_are_refused(file_format, tmp_path):
    table = pa.table({"n": range(12_000), "t": [f"text {i * 7919}" for i in range(12_000)]})
    path, report = export(tmp_path, table, file_format)

    readers = {
        "xlsx": lambda path: [row[0] for row in cells(path)[1:]],
        "csv": lambda path: [int(row[0]) for row in csv_rows(path)[1:]],
        "json": lambda path: [row["n"] for row in json.loads(path.read_text())],
        "parquet": lambda path: pq.read_table(path)["n"].to_pylist(),
    }
    assert readers[file_format](path) == list(range(12_000))
    with pytest.raises(Refusal) as refusal:
        export(tmp_path, table, file_format, max_bytes=report["files"][0]["size"] // 2)
    assert refusal.value.code == "result_too_large"


@pytest.mark.parametrize("file_format", ["csv", "json"])
def test_a_file_that_grows_too_large_is_given_up_early(file_format, tmp_path):
    with pytest.raises(Refusal):
        export(tmp_path, pa.table({"n": [10**9] * 50_000}), file_format, max_bytes=1000)

    assert (tmp_path / "output" / f"result.{file_format}").stat().st_size < 400_000


@pytest.mark.parametrize("table", [pa.table({"a": pa.array([], pa.int64())}), pa.table({})], ids=["rows", "columns"])
def test_a_result_of_nothing_is_refused(table, tmp_path):
    with pytest.raises(Refusal) as refusal:
        export(tmp_path, table, "csv")
    assert refusal.value.code == "result_empty"


def test_a_moment_with_a_zone_shows_the_clock_of_its_zone(tmp_path):
    moment = pa.array([1_704_110_400_000], pa.timestamp("ms", "Europe/Berlin"))
    path, _ = export(tmp_path, pa.table({"t": moment}), "json")

    assert json.loads(path.read_text()) == [{"t": "2024-01-01T13:00:00"}]


def chart(folder, spec):
    output = folder / "output"
    output.mkdir()
    (folder / "chart.vl.json").write_text(spec if isinstance(spec, str) else json.dumps(spec), encoding="utf-8")
    return export_chart({}, Folders(folder, output))


FRAME = pd.DataFrame({"city": ["Köln", "Paris"], "url": ["https://a.example", "https://b.example"], "sum": [3, 5]})
BARS = alt.Chart(FRAME).mark_bar().encode(x="city", y="sum", tooltip="url").to_dict()


def test_a_chart_is_drawn_as_png_and_svg_with_its_specification(tmp_path):
    report = chart(tmp_path, BARS | {"usermeta": {"embedOptions": {"loader": {"http": {}}}}})

    output = tmp_path / "output"
    assert [(file["file"], file["media_type"]) for file in report["files"]] == [
        ("chart.png", "image/png"),
        ("chart.svg", "image/svg+xml"),
        ("chart.vl.json", "application/vnd.vegalite+json"),
    ]
    assert all(file["size"] == (output / file["file"]).stat().st_size for file in report["files"])
    assert (output / "chart.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    svg = ET.fromstring((output / "chart.svg").read_text(encoding="utf-8"))
    assert "Köln" in [text for element in svg.iter() for text in [element.text] if text]
    assert json.loads((output / "chart.vl.json").read_text(encoding="utf-8")) == BARS


def with_encoding(**channels):
    return BARS | {"encoding": BARS["encoding"] | channels}


FETCHING = {
    "data from a url": BARS | {"data": {"url": "http://127.0.0.1/x.json"}},
    "a lookup in a url": BARS
    | {"transform": [{"lookup": "city", "from": {"data": {"url": "file:///etc/passwd"}, "key": "a", "fields": ["b"]}}]},
    "a layer within": {"layer": [BARS | {"data": {"url": "x.csv"}}]},
    "an image mark": BARS | {"mark": "image"},
    "an image of the data": with_encoding(url={"field": "url"}) | {"mark": {"type": "image"}},
    "a link": with_encoding(href={"field": "url"}),
    "a foreign paint": BARS | {"mark": {"type": "bar", "color": "url(http://127.0.0.1/x.svg#a)"}},
    "a foreign paint from the data": BARS
    | {
        "data": {"values": [{"city": "x", "sum": 1, "paint": "url( 'http://127.0.0.1/x' )"}]},
        "encoding": {"x": {"field": "city"}, "color": {"field": "paint", "scale": None}},
    },
}


@pytest.mark.parametrize("spec", FETCHING.values(), ids=FETCHING.keys())
def test_a_chart_that_would_load_something_is_refused(spec, tmp_path):
    with pytest.raises(Refusal, match="loads something from outside") as refusal:
        chart(tmp_path, spec)
    assert refusal.value.code == "code_failed"
    assert list((tmp_path / "output").iterdir()) == []


@pytest.mark.parametrize(
    "spec",
    ["no json", "[1]", "[" * 100_000, {"mark": "zebra", "data": {"values": []}}, {"a": 1}, {"$schema": "v99"}],
    ids=["text", "list", "depth", "mark", "other", "schema"],
)
def test_what_is_no_chart_is_refused_in_words_for_the_model(spec, tmp_path):
    with pytest.raises(Refusal) as refusal:
        chart(tmp_path, spec)
    assert refusal.value.code == "code_failed"
    assert "cdn.jsdelivr" not in refusal.value.message
    assert len(refusal.value.message) <= 500


def test_an_older_vega_lite_is_drawn_by_its_own_version(tmp_path):
    older = BARS | {"$schema": "https://vega.github.io/schema/vega-lite/v5.99.json"}

    assert len(chart(tmp_path, older)["files"]) == 3
