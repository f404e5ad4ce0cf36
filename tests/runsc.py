"""gVisor's runsc for the tests: the machine's own, or Debian's, fetched once into the user's cache without root."""

import fcntl
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from environments import cache_home

from consumers.sandbox import gvisor


@functools.cache
def runsc() -> Path:
    """The program; the test that asks is skipped where there is none to be had."""
    if found := gvisor.find_runsc():
        return found
    program = cache_home() / "dropchute" / "runsc" / "runsc"
    program.parent.mkdir(parents=True, exist_ok=True)
    with (program.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            try:
                _fetch(program)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"There is no runsc, and Debian's cannot be fetched: {error}")
    return program


def _fetch(program: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="dropchute-runsc-") as folder:
        _ran("apt-get", "download", "runsc", cwd=folder)
        (package,) = Path(folder).glob("*.deb")
        _ran("dpkg-deb", "-x", str(package), "files", cwd=folder)
        # Whole, or not at all: another run may look meanwhile.
        halfway = program.with_suffix(".new")
        shutil.copy2(Path(folder, "files/usr/bin/runsc"), halfway)
        halfway.rename(program)


def _ran(*command: str, cwd: str) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True, timeout=100)
