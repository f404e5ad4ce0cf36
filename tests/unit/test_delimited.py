"""Dirty delimited text, as people export it, and what becomes of it."""

import csv
import io
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.preprocessing.guest.dialect import Dialect
from consumers.preprocessing.guest.even import even_columns
from consumers.preprocessing.guest.kinds import needs_staging
from consumers.preprocessing.guest.read import read_file
from consumers.preprocessing.guest.records import MAX_RECORD_CHARACTERS, RecordReader
from consumers.sandbox.guest.contract import Folders, Refusal

ROOT = Path(__file__).parents[2]


def read(content, folder, name="upload.csv", extension="csv", media_type="text/csv"):
    arguments = {"name": name, "extension": extension, "media_type": media_type, "staged": None}
    return read_file(arguments, Folders(folder, folder), io.BytesIO(content))


@dataclass(frozen=True)
class Nasty:
    """One file; ``types`` by column, the first row as Python values, and words that the notes must hold."""

    content: bytes
    types: dict[str, str]
    first: tuple[object, ...]
    rows: int
    told: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)
    kind: str = "csv"


NASTY = {
    "german export with a preamble, decimal commas and ids with leading zeros": Nasty(
        b"Umsatzbericht 2024\r\n\r\nNr;Kunde;Betrag;Datum\r\n007;M\xc3\xbcller;1.234,50;31.12.2024\r\n"
        b"008;Schulz;7,00;01.02.2024\r\n",
        {"Nr": "text", "Kunde": "text", "Betrag": "decimal", "Datum": "date"},
        ("007", "Müller", 1234.5, "2024-12-31"),
        2,
        ("1 line above the table left out", "leading zeros", "decimal comma", "day first"),
    ),
    "windows-1252 without a byte order mark": Nasty(
        b"name;city\nJos\xe9 \x80;K\xf6ln\nAnn;Paris\nZo\xeb;Bonn\n",
        {"name": "text", "city": "text"},
        ("José €", "Köln"),
        3,
        ("Not UTF-8 in 2 lines",),
    ),
    "utf-16 with tabs, as Excel's Unicode text": Nasty(
        "\ufeffa\tb\r\nß\t1\r\n€\t2\r\n".encode("utf-16-le"),
        {"a": "text", "b": "integer"},
        ("ß", 1),
        2,
        kind="tsv",
    ),
    "utf-8 with a byte order mark and sep=": Nasty(
        b"\xef\xbb\xbfsep=|\r\na|b\r\nx,y;z|1\r\nw|2\r\n", {"a": "text", "b": "integer"}, ("x,y;z", 1), 2
    ),
    "old Mac line ends and no last one": Nasty(b"a,b\r1,x\r2,y", {"a": "integer", "b": "text"}, (1, "x"), 2),
    "line breaks and doubled quotes inside of quotes": Nasty(
        b'id,text\n1,"one\ntwo, ""three"""\n2,plain\n', {"id": "integer", "text": "text"}, (1, 'one\ntwo, "three"'), 2
    ),
    "a quote that never closes": Nasty(
        b'id,text,n\n1,"never closed,5\n2,b,6\n3,c,7\n',
        {"id": "integer", "text": "text", "n": "integer"},
        (1, '"never closed', 5),
        3,
        ("1 line (2): a quote that never closes",),
    ),
    "a quote that closes only rows later": Nasty(
        b'id,text,n\n1,"oops,5\n2,b,6\n3,"fine",7\n4,d,8\n',
        {"id": "integer", "text": "text", "n": "integer"},
        (1, '"oops', 5),
        4,
        ("a quote that never closes",),
    ),
    "ragged rows": Nasty(
        b"a,b,c\n1,2,3\n4,5\n6,7,8,9,10\n11,12,13\n",
        {"a": "integer", "b": "integer", "c": "integer", "extra_cells": "text"},
        (1, 2, 3, None),
        4,
        ("1 line (3): fewer cells", "1 line (4): more cells"),
    ),
    "a delimiter at the end of every line": Nasty(b"a;b;\n1;x;\n2;y;\n", {"a": "integer", "b": "text"}, (1, "x"), 2),
    "no header": Nasty(
        b"1,Ann,2024-01-01\n2,Bob,2024-01-02\n3,Cid,2024-01-03\n",
        {"column_1": "integer", "column_2": "text", "column_3": "date"},
        (1, "Ann", "2024-01-01"),
        3,
        ("No row gives names",),
    ),
    "repeated and blank names": Nasty(
        b"id,value,value,,\n1,2,3,4,\n5,6,7,8,\n",
        {"id": "integer", "value": "integer", "value_2": "integer", "column_4": "integer"},
        (1, 2, 3, 4),
        2,
        ("Repeated column names were numbered: value", "column_N"),
    ),
    "years as names": Nasty(
        b"country,2022,2023\nFR,1,2\nDE,3,4\n",
        {"country": "text", "2022": "integer", "2023": "integer"},
        ("FR", 1, 2),
        2,
    ),
    "two exports pasted together": Nasty(
        b"a,b\n1,x\na,b\n2,y\n", {"a": "integer", "b": "text"}, (1, "x"), 2, ("again in 1 row",)
    ),
    "blank lines, spaces and rows of nothing but delimiters": Nasty(
        b"\n\na , b\n 1 ,  x\n\n,\n2,y \n   \n",
        {"a": "integer", "b": "text"},
        (1, "x"),
        2,
        ("Spaces around 3 values removed",),
    ),
    "units, percent and accountants' negatives": Nasty(
        "item;price;share;change\na;1 234,50 €;12 %;(100)\nb;5,00 €;7,5 %;50-\n".encode(),
        {"item": "text", "price": "decimal", "share": "decimal", "change": "integer"},
        ("a", 1234.5, 12.0, -100),
        2,
        ("12 % is 12", "amounts in €"),
        {"price": "€", "share": "%"},
    ),
    "missing words are no missing values": Nasty(
        b"a,b\nNA,1\nNone,n/a\n,3\n", {"a": "text", "b": "text"}, ("NA", "1"), 3, ("66.7% of its values are numbers",)
    ),
    "a few NULs in text": Nasty(
        b"a,b\n" + b"x,1\n" * 200 + b"y\0,2\n", {"a": "text", "b": "integer"}, ("x", 1), 201, ("1 NUL character",)
    ),
    "one column of prose": Nasty(
        b"comment\nwell, ok\nbad\nfine\ngood\n\nnice; really\nhm\nno, no\n", {"comment": "text"}, ("well, ok",), 7
    ),
}


