"""What the walls look like from inside: a task that tries what no task may do, and tells how far it came."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from consumers.sandbox.guest.contract import Folders


def probe(arguments: dict[str, Any], folders: Folders) -> dict[str, Any]:
    """Try. ``arguments["outside"]`` are paths of the host that must not be there.

    Returns ``came_through``, a few words for each wall that is not there, and ``environment``, the names in it.
    """
    attempts: list[tuple[str, Callable[[], object]]] = [
        ("starts a process", _fork),
        ("opens a network socket", lambda: socket.socket(socket.AF_INET)),
        ("opens a local socket", lambda: socket.socket(socket.AF_UNIX)),
        ("writes to its inputs", partial(_write, folders.inputs / "probe.txt")),
        ("writes beside its program", partial(_write, Path(__file__).with_name("probe.txt"))),
        ("sees processes", partial(_read, Path("/proc/self"))),
        ("executes a program", _execute),
        *((f"reads {place}", partial(_read, Path(place))) for place in arguments["outside"]),
    ]
    return {
        "came_through": [name for name, attempt in attempts if _succeeds(attempt)],
        "environment": sorted(os.environ),
    }


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError as error:
        return error.errno == errno.ENOMEM  # it would have, with more memory
    return True


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _execute() -> None:
    """Of a program that is not there: that the kernel looked for it is enough."""
    with contextlib.suppress(FileNotFoundError):
        os.execv("/nowhere", ["nowhere"])  # noqa: S606 - it must not work


def _write(place: Path) -> None:
    place.write_text("x")
    with contextlib.suppress(OSError):  # that it was written is enough
        place.unlink()


def _read(place: Path) -> None:
    """A file, or a folder with anything in it; an empty one tells nothing."""
    if not (any(place.iterdir()) if place.is_dir() else place.read_bytes()):
        raise FileNotFoundError(place)
