"""Large results to files inside the sandbox, beside what pandas writes: xlsx of 1,000,000 rows, csv of 1 GB.

    python tests/benchmarks/bench_downloads.py [--quick]

Ours is measured whole: a guest's start, the writing, its end; memory is the largest that was seen (RssAnon) of
any process behind the walls, with what it shares with the warmed process; for pandas it is VmHWM. pandas has its
table in memory when the clock starts, and writes a tenth of the rows: its seconds are scaled to all of them, its
memory is told as it was.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from consumers.ports import Limits, SandboxTask
from consumers.sandbox.tiers import open_tier

MB = 1_000_000
XLSX_ROWS, CSV_ROWS = 1_000_000, 11_000_000
PANDAS_SHARE = 10
MAX_PEAK_MB = 150
GROUP_ROWS = 100_000
POLL_SECONDS = 0.02
LIMITS = Limits(wall_seconds=300, cpu_seconds=300, file_bytes=4 * 1024**3)
WRITERS = {"xlsx": ("xlsxwriter", "openpyxl"), "csv": ("to_csv",)}


@dataclass(frozen=True)
class Result:
    """One writer of one format; ``seconds`` for all ``rows``, ``peak_mb`` and ``file_mb`` of the rows ``written``."""

    file_format: str
    writer: str
    rows: int
    written: int
    seconds: float
    peak_mb: float
    file_mb: float


def run(quick: bool) -> list[Result]:
    """Measure both formats; the first result of each is ours."""
    results = []
    for file_format, full in (("xlsx", XLSX_ROWS), ("csv", CSV_ROWS)):
        rows = full // 50 if quick else full
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make(folder / "whole.parquet", rows)
            results.append(asyncio.run(ours(file_format, folder, rows)))
            written = rows // PANDAS_SHARE
            make(folder / "part.parquet", written)
            for writer in WRITERS[file_format]:
                told = in_fresh_process(writer, folder)
                results.append(Result(file_format, writer, rows, written, told.pop("seconds") * PANDAS_SHARE, **told))
    return results


def make(path: Path, rows: int) -> None:
    """A table of eight columns of all kinds, written as the sandbox writes results."""
    writer = None
    for start in range(0, rows, GROUP_ROWS):
        group = rows_between(start, min(rows, start + GROUP_ROWS))
        writer = writer or pq.ParquetWriter(path, group.schema)
        writer.write_table(group)
    if writer is not None:
        writer.close()


def rows_between(start: int, end: int) -> pa.Table:
    numbers = range(start, end)
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "ratio": [n * 7919 % 100_003 / 97 for n in numbers],
            "amount": [n * 104_729 % 1_000_000 / 100 for n in numbers],
            "name": [f"customer {n * 7919}" for n in numbers],
            "region": [("North", "South & East", "West")[n % 3] for n in numbers],
            "day": pa.array([n % 20_000 for n in numbers], pa.int32()).cast(pa.date32()),
            "seen": pa.array([n * 61 for n in numbers], pa.timestamp("s")).cast(pa.timestamp("us")),
            "paid": [n % 3 == 0 for n in numbers],
        }
    )


async def ours(file_format: str, folder: Path, rows: int) -> Result:
    output = folder / "output"
    output.mkdir()
    arguments = {
        "format": file_format,
        "bom": False,
        "formula_safe": True,
        "max_bytes": LIMITS.file_bytes,
        "tables": [{"name": "Result", "file": "result.parquet"}],
    }
    inputs = {"result.parquet": folder / "whole.parquet"}
    task = SandboxTask("consumers.delivery.guest.export:export_tables", arguments, inputs, output, LIMITS)
    peak = 0
    async with open_tier("namespaces", folder, spares=0) as sandbox:
        begun = time.perf_counter()
        running = asyncio.create_task(sandbox.run(task))
        while not running.done():
            peak = max(peak, *map(peak_memory, descendants()), 0)
            await asyncio.sleep(POLL_SECONDS)
        report = await running
    (file,) = report.value["files"]
    if file["rows"] != rows:
        raise AssertionError(f"{file['rows']:,} of {rows:,} rows were written")
    return Result(file_format, "ours", rows, rows, time.perf_counter() - begun, peak / MB, file["size"] / MB)


def descendants() -> list[int]:
    """Every process below this one, whatever namespace it lives in."""
    found, waiting = [0], ["self"]
    while waiting:
        for children in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            try:
                pids = children.read_text().split()
            except OSError:
                continue
            found += map(int, pids)
            waiting += pids
    return found


def peak_memory(pid: int) -> int:
    """RssAnon of a guest, or of the warmed process that forked it, in bytes; 0 for everything else."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    if b"python" not in command[0] or not any(part.endswith(b"guest/zygote.py") for part in command):
        return 0
    return max((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:")), default=0)


def in_fresh_process(writer: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--pandas", writer, str(folder)]
    measured: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return measured


def with_pandas(writer: str, folder: Path) -> dict[str, float]:
    import pandas as pd  # noqa: PLC0415 - not for the process that measures ours

    frame = pd.read_parquet(folder / "part.parquet")
    path = folder / ("pandas.csv" if writer == "to_csv" else "pandas.xlsx")
    begun = time.perf_counter()
    if writer == "to_csv":
        frame.to_csv(path, index=False)
    else:
        options: dict[str, Any] = {"engine": writer}
        frame.to_excel(path, index=False, **options)
    seconds = time.perf_counter() - begun
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    return {"seconds": seconds, "peak_mb": peak / MB, "file_mb": path.stat().st_size / MB}


def show(results: list[Result], console: Console) -> None:
    table = Table(title="Result tables to files")
    for heading in ("format", "writer", "rows", "seconds", "to ours", "peak, MB", "measured with"):
        table.add_column(heading, justify="left" if heading in ("format", "writer") else "right")
    base = {one.file_format: one.seconds for one in results if one.writer == "ours"}
    for one in results:
        table.add_row(
            one.file_format,
            "in the sandbox" if one.writer == "ours" else f"pandas, {one.writer}",
            f"{one.rows:,}",
            f"{one.seconds:.1f}",
            f"{one.seconds / base[one.file_format]:.1f}",
            f"{one.peak_mb:.0f}",
            f"{one.written:,} rows, {one.file_mb:,.0f} MB",
        )
    console.print(table)
    for one in results:
        if one.writer == "ours":
            within = "within" if one.peak_mb <= MAX_PEAK_MB else "NOT within"
            console.print(f"Peak of {one.file_format}: {one.peak_mb:.0f} MB, {within} the {MAX_PEAK_MB} MB allowed.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the rows, to see that it works")
    parser.add_argument("--pandas", nargs=2, metavar=("WRITER", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pandas:
        sys.stdout.write(json.dumps(with_pandas(options.pandas[0], Path(options.pandas[1]))))
    else:
        show(run(options.quick), Console())


if __name__ == "__main__":
    main()
