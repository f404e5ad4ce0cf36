"""What is delivered, made behind the walls and read by others: every cell as it was, and none of them run."""

import asyncio
import csv
import json
import math
import shutil
import subprocess
import zipfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

import duckdb
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

from consumers.ports import SandboxTask
from consumers.sandbox.tiers import open_tier

TEXTS = [
    "007", "12345678901234567890", "=1+1", "+49 170", "-5", "@SUM(A1)", ' "quoted", and;\tmore', "two\nlines",
    "a\r\nb", "", None, "Zoë 😀 שלום مرحبا", "﷽" * 3, "_x0041_", "bell\x07 tab\t", "<b>&amp;</b>", "x" * 32_767,
    "http://example.org", "'apostrophe", "TRUE", "NULL", "1e5", "2024-01-01", "   ", "=cmd|' /C calc'!A0",
]  # fmt: skip
ROWS = len(TEXTS)


def cycled(*values):
    return [values[i % len(values)] for i in range(ROWS)]


def moments(*texts):
    return cycled(*(None if text is None else datetime.fromisoformat(text) for text in texts))


NASTY = pa.table(
    {
        "id": pa.array(range(ROWS), pa.int32()),
        "text": pa.array(TEXTS, pa.string()),
        "whole": pa.array(cycled(-7, None, 10**15 - 1, 0), pa.int64()),
        "long": pa.array(cycled(2**62, 1, -(2**62), None), pa.int64()),
        "ratio": pa.array(cycled(0.1, -1.5e-9, None, 1e300, 2.0), pa.float64()),
        "odd": pa.array(cycled(math.inf, -math.inf, math.nan, 1.25), pa.float64()),
        "price": pa.array(cycled(Decimal("-1.20"), None, Decimal("3.45")), pa.decimal128(12, 2)),
        "paid": pa.array(cycled(True, False, None), pa.bool_()),
        "day": pa.array(cycled(date(2024, 2, 29), date(1850, 5, 6), None, date(1900, 3, 1)), pa.date32()),
        "seen": pa.array(moments("2024-01-02T03:04:05", "1969-12-31T23:59:59", None), pa.timestamp("us")),
        "=head": pa.array(cycled("a", "b"), pa.string()).dictionary_encode(),
    }
)
NAMES = NASTY.column_names
EXPECTED = [list(row.values()) for row in NASTY.to_pylist()]
needs_soffice = pytest.mark.skipif(shutil.which("soffice") is None, reason="soffice (LibreOffice) is not on PATH")


def sandboxed(table, folder, file_format, **choices):
    """The path of the one file that the sandbox made of a table, and the notes."""
    source, output = folder / "source.parquet", folder / f"output-{file_format}"
    pq.write_table(table, source)
    output.mkdir()
    told = {"format": file_format, "max_bytes": 10**9, "bom": False, "formula_safe": True} | choices
    told["tables"] = [{"name": "Näme [1]", "file": "1.parquet"}]
    call = "consumers.delivery.guest.export:export_tables"
    report = asyncio.run(_run(SandboxTask(call, told, {"1.parquet": source}, output), folder))
    return output / report.value["files"][0]["file"], report.value["notes"]


async def _run(task, folder):
    async with open_tier("namespaces", folder, spares=0) as sandbox:
        return await sandbox.run(task)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """The nasty table in each format; its csv as it is, to compare cells and not apostrophes."""
    folder = tmp_path_factory.mktemp("delivered")
    return {
        file_format: sandboxed(NASTY, folder, file_format, formula_safe=file_format != "csv")[0]
        for file_format in ("xlsx", "csv", "parquet", "json", "jsonl")
    }


def soffice(path, folder, target, *, infilter=None):
    """What LibreOffice makes of a file."""
    command = ["soffice", f"-env:UserInstallation=file://{folder}/profile", "--headless", "--convert-to", target]
    command += [f"--infilter={infilter}"] if infilter else []
    subprocess.run([*command, "--outdir", folder, path], check=True, capture_output=True, timeout=120)
    return folder / f"{path.stem}.{target.partition(':')[0]}"


# ---------------------------------------------------------------- xlsx


def in_excel(row):
    """A row as Excel can hold it."""
    cells = dict(zip(NAMES, row, strict=True))
    cells["text"] = cells["text"] or None
    for name in ("whole", "long"):
        value = cells[name]
        cells[name] = str(value) if value is not None and abs(value) >= 10**15 else value
    if cells["odd"] is not None:
        cells["odd"] = {math.inf: "inf", -math.inf: "-inf"}.get(cells["odd"], cells["odd"])
        cells["odd"] = None if cells["odd"] != cells["odd"] else cells["odd"]
    day = cells["day"]
    cells["day"] = (
        None if day is None else day.isoformat() if day.year < 1900 else datetime.fromisoformat(day.isoformat())
    )
    return list(cells.values())


def one_kind_of_line_end(value):
    # XML parsers and LibreOffice read every line end as "\n".
    return value.replace("\r\n", "\n") if isinstance(value, str) else value


