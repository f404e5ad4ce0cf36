"""The short versions of the benchmarks: they run, and the memory that they promise holds."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_benchmarks_run_and_streaming_stays_within_its_memory():
    script = Path(__file__).parents[1] / "benchmarks" / "run.py"
    # In a process of its own: the embedded cloud is one for each process, and this one has its own already.
    ran = subprocess.run(
        [sys.executable, script, "--quick"],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert ", within the 80 MB allowed" in ran.stdout
    assert "Drop to completed event" in ran.stdout
    assert ran.stdout.count(", within the 150 MB allowed") == 2
    assert ", within the 3 allowed" in ran.stdout
