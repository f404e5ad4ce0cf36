"""Every benchmark, one after the other: ``python tests/benchmarks/run.py [--quick]``."""

import argparse

import bench_downloads
import bench_job
import bench_latency
import bench_sandbox
import bench_sheets
import bench_streaming
import bench_transport
from rich.console import Console


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short versions, to see that they work")
    quick = parser.parse_args().quick
    console = Console()
    bench_streaming.show(bench_streaming.run(quick), console)
    console.print()
    bench_latency.show(bench_latency.run(quick=quick), console)
    console.print()
    bench_sandbox.show(bench_sandbox.run(quick), console)
    console.print()
    bench_downloads.show(bench_downloads.run(quick), console)
    console.print()
    bench_sheets.show(bench_sheets.run(quick), console)
    console.print()
    bench_transport.show(bench_transport.run(quick), console)
    console.print()
    bench_job.show(bench_job.run(quick), console)


if __name__ == "__main__":
    main()
