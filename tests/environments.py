"""Virtual environments beside ours, for what has pins of its own: made on first use, kept in the user's cache."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def installed(name: str, wanted: Sequence[str], *, fingerprint: bytes) -> Path:
    """The environment of that name, holding what ``pip install`` is asked for; safe against a second run.

    It is made anew when the fingerprint or this Python is another.
    """
    cache = cache_home() / "dropchute"
    cache.mkdir(parents=True, exist_ok=True)
    environment = cache / name
    digest = hashlib.sha256(fingerprint + sys.version.encode()).hexdigest()
    marker = environment / "installed"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (marker.exists() and marker.read_text() == digest):
            shutil.rmtree(environment, ignore_errors=True)
            _install_into(environment, wanted)
            marker.write_text(digest)
    return environment


def _install_into(environment: Path, wanted: Sequence[str]) -> None:
    python = environment / "bin" / "python"
    command = ["install", "--quiet", *wanted]
    if uv := shutil.which("uv"):
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
        subprocess.run([uv, "pip", *command, "--python", python], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([python, "-m", "pip", *command], check=True)


def cache_home() -> Path:
    # An empty value counts as unset: XDG Base Directory Specification.
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
