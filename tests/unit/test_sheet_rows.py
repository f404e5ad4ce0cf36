"""Rows on their way into a sheet: what a result's values become, and what the host takes from a sandbox."""

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from process_sandbox import process_sandbox

from consumers.delivery.sheet.book import Cell
from consumers.delivery.sheet.rows import (
    MAX_REQUEST_BYTES,
    RowsReport,
    digest_of,
    read_chunks,
    spelled_as_entered,
    spelled_out,
    value_of,
)
from consumers.ports import GuestRefusal, SandboxTask
from consumers.sandbox.outputs import UnsafeOutput

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


async def exported(folder, columns):
    """The rows that ``export_rows`` writes of a table, and its report."""
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    path = folder / "result.parquet"
    pq.write_table(table, path)
    output = folder / "output"
    output.mkdir()
    task = SandboxTask("consumers.delivery.guest.rows:export_rows", {}, {"result.parquet": path}, output)
    report = RowsReport.model_validate((await process_sandbox().run(task)).value)
    chunks = [chunk async for chunk in read_chunks(output, report, max_bytes=MAX_REQUEST_BYTES)]
    return [row for chunk in chunks for row in chunk.rows], report


# ---------------------------------------------------------------- values of the result


async def test_every_kind_of_value_becomes_what_a_sheet_holds(tmp_path):
    rows, report = await exported(
        tmp_path,
        {
            "text": pa.array(["=1+1", "", None]),
            "whole": pa.array([1, -(10**15) + 1, 10**15], pa.int64()),
            "float": pa.array([0.1, float("nan"), float("-inf")]),
            "decimal": pa.array([Decimal("1.50"), Decimal("12345678901234.5678"), None]),
            "truth": pa.array([True, False, None]),
            "day": pa.array([date(1899, 12, 31), date(2026, 1, 31), date(1800, 1, 1)]),
            "moment": pa.array([NOON, NOON.replace(hour=0, second=1), None], pa.timestamp("us")),
        },
    )

    assert rows == [
        ["=1+1", 1, 0.1, 1.5, True, 1, 46053.5],
        [None, -(10**15) + 1, None, "12345678901234.5678", False, 46053, 46053 + 1 / 86_400],
        [None, "1000000000000000", "-inf", None, None, -36522, None],
    ]
    assert [column.kind for column in report.columns] == ["text", *["number"] * 3, "bool", "date", "datetime"]
    assert report.notes == (
        "2 numbers of more than 15 digits were written as text, to keep every digit.",
        "1 infinite numbers were written as text.",
    )


async def test_what_no_sheet_has_a_kind_for_is_spelled_as_text(tmp_path):
    rows, report = await exported(
        tmp_path,
        {
            "time": pa.array([time(12, 30)]),
            "span": pa.array([timedelta(hours=1)]),
            "list": pa.array([[1, 2]]),
            "fields": pa.array([{"a": 1}]),
            "bytes": pa.array([b"ab"]),
            "choice": pa.array(["a"]).dictionary_encode(),
            "nothing": pa.array([None], pa.null()),
            "large": pa.array(["x"], pa.large_string()),
            "wide": pa.array([Decimal("1" * 40)], pa.decimal256(50, 0)),
        },
    )

    assert [column.kind for column in report.columns] == ["text"] * 9
    assert [type(value) for value in rows[0]] == [str] * 6 + [type(None), str, str]
    assert rows[0][5:8] == ["a", None, "x"]


async def test_moments_are_the_wall_clock_of_their_zone(tmp_path):
    zone = timezone(timedelta(hours=5))
    moment = datetime(2026, 1, 31, 23, 30, tzinfo=zone)
    rows, _ = await exported(
        tmp_path,
        {
            "there": pa.array([moment], pa.timestamp("ns", "+05:00")),
            "utc": pa.array([moment.astimezone(UTC)], pa.timestamp("ms", "UTC")),
        },
    )

    assert rows == [[46053 + 23.5 / 24, 46053 + 18.5 / 24]]


async def test_texts_are_made_fit_for_a_cell_and_it_is_told(tmp_path):
    long, faces = "x" * 60_000, "😀" * 25_001
    rows, report = await exported(
        tmp_path, {"t": ["a\r\nb\rc\td\n", "a\x00\x1bb\x7f", long, faces, "y" * 50_000, "\x00"]}
    )

    texts = [row[0] for row in rows]
    assert texts[:3] == ["a\nb\nc\td\n", "ab", "x" * 50_000]
    assert texts[3:] == ["😀" * 25_000, "y" * 50_000, None]
    assert report.notes == (
        "2 texts were cut at a sheet's 50,000 characters.",
        "2 texts lost control characters, which a sheet cannot hold.",
    )


async def test_names_are_unique_and_on_one_line(tmp_path):
    table = pa.Table.from_arrays([pa.array([1])] * 4, names=["a", "a", " ", "two\nlines"])
    _, report = await exported(tmp_path, table)

    assert [column.name for column in report.columns] == ["a", "a (2)", "column 3", "two\ufffdlines"]


async def test_an_empty_result_is_refused(tmp_path):
    with pytest.raises(GuestRefusal) as error:
        await exported(tmp_path, {"a": pa.array([], pa.string())})

    assert error.value.code == "result_empty"