@pytest.mark.parametrize("nasty", NASTY.values(), ids=NASTY.keys())
def test_a_nasty_file_is_read_as_a_person_would(nasty, tmp_path):
    report = read(nasty.content, tmp_path)
    (table,) = report["tables"]
    stored = pq.read_table(tmp_path / table["file"])
    told = " ".join(f"{note['text']} {note['values']}" for note in table["notes"])

    assert {column["name"]: column["type"] for column in table["columns"]} == nasty.types
    first = stored.slice(0, 1).to_pylist()[0].values()
    assert [v.isoformat() if hasattr(v, "isoformat") else v for v in first] == list(nasty.first)
    assert table["rows"] == stored.num_rows == nasty.rows
    assert [words for words in nasty.told if words not in told] == []
    assert {c["name"]: c["unit"] for c in table["columns"] if c["unit"]} == nasty.units
    assert report["kind"] == nasty.kind
    assert [path.name for path in tmp_path.iterdir() if path.stat().st_size] == ["0.parquet"]


REFUSED = {
    "nothing": (b"", "csv", "file_empty"),
    "only blank lines": (b" \r\n\t\n \n", "csv", "file_empty"),
    "names without rows": (b"name,amount\n", "csv", "file_empty"),
    "a PNG": (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "csv", "file_type"),
    "a PDF": (b"%PDF-1.7\n1 0 obj\n", "csv", "file_type"),
    "a workbook": (b"PK\x03\x04" + b"\0" * 40, "csv", "file_type"),
    "a web page": (b"\n <!DOCTYPE html><html><table></table></html>", "csv", "file_type"),
    "JSON": (b'[{"a": 1}, {"a": 2}]', "csv", "file_type"),
    "binary": (bytes(range(256)) * 20, "csv", "file_type"),
    "text that says it is an image": (b"a,b\n1,2\n", "png", "file_type"),
    "quotes without end": (b"a,b\n" + b'"x"y","z\n' * 2001, "csv", "file_unreadable"),
}


