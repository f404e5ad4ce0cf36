"""Workbooks: which sheets become tables, with which types; and which files are refused before a parser sees them."""

import json
import struct
import zipfile
from datetime import date, datetime, time
from pathlib import Path

import openpyxl
import pyarrow.parquet as pq
import pytest
import xlsxwriter

from consumers.preprocessing.guest import archives
from consumers.preprocessing.guest.read import read_file
from consumers.sandbox.guest.contract import Folders, Refusal

DATA = Path(__file__).parent.parent / "data" / "tables"
WORKBOOK_STREAM = "Workbook".encode("utf-16-le")
OLE_HEADER = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def read(folder, name="book.xlsx"):
    arguments = {"name": name, "extension": name.rpartition(".")[2], "media_type": "", "staged": name}
    output = folder / "output"
    output.mkdir()
    return read_file(arguments, Folders(folder, output), None)


def save(folder, sheets, hidden=()):
    """Write ``book.xlsx``: a dict from sheet name to rows."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
        if name in hidden:
            sheet.sheet_state = "hidden"
    book.save(folder / "book.xlsx")


def types(table):
    return {column["name"]: column["type"] for column in table["columns"]}


def stored(folder, table):
    return pq.read_table(folder / "output" / table["file"]).to_pydict()


def refusal_of(folder, name="book.xlsx"):
    with pytest.raises(Refusal) as refusal:
        read(folder, name)
    assert f'"{name}"' in refusal.value.message
    return refusal.value.code


def test_cells_keep_their_types(tmp_path):
    moment = datetime.fromisoformat("2024-03-04T05:06:07")
    save(
        tmp_path,
        {
            "Orders": [
                ["id", "name", "amount", "day", "seen", "paid", "code"],
                [1, "Ann", 1.234, date(2024, 1, 2), moment, True, "007"],
                [2, None, 5.678, date(2024, 2, 3), moment, False, "008"],
            ]
        },
    )

    (table,) = read(tmp_path)["tables"]

    assert table["sheet"] == "Orders"
    assert types(table) == {
        "id": "integer",
        "name": "text",
        "amount": "decimal",
        "day": "date",
        "seen": "datetime",
        "paid": "boolean",
        "code": "text",
    }
    assert stored(tmp_path, table) == {
        "id": [1, 2],
        "name": ["Ann", None],
        "amount": [1.234, 5.678],
        "day": [date(2024, 1, 2), date(2024, 2, 3)],
        "seen": [moment, moment],
        "paid": [True, False],
        "code": ["007", "008"],
    }


def test_every_visible_sheet_with_rows_is_a_table_and_the_others_are_told(tmp_path):
    rows = [["a"], [1]]
    save(tmp_path, {"One": rows, "Secret": rows, "Blank": [], "Names": [["a", "b"]], "Two": rows}, hidden=["Secret"])

    report = read(tmp_path)

    assert [(table["sheet"], table["file"]) for table in report["tables"]] == [
        ("One", "0.parquet"),
        ("Two", "1.parquet"),
    ]
    told = " ".join(note["text"] for note in report["notes"])
    assert "Hidden sheets were left out: Secret." in told
    assert "The sheet Blank is empty" in told
    assert "The sheet Names is empty" in told


def test_titles_above_and_margins_around_a_table_are_left_out(tmp_path):
    save(
        tmp_path,
        {
            "S": [
                [],
                [None, "Report for March"],
                [],
                [None, "name", "amount", None],
                [None, "x", 1, None],
                [],
                [None, "y", 2, None],
                [None, None, None, None],
            ]
        },
    )

    (table,) = read(tmp_path)["tables"]

    assert stored(tmp_path, table) == {"name": ["x", "y"], "amount": [1, 2]}
    assert table["notes"] == [{"text": "1 line above the table left out.", "values": ["Report for March"]}]


def test_a_column_of_numbers_and_texts_is_typed_by_its_texts(tmp_path):
    save(tmp_path, {"S": [["n", "m", "t"], [1, 1, time(3, 4)], ["2", "n/a", 5], ["3.5", 2, "x"]]})

    (table,) = read(tmp_path)["tables"]

    assert stored(tmp_path, table) == {
        "n": [1.0, 2.0, 3.5],
        "m": ["1", "n/a", "2"],
        "t": ["03:04:00", "5", "x"],
    }


def test_numbers_beyond_fifteen_digits_and_tiny_ones_are_kept(tmp_path):
    save(tmp_path, {"S": [["big", "odd"], [1e300, 1e-300], [1.5e16, 0.1]]})

    (table,) = read(tmp_path)["tables"]

    assert stored(tmp_path, table) == {"big": [1e300, 1.5e16], "odd": [1e-300, 0.1]}


def test_a_sheet_of_many_batches_keeps_its_rows_in_order(tmp_path):
    with xlsxwriter.Workbook(tmp_path / "book.xlsx", {"constant_memory": True}) as book:
        sheet = book.add_worksheet("S")
        sheet.write_row(0, 0, [f"c{i}" for i in range(100)])
        for i in range(2100):
            sheet.write_row(i + 1, 0, [i] * 100)

    (table,) = read(tmp_path)["tables"]

    assert stored(tmp_path, table)["c99"] == list(range(2100))


def test_a_report_of_many_wide_sheets_stays_short_enough_to_be_sent(tmp_path):
    with xlsxwriter.Workbook(tmp_path / "book.xlsx", {"constant_memory": True}) as book:
        for number in range(6):
            sheet = book.add_worksheet(f"S{number}")
            sheet.write_row(0, 0, [f"{i} {'€' * 90}" for i in range(1400)])
            sheet.write_row(1, 0, ["x" * 100] * 1400)

    report = read(tmp_path)

    assert len(json.dumps(report, ensure_ascii=False).encode()) < 3 * 1024 * 1024
    assert 1 < len(report["tables"]) < 6
    assert f"Only the first {len(report['tables'])} of 6 sheets" in report["notes"][-1]["text"]


@pytest.mark.parametrize("extension", ["xls", "ods"])
def test_older_and_open_formats_are_read_too(extension, tmp_path):
    (tmp_path / f"orders.{extension}").write_bytes((DATA / f"orders.{extension}").read_bytes())

    report = read(tmp_path, f"orders.{extension}")

    assert report["kind"] == extension
    assert stored(tmp_path, report["tables"][0]) == {
        "order": [1, 2],
        "customer": ["Ann", "Bob"],
        "day": [date(2024, 1, 2), date(2024, 2, 3)],
        "amount": [10.5, 7.25],
    }


def test_a_workbook_encrypted_by_excel_is_protected(tmp_path):
    (tmp_path / "book.xlsx").write_bytes(OLE_HEADER + bytes(600) + "EncryptedPackage".encode("utf-16-le"))

    assert refusal_of(tmp_path) == "file_protected"


def test_a_zip_with_an_encrypted_entry_is_protected(tmp_path):
    save(tmp_path, {"S": [["a"], [1]]})
    content = bytearray((tmp_path / "book.xlsx").read_bytes())
    content[content.find(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "book.xlsx").write_bytes(content)

    assert refusal_of(tmp_path) == "file_protected"


@pytest.mark.parametrize(
    "content", [b"name,amount\nx,1\n", b"\x89PNG\r\n\x1a\n", b"%PDF-1.4", OLE_HEADER + b"WordDocument" * 50]
)
def test_what_is_no_workbook_is_refused_by_its_type(content, tmp_path):
    (tmp_path / "book.xlsx").write_bytes(content)

    assert refusal_of(tmp_path) == "file_type"


def test_a_web_page_called_xls_is_refused_and_both_are_named(tmp_path):
    (tmp_path / "book.xls").write_bytes(b"<html><table><tr><td>1</td></tr></table></html>")

    with pytest.raises(Refusal, match=r"is called \.xls but is a web page") as refusal:
        read(tmp_path, "book.xls")
    assert refusal.value.code == "file_type"


def test_a_word_document_is_refused_by_its_type(tmp_path):
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as archive:
        archive.writestr("word/document.xml", "<x/>")

    assert refusal_of(tmp_path) == "file_type"


def test_an_empty_workbook_and_no_bytes_at_all_are_empty(tmp_path):
    save(tmp_path, {"S": []})
    (tmp_path / "none.xlsx").write_bytes(b"")

    assert refusal_of(tmp_path) == "file_empty"
    (tmp_path / "output").rmdir()
    assert refusal_of(tmp_path, "none.xlsx") == "file_empty"


@pytest.mark.parametrize("cut", [0.3, 0.9, 0.999])
def test_a_workbook_that_was_cut_off_is_unreadable(cut, tmp_path):
    save(tmp_path, {"S": [["a"], *([i] for i in range(500))]})
    content = (tmp_path / "book.xlsx").read_bytes()
    (tmp_path / "book.xlsx").write_bytes(content[: int(len(content) * cut)])

    assert refusal_of(tmp_path) == "file_unreadable"


@pytest.mark.parametrize("cut", [512, 2500, 4000])
def test_an_old_workbook_that_was_cut_off_is_unreadable_even_where_its_parser_panics(cut, tmp_path):
    (tmp_path / "book.xls").write_bytes((DATA / "orders.xls").read_bytes()[:cut] + b"\0" * 200 + WORKBOOK_STREAM)

    assert refusal_of(tmp_path, "book.xls") == "file_unreadable"


def test_a_directory_with_names_in_no_encoding_is_unreadable(tmp_path):
    _bomb([("xl/ünïcode.xml", b"x")])(tmp_path / "book.xlsx")
    content = (tmp_path / "book.xlsx").read_bytes()
    (tmp_path / "book.xlsx").write_bytes(content.replace("ü".encode(), b"\xff\xff"))

    assert refusal_of(tmp_path) == "file_unreadable"


def test_a_sheet_without_a_name_gets_one(tmp_path):
    save(tmp_path, {"Nameless": [["a"], [1]]})
    with zipfile.ZipFile(tmp_path / "book.xlsx") as old, zipfile.ZipFile(tmp_path / "other.xlsx", "w") as new:
        for entry in old.namelist():
            new.writestr(entry, old.read(entry).replace(b'name="Nameless"', b'name=" "'))

    assert read(tmp_path, "other.xlsx")["tables"][0]["sheet"] == "Sheet 1"


def test_a_workbook_with_broken_xml_is_unreadable(tmp_path):
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook><sheets>")

    assert refusal_of(tmp_path) == "file_unreadable"


def _bomb(entries):
    def write(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xl/workbook.xml", "<x/>")
            for name, content in entries:
                archive.writestr(name, content)

    return write


def _claims_a_terabyte_directory(path):
    _bomb([])(path)
    content = bytearray(path.read_bytes())
    at = content.rfind(b"PK\x05\x06")
    content[at + 8 : at + 12] = struct.pack("<2H", 0xFFFF, 0xFFFF)
    path.write_bytes(content)


def _claims_a_large_entry(path):
    _bomb([("xl/sheet.xml", "x")])(path)
    content = bytearray(path.read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<L", archives.MAX_ENTRY_BYTES + 1)
    path.write_bytes(content)


BOMBS = {
    "a ratio of more than 200": _bomb([("xl/sheet.xml", b"0" * 20_000_000)]),
    "a path that climbs": _bomb([("xl/../../etc/passwd", b"x")]),
    "too many entries": _bomb((f"xl/{i}", b"") for i in range(archives.MAX_ENTRIES)),
    "zip64 entry counts": _claims_a_terabyte_directory,
    "an entry of more than 512 MB": _claims_a_large_entry,
}


@pytest.mark.parametrize("write", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_from_its_directory_alone(write, tmp_path):
    path = tmp_path / "book.xlsx"
    write(path)

    with pytest.raises(Refusal) as refusal:
        archives.workbook_kind(path, "book.xlsx")
    assert refusal.value.code == "file_unreadable"