def comparable(rows):
    return [[float(v) if isinstance(v, Decimal) else one_kind_of_line_end(v) for v in row] for row in rows]


def unescaped(rows):
    """Some readers show control characters as they are stored."""
    return [[unescape(value) if isinstance(value, str) else value for value in row] for row in rows]


EXCEL = [
    ["1969-12-31T23:59:59" if isinstance(v, str) and v.startswith("1969") else v for v in in_excel(row)]
    for row in EXPECTED
]


def test_openpyxl_reads_every_cell_of_the_workbook(delivered):
    sheet = openpyxl.load_workbook(delivered["xlsx"]).active
    rows = [list(row) for row in sheet.iter_rows(values_only=True)]

    assert sheet.title == "Näme 1"
    assert rows[0] == NAMES
    assert comparable(unescaped(rows[1:])) == comparable(EXCEL)


def test_pandas_reads_every_cell_of_the_workbook(delivered):
    frame = pd.read_excel(delivered["xlsx"], engine="openpyxl", dtype=object, keep_default_na=False, na_values=[])
    rows = [[None if value == "" else value for value in row] for row in frame.to_numpy().tolist()]

    assert list(frame.columns) == NAMES
    assert comparable(unescaped(rows)) == comparable(EXCEL)


SHOWN = {True: "TRUE", False: "FALSE", None: ""}


def shown(name, value):
    """A cell of the workbook as LibreOffice shows it."""
    if value is None or isinstance(value, bool):
        return SHOWN[value]
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d" if name == "day" else "%Y-%m-%d %H:%M:%S")
    if isinstance(value, Decimal):
        return f"{value:.2f}"
    return value if isinstance(value, str) else float(value)


@needs_soffice
def test_libreoffice_reads_every_cell_of_the_workbook(delivered, tmp_path):
    target = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true"
    rows = read_csv(soffice(delivered["xlsx"], tmp_path, target))

    assert rows[0] == NAMES
    for found, row in zip(rows[1:], EXCEL, strict=True):
        expected = [one_kind_of_line_end(shown(name, value)) for name, value in zip(NAMES, row, strict=True)]
        assert [
            pytest.approx(float(f), rel=1e-8) == e if isinstance(e, float) else f.replace("\r\n", "\n") == e
            for f, e in zip(found, expected, strict=True)
        ] == [True] * len(NAMES), (found, expected)


# ---------------------------------------------------------------- csv


def read_csv(path):
    csv.field_size_limit(10**7)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def spelled(value):
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: None}[value]
    if isinstance(value, float):
        return (
            None
            if math.isnan(value)
            else {0.1: "0.1", -1.5e-9: "-1.5e-9", 1e300: "1e+300", 2.0: "2"}.get(value, str(value))
        )
    return str(value)


SPELLED = [[spelled(value) for value in row] for row in EXPECTED]


def test_duckdb_reads_every_cell_of_the_csv_and_tells_empty_from_missing(delivered):
    query = duckdb.sql(
        f"SELECT * FROM read_csv('{delivered['csv']}', all_varchar=true, header=true, allow_quoted_nulls=false)"
    )

    assert query.columns == NAMES
    assert [list(row) for row in query.fetchall()] == SPELLED


def test_pandas_reads_every_cell_of_the_csv(delivered):
    frame = pd.read_csv(delivered["csv"], dtype=str, keep_default_na=False)

    assert list(frame.columns) == NAMES
    assert frame.to_numpy().tolist() == [[value or "" for value in row] for row in SPELLED]


@needs_soffice
def test_libreoffice_reads_every_cell_of_the_csv_as_text(delivered, tmp_path):
    as_texts = "/".join(f"{place}/2" for place in range(1, len(NAMES) + 1))
    target = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true"
    rows = read_csv(soffice(delivered["csv"], tmp_path, target, infilter=f"CSV:44,34,76,1,{as_texts}"))

    assert rows[0] == NAMES
    found = [[cell.replace("\r\n", "\n") for cell in row] for row in rows[1:]]
    assert found == [[(value or "").replace("\r\n", "\n") for value in row] for row in SPELLED]


# ---------------------------------------------------------------- parquet and json


def plain(value):
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def test_duckdb_and_pandas_read_every_cell_of_the_parquet_with_its_type(delivered):
    query = duckdb.sql(f"SELECT * FROM '{delivered['parquet']}'")
    assert query.columns == NAMES
    assert [str(kind) for kind in query.types] == [
        "INTEGER", "VARCHAR", "BIGINT", "BIGINT", "DOUBLE", "DOUBLE", "DECIMAL(12,2)", "BOOLEAN", "DATE", "TIMESTAMP",
        "VARCHAR",
    ]  # fmt: skip
    expected = [[plain(value) for value in row] for row in EXPECTED]
    assert [[plain(value) for value in row] for row in query.fetchall()] == expected

    frame = pd.read_parquet(delivered["parquet"], dtype_backend="pyarrow")
    assert [[plain(value) for value in row.values()] for row in pa.Table.from_pandas(frame).to_pylist()] == expected


