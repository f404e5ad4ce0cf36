"""The profile: hostile until it is parsed, and told to a model in few words."""

import copy
import io
import re

import pytest
from pydantic import ValidationError

from consumers.preprocessing.guest.read import read_file
from consumers.preprocessing.profile import PROMPT_CHARACTERS, FileReport, describe_tables
from consumers.sandbox.guest.contract import Folders

CSV = (
    b"Secret title\n"
    b"order_id;customer;amount;day;share;odd\n"
    b"007;Alpha Corp;11,50;31.12.2024;15 %;77\n"
    b"008;Beta Ltd;22,75;01.02.2023;16 %;unknowable\n"
    b"009;Gamma Inc;33,25;05.06.2022;17 %;88\n"
)


def report_of(content, folder):
    arguments = {"name": "x.csv", "extension": "csv", "media_type": "text/csv", "staged": None}
    return read_file(arguments, Folders(folder, folder), io.BytesIO(content))


def profile_of(content, folder):
    return FileReport.parse(report_of(content, folder)).tables[0]


def wide(columns, folder):
    names = ",".join(f"measure_number_{i}" for i in range(columns))
    return profile_of(f"{names}\n{','.join(['5'] * columns)}\n".encode(), folder)


def test_a_table_is_told_with_its_name_columns_and_decisions(tmp_path):
    text = describe_tables([("sales.csv", profile_of(CSV, tmp_path))], sample_rows=2)

    assert text.splitlines() == [
        "Table 'sales.csv': 3 rows, 6 columns",
        "- 'order_id': text, 3 different, e.g. '007', '008', '009'",
        "- 'customer': text, 3 different, e.g. 'Alpha Corp', 'Beta Ltd', 'Gamma Inc'",
        "- 'amount': decimal, from 11.5 to 33.25",
        "- 'day': date, from 2022-06-05 to 2024-12-31",
        "- 'share': integer, in %, from 15 to 17",
        "- 'odd': text, 3 different, e.g. '77', 'unknowable', '88'",
        "Note: 1 line above the table left out. (Secret title)",
        "Note: order_id: kept as text because values have leading zeros.",
        "Note: amount: read as numbers with a decimal comma.",
        "Note: day: read as dates, day first.",
        "Note: share: percent: the number is kept as written, 12 % is 12.",
        "Note: odd: kept as text because only 66.7% of its values are numbers. (unknowable)",
        "First rows:",
        "007 | Alpha Corp | 11.5 | 2024-12-31 | 15 | 77",
        "008 | Beta Ltd | 22.75 | 2023-02-01 | 16 | unknowable",
    ]


def test_without_sample_rows_no_value_of_any_cell_is_told(tmp_path):
    text = describe_tables([("sales.csv", profile_of(CSV, tmp_path))], sample_rows=0)

    cells = set(re.split(rb"[;\n]", CSV.split(b"\n", 2)[2])) - {b""}
    spelled = {cell.decode() for cell in cells} | {"11.5", "22.75", "33.25", "2024", "2023", "2022", "Secret", "15"}
    assert [cell for cell in spelled if cell in text] == []
    assert "'amount': decimal" in text


@pytest.mark.parametrize(("columns", "listed"), [(50, True), (250, True), (4000, False)])
def test_a_wide_table_fits_and_says_what_is_left_out(columns, listed, tmp_path):
    text = describe_tables([("wide.csv", wide(columns, tmp_path))], sample_rows=3)

    assert len(text) <= PROMPT_CHARACTERS * 1.05
    shown = len(re.findall(r"'measure_number_\d+'", text))
    assert (shown == columns) is listed
    left = re.search(r"and (\d+) more columns that are not listed", text)
    assert (int(left[1]) if left else 0) == columns - shown


def test_many_tables_share_the_room(tmp_path):
    table = wide(200, tmp_path)
    text = describe_tables([(f"t{i}.csv", table) for i in range(8)], sample_rows=3)

    assert len(text) <= PROMPT_CHARACTERS * 1.05
    assert text.count("Table 't") == 8


def test_the_same_tables_are_told_in_the_same_words(tmp_path):
    table = profile_of(CSV, tmp_path)

    assert describe_tables([("a", table)], 3) == describe_tables([("a", profile_of(CSV, tmp_path))], 3)


def test_names_with_quotes_are_written_as_code_must_write_them(tmp_path):
    table = profile_of(b"it's,b\nx,1\n", tmp_path)

    assert """- "it's": text""" in describe_tables([("o'clock.csv", table)], 1)
    assert '''Table "o'clock.csv"''' in describe_tables([("o'clock.csv", table)], 1)


def test_control_characters_of_a_file_reach_neither_report_nor_prompt(tmp_path):
    table = profile_of(b'na\x1b[31mme,b\n"a\nb\x07",1\nc,2\n', tmp_path)

    text = describe_tables([("x.csv", table)], 2)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "a b" in text


def _deep(report, path, value):
    changed = copy.deepcopy(report)
    part = changed
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    return changed


HOSTILE = {
    "another path": (("tables", 0, "file"), "../../etc/passwd"),
    "a file with a line end": (("tables", 0, "file"), "0.parquet\n"),
    "an unknown type": (("tables", 0, "columns", 0, "type"), "object"),
    "an endless name": (("tables", 0, "columns", 0, "name"), "x" * 200),
    "an empty name": (("tables", 0, "columns", 0, "name"), ""),
    "an escape sequence": (("tables", 0, "columns", 0, "examples"), ["\x1b]0;x\x07"]),
    "a line end in a note": (("notes",), [{"text": "a\nb", "values": []}]),
    "negative rows": (("tables", 0, "rows"), -1),
    "rows that are a text": (("tables", 0, "rows"), "5"),
    "too many examples": (("tables", 0, "columns", 0, "examples"), ["x"] * 6),
    "too many notes": (("tables", 0, "notes"), [{"text": "x", "values": []}] * 301),
    "too many tables": (("tables",), []),
    "a field of its own": (("tables", 0, "extra"), 1),
    "no object": (("tables", 0), None),
}


@pytest.mark.parametrize(("path", "value"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_report_that_is_not_as_agreed_is_refused(path, value, tmp_path):
    report = report_of(CSV, tmp_path)
    FileReport.parse(report)

    with pytest.raises(ValidationError):
        FileReport.parse(_deep(report, path, value))