async def test_more_columns_than_a_sheet_has_are_refused(tmp_path):
    with pytest.raises(GuestRefusal) as error:
        await exported(tmp_path, {f"c{number}": [True] for number in range(18_279)})

    assert error.value.code == "result_too_large"
    assert "1 rows and 18,279 columns" in error.value.message


async def test_more_cells_than_a_spreadsheet_has_are_refused(tmp_path):
    nothing = pa.nulls(2_500_001)
    with pytest.raises(GuestRefusal) as error:
        await exported(tmp_path, dict.fromkeys("abcd", nothing))

    assert error.value.code == "result_too_large"


async def test_a_row_that_no_request_holds_is_refused(tmp_path):
    with pytest.raises(GuestRefusal) as error:
        await exported(tmp_path, {f"c{number}": ["é" * 50_000] for number in range(21)})

    assert error.value.code == "result_too_large"
    assert "A row of the result has more than 2 MB" in error.value.message


async def test_a_row_that_just_fits_is_taken(tmp_path):
    rows, _ = await exported(tmp_path, {f"c{number}": ["é" * 49_990] for number in range(20)})

    assert rows == [["é" * 49_990] * 20]


# ---------------------------------------------------------------- what a sandbox may claim


async def taken(folder, lines, *, rows=1, columns=1, file="rows.ndjson", max_bytes=MAX_REQUEST_BYTES):
    (folder / "rows.ndjson").write_bytes(lines)
    named = [{"name": "n", "kind": "text"}] * columns
    report = RowsReport.model_validate({"file": file, "rows": rows, "columns": named})
    return [chunk async for chunk in read_chunks(folder, report, max_bytes=max_bytes)]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"nonsense\n",
        b"{}\n",
        b"[]\n",
        b"[1,2]\n",
        b'[["nested"]]\n',
        b'[{"formulaValue":"=1"}]\n',
        b"[NaN]\n",
        b"[Infinity]\n",
        b"[1e999]\n",
        b"[" + b"9" * 400 + b"]\n",
        b"[" + b"9" * 5_000 + b"]\n",
        b'["' + b"x" * 50_001 + b'"]\n',
        b"[" * 100_000 + b"\n",
        b'["' + b"x" * MAX_REQUEST_BYTES + b'"]\n',
        b"\xff\n",
    ],
)
async def test_a_line_that_is_no_row_is_unsafe(tmp_path, line):
    with pytest.raises(UnsafeOutput):
        await taken(tmp_path, line)


async def test_fewer_lines_than_were_promised_are_unsafe(tmp_path):
    with pytest.raises(UnsafeOutput):
        await taken(tmp_path, b"[1]\n", rows=2)


@pytest.mark.parametrize("file", ["../rows.ndjson", "missing", "link"])
async def test_only_a_plain_file_of_its_folder_is_read(tmp_path, file):
    folder = tmp_path / "output"
    folder.mkdir()
    (tmp_path / "rows.ndjson").write_bytes(b"[1]\n")
    (folder / "link").symlink_to(tmp_path / "rows.ndjson")

    with pytest.raises(UnsafeOutput):
        await taken(folder, b"[1]\n", file=file)


async def test_chunks_are_no_larger_than_a_request_and_lose_no_row(tmp_path):
    values = [["x" * (number % 90), number] for number in range(500)]
    lines = "".join(json.dumps(row) + "\n" for row in values).encode()
    chunks = await taken(tmp_path, lines, rows=500, columns=2, max_bytes=5_000)

    assert [row for chunk in chunks for row in chunk.rows] == values
    assert all(chunk.bytes <= 5_000 for chunk in chunks)
    for chunk in chunks:
        body = [{"values": [{"userEnteredValue": value_of(value)} for value in row]} for row in chunk.rows]
        assert len(json.dumps(body, separators=(",", ":"))) <= 5_000 + 2


# ---------------------------------------------------------------- digests


VALUES = [None, "", "1", "TRUE", "=1", 1, 1.5, 0, -0.0, True, False, 0.1 + 0.2, 10**15 - 1, 1e300, "n1", "b1", "f=1"]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_spelled_the_same_in_the_result_and_in_its_cell(value):
    cell = Cell.model_validate({"userEnteredValue": json.loads(json.dumps(value_of(value)))})

    assert spelled_as_entered(cell) == spelled_out(value)


def test_other_values_are_spelled_in_other_ways():
    spelled = {spelled_out(value) for value in VALUES}

    # None and "", 0 and -0.0 are the same to a sheet.
    assert len(spelled) == len(VALUES) - 2


def test_a_formula_or_an_error_is_never_spelled_like_a_value():
    formula = Cell.model_validate({"userEnteredValue": {"formulaValue": "=1"}, "effectiveValue": {"numberValue": 1}})
    error = Cell.model_validate({"userEnteredValue": {"errorValue": {"type": "N_A"}}})

    assert {spelled_as_entered(formula), spelled_as_entered(error)}.isdisjoint(map(spelled_out, [1, "=1", "", "e1"]))


def test_a_digest_knows_where_one_value_ends_and_the_next_begins():
    rows = [["sa", "sb"], ["sasb", ""], ["sa", "", "sb"], ["sb", "sa"], ['sa","sb'], []]

    assert len({digest_of(row) for row in rows}) == len(rows)
    assert {len(digest_of(row)) for row in rows} == {8}