@pytest.mark.parametrize(("content", "extension", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_table_is_refused_with_a_sentence_that_names_the_file(content, extension, code, tmp_path):
    with pytest.raises(Refusal) as refusal:
        read(content, tmp_path, name="my upload", extension=extension)

    assert refusal.value.code == code
    assert '"my upload"' in refusal.value.message


def test_a_refused_type_names_what_the_file_is_and_what_it_is_called(tmp_path):
    with pytest.raises(Refusal, match=r"is called \.csv but is a PNG image"):
        read(b"\x89PNG\r\n\x1a\n", tmp_path)


def test_an_endless_line_is_refused(tmp_path):
    with pytest.raises(Refusal) as refusal:
        read(b"a,b\n" + b"x" * (17 * 1024 * 1024), tmp_path)

    assert refusal.value.code == "file_unreadable"


def test_an_open_quote_does_not_swallow_the_rest_of_a_large_file(tmp_path):
    line = b"1,some text of a row,2\n"
    content = b"a,b,c\n" + line * 10 + b'7,"open,8\n' + line * (3 * MAX_RECORD_CHARACTERS // len(line))

    (table,) = read(content, tmp_path)["tables"]

    assert table["rows"] == content.count(b"\n") - 1
    assert any("line (12): a quote that never closes" in note["text"] for note in table["notes"])


def test_a_quote_that_swallows_rows_is_found_in_every_block(tmp_path):
    row = b"1,some text of a row,2\n"
    bad = b'7,"open,8\n' + row * 3 + b'9,"fine",9\n'
    content = b"a,b,c\n" + row * 200_000 + bad + row * 200_000

    (table,) = read(content, tmp_path)["tables"]

    assert table["rows"] == 400_005
    assert table["notes"][0]["text"].startswith("1 line (200002): a quote that never closes")


def test_rows_are_the_same_whether_blocks_are_read_the_short_way_or_not(tmp_path):
    rows = [[str(i), f'say "{i}"', f"{i / 4:.2f}"] for i in range(120_000)]
    rows[70_000] = ["70000", "short"]
    text = io.StringIO()
    csv.writer(text).writerows([["id", "word", "amount"], *rows])

    (table,) = read(text.getvalue().encode(), tmp_path)["tables"]
    stored = pq.read_table(tmp_path / table["file"])

    rows[70_000].append("")
    assert stored["id"].to_pylist() == list(range(120_000))
    assert stored["word"].to_pylist() == [row[1] for row in rows]
    assert stored["amount"].to_pylist() == [float(row[2]) if row[2] else None for row in rows]
    assert table["notes"][0]["text"].startswith("1 line (70002): fewer cells")


CELLS = st.text(st.sampled_from('ab,;"\n\r ü'), max_size=6)


@settings(deadline=None)
@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8), st.integers(1, 9))
def test_whatever_a_csv_writer_writes_is_read_back_wherever_blocks_end(rows, length):
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    lines = io.StringIO(text.getvalue(), newline="").readlines()
    blocks = ["".join(lines[i : i + length]) for i in range(0, len(lines), length)]
    reader = RecordReader(Dialect(",", skip_spaces=False, explicit=False), width=3, name="x")

    assert [row for batch in reader.batches(blocks) for _, row in batch] == rows
    assert reader.notes() == []


@settings(deadline=None)
@given(st.text(st.sampled_from('ab,"\n'), max_size=40))
def test_the_short_way_reads_a_block_as_the_csv_module_does_or_not_at_all(block):
    batch = even_columns(block, width=2, delimiter=",")

    if batch is not None:
        assert [list(row.values()) for row in batch.to_pylist()] == list(csv.reader(io.StringIO(block)))


def test_the_entry_reads_standard_input_and_never_imports_pandas(tmp_path):
    program = (
        "import sys; from pathlib import Path; from consumers.sandbox.guest.contract import Folders;"
        "from consumers.preprocessing.guest.read import read_upload; here = Path(sys.argv[1]);"
        "report = read_upload(dict(name='x', extension='csv', media_type='', staged=None), Folders(here, here));"
        "print(report['tables'][0]['rows'], 'pandas' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, tmp_path], input=b"a,b\n1,x\n2,y\n", capture_output=True, check=True, cwd=ROOT
    )

    assert ran.stdout.split() == [b"2", b"False"]


def test_only_workbooks_are_staged():
    assert needs_staging("XLSX", "")
    assert needs_staging("", "application/vnd.ms-excel")
    assert not needs_staging("csv", "application/vnd.ms-excel")
    assert not needs_staging(".tsv", "text/tab-separated-values")
    assert not needs_staging("pdf", "application/pdf")