def in_json(value):
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) >= 2**53:
        return str(value)
    return value.isoformat() if isinstance(value, date) else float(value) if isinstance(value, Decimal) else value


JSON = [[in_json(value) for value in row] for row in EXPECTED]


@pytest.mark.parametrize("file_format", ["json", "jsonl"])
def test_duckdb_and_pandas_read_every_cell_of_json(file_format, delivered):
    path = delivered[file_format]
    kinds = ["INTEGER", "VARCHAR", "BIGINT", "BIGINT", *["DOUBLE"] * 3, "BOOLEAN", *["VARCHAR"] * 3]
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in zip(NAMES, kinds, strict=True))
    layout = "array" if file_format == "json" else "newline_delimited"
    query = duckdb.sql(f"SELECT * FROM read_json('{path}', format='{layout}', columns={{{columns}}})")
    # duckdb was told that the long column holds whole numbers, and reads them from text too.
    whole = [
        [int(value) if name == "long" and value else value for name, value in zip(NAMES, row, strict=True)]
        for row in JSON
    ]
    assert [list(row) for row in query.fetchall()] == whole

    text = path.read_text(encoding="utf-8")
    rows = json.loads(text) if file_format == "json" else [json.loads(line) for line in text.split("\n")[:-1]]
    assert [list(row.values()) for row in rows] == JSON
    frame = pd.read_json(path, lines=file_format == "jsonl", dtype=False, precise_float=True)
    found = [[None if pd.isna(value) else value for value in row] for row in frame.to_numpy().tolist()]
    assert found == JSON


# ---------------------------------------------------------------- nothing is run

PIECES = [*"=+-@;|!'\"\t\r\n ,{}()A1", "＝", "＋", "－", "＠", "\u00a0", "\u200b", "\ufeff", "1+1", "cmd|' /C calc'!A0",
          "SUM(1)", "HYPERLINK(\"http://a\")", "http://a", "é"]  # fmt: skip
ARMED = st.lists(st.sampled_from(PIECES), max_size=7).map("".join)
BATCH = st.lists(ARMED, min_size=300, max_size=300)


def armed_table(texts):
    return pa.table({"=1+1": texts, "n": [-1.5] * len(texts), "odd": [-math.inf] * len(texts)})


def inside(path):
    """Everything in a workbook, part by part."""
    with zipfile.ZipFile(path) as archive:
        return {name: ET.fromstring(archive.read(name)) for name in archive.namelist()}


def formulas_in(fods: Path):
    formula = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}formula"
    return [cell.attrib[formula] for cell in ET.parse(fods).iter() if formula in cell.attrib]


@settings(max_examples=3)
@given(BATCH)
def test_no_cell_of_a_workbook_is_a_formula_or_a_link(tmp_path_factory, texts):
    path, _ = sandboxed(armed_table(texts), tmp_path_factory.mktemp("armed"), "xlsx")
    parts = inside(path)
    tags = {element.tag.rpartition("}")[2] for part in parts.values() for element in part.iter()}
    sheet = openpyxl.load_workbook(path).active

    assert not tags & {"f", "hyperlink", "hyperlinks", "externalReference", "ddeLink"}
    assert {cell.data_type for row in sheet.iter_rows() for cell in row if cell.value is not None} <= {"s", "n"}
    assert not any("externalLink" in name or "vba" in name.lower() for name in parts)


@needs_soffice
def test_libreoffice_would_run_what_is_not_disarmed(tmp_path):
    path, _ = sandboxed(armed_table(["=1+1", "x"]), tmp_path, "csv", formula_safe=False)

    assert len(formulas_in(soffice(path, tmp_path, "fods", infilter=f"CSV:{ALL_KINDS}"))) >= 2


# Separators, quote, UTF-8, from line 1, …, quoted fields are not text, special numbers are read, …, formulas are run.
ALL_KINDS = "44,34,76,1,,0,false,true,false,false,false,-1,true"
SEMICOLONS = ALL_KINDS.replace("44,", "59,", 1)


@needs_soffice
@pytest.mark.parametrize("kinds", [ALL_KINDS, SEMICOLONS], ids=["commas", "semicolons"])
@settings(max_examples=1)
@given(texts=BATCH)
def test_libreoffice_runs_no_cell_of_a_csv(tmp_path_factory, kinds, texts):
    folder = tmp_path_factory.mktemp("armed")
    # Never mended by the quotes of others: what parts cells at semicolons heeds them only where a cell begins.
    path, notes = sandboxed(armed_table([*texts, "=1+1", "a;=1+1;b", "a\n=1+1\nb"]), folder, "csv")

    assert formulas_in(soffice(path, folder, "fods", infilter=f"CSV:{kinds}")) == []
    assert "texts that a spreadsheet would run" in notes[0]


@needs_soffice
def test_libreoffice_runs_no_cell_of_a_workbook(tmp_path):
    path, _ = sandboxed(
        armed_table(["=1+1", "+1+1", "-1+1", "@SUM(1)", "＝1+1", '=HYPERLINK("http://a")']), tmp_path, "xlsx"
    )

    assert formulas_in(soffice(path, tmp_path, "fods")) == []
