"""10,000 rows into a Google Sheet, beside what gspread's append_rows does: calls, bytes, seconds.

    python tests/benchmarks/bench_sheets.py [--quick]

Against the emulator over HTTP, so that seconds tell our own share and none of Google's. Ours goes from the
Parquet result to the rows in the sheet, the sandbox that turns them into values included; gspread is given its
rows as Python lists, and dates as text.
"""

import argparse
import asyncio
import datetime as dt
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import gspread
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

from memory_store import MemoryStore
from sheet_kit import SheetKit, Told

from consumers.delivery.google_sheet import GoogleSheets, OpenedSheet
from consumers.delivery.sheet.quota import SharedQuota
from consumers.drop import Answer
from consumers.ports import Limits
from consumers.sandbox.tiers import open_tier
from infra.embedded.sheets import SheetsEmulator
from infra.google_sheets import GoogleSpreadsheets, _Http, credentials_of

ROWS, MAX_CALLS = 10_000, 3
NAMES = ["order", "customer", "day", "amount", "paid", "city", "category", "quantity"]


@dataclass(frozen=True)
class Result:
    """One way to append: ``calls`` to the API, the check before the work counted apart."""

    how: str
    columns: int
    rows: int
    checks: int
    calls: int
    megabytes: float
    seconds: float


def columns_of(rows: int, width: int) -> list[list[object]]:
    day = dt.date(2026, 1, 1)
    whole = [
        [f"{number:08}" for number in range(rows)],
        [f"Customer {number % 997}" for number in range(rows)],
        [day + dt.timedelta(days=number % 365) for number in range(rows)],
        [number * 1.25 for number in range(rows)],
        [number % 3 == 0 for number in range(rows)],
        [("Oslo", "Bergen", "Bodø")[number % 3] for number in range(rows)],
        [("Tea", "Coffee", "Sweets")[number % 3] for number in range(rows)],
        [number % 50 for number in range(rows)],
    ]
    return whole[:width]


def run(quick: bool) -> list[Result]:
    rows = ROWS // 20 if quick else ROWS
    return [result for width in (4, 8) for result in asyncio.run(_both(rows, width))]


async def _both(rows: int, width: int) -> list[Result]:
    with tempfile.TemporaryDirectory() as name, SheetsEmulator() as emulator:
        emulator.service.quota.per_minute = None
        credentials = credentials_of(emulator.service_account_info(), name="emulator")
        kit = SheetKit(Path(name), service=emulator.service)
        ours = await _ours(kit, emulator, credentials, rows, width)
        theirs = await asyncio.to_thread(_gspread, emulator, credentials, rows, width)
        return [ours, theirs]


async def _ours(kit: SheetKit, emulator: SheetsEmulator, credentials: object, rows: int, width: int) -> Result:
    result = kit.folder / "result.parquet"
    pq.write_table(pa.table(columns_of(rows, width), names=NAMES[:width]), result)
    quota = SharedQuota(MemoryStore(), "bench", per_minute=1_000_000)
    async with (
        GoogleSpreadsheets(credentials, quota, base_url=emulator.base_url) as spreadsheets,
        open_tier("namespaces", kit.folder) as sandbox,
    ):
        sheets = GoogleSheets(spreadsheets, sandbox, MemoryStore(), limits=Limits())
        drop = kit.drop()
        opened = await sheets.open(drop, drop.manifest.destination)
        assert isinstance(opened, OpenedSheet)
        checks = len(emulator.service.calls)
        began = time.perf_counter()
        await sheets.append(opened, result, Answer(()), report=Told(), scratch=kit.folder)
        seconds = time.perf_counter() - began
    assert len(kit.tab().values()) == rows + 1
    return Result("ours, exactly once", width, rows, checks, *_sent(emulator, checks), seconds)


def _gspread(emulator: SheetsEmulator, credentials: object, rows: int, width: int) -> Result:
    book = emulator.service.create("gspread")
    emulator.service.share(book.id, credentials.service_account_email, "writer")
    client = gspread.Client(credentials, http_client=lambda auth, session: _Http(auth, emulator.base_url))
    worksheet = client.open_by_key(book.id).sheet1
    before = len(emulator.service.calls)
    table = [
        [str(value) if isinstance(value, dt.date) else value for value in row]
        for row in zip(*columns_of(rows, width), strict=True)
    ]
    began = time.perf_counter()
    worksheet.append_rows([NAMES[:width], *table], value_input_option="RAW")
    seconds = time.perf_counter() - began
    return Result("gspread, append_rows", width, rows, 0, *_sent(emulator, before), seconds)


def _sent(emulator: SheetsEmulator, before: int) -> tuple[int, float]:
    """The calls since then, and their bodies in MB."""
    calls = emulator.service.calls[before:]
    return len(calls), sum(call.body_bytes for call in calls) / 1e6


def show(results: list[Result], console: Console) -> None:
    table = Table(title="Rows into a Google Sheet (emulator)")
    for heading in ("how", "rows", "columns", "check", "calls", "MB sent", "seconds"):
        table.add_column(heading, justify="left" if heading == "how" else "right")
    for one in results:
        table.add_row(
            one.how,
            f"{one.rows:,}",
            str(one.columns),
            str(one.checks),
            str(one.calls),
            f"{one.megabytes:.1f}",
            f"{one.seconds:.2f}",
        )
    console.print(table)
    most = max(one.calls for one in results if one.how.startswith("ours"))
    within = "within" if most <= MAX_CALLS else "NOT within"
    console.print(
        f"Appending takes {most} calls at the most, {within} the {MAX_CALLS} allowed; one more checks before the work."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows, to see that it works")
    show(run(parser.parse_args().quick), Console())


if __name__ == "__main__":
    main()
