"""Processes of this machine as Linux tells of them in /proc: who descends from whom, and who bears a mark.

Where there is no /proc (macOS) none is found to run. A process that has just ended is no error anywhere.
"""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from consumers.sandbox.watch import usage_of

_PROC = Path("/proc")


def children_are_told() -> bool:
    """Whether this kernel lists a process's children (CONFIG_PROC_CHILDREN, proc_pid_task(5))."""
    return Path("/proc/thread-self/children").exists()


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it; one whose parent has ended is init's, and not found."""
    yield pid
    with contextlib.suppress(OSError):
        for thread in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                for child in (thread / "children").read_text().split():
                    yield from family(int(child))


def marked(file: str, mark: bytes) -> Iterator[int]:
    """Every process whose ``cmdline`` or ``environ`` holds these bytes, as far as we may look."""
    with contextlib.suppress(OSError):
        for entry in _PROC.iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and mark in (entry / file).read_bytes():
                    yield int(entry.name)


def kill(pids: Iterable[int]) -> bool:
    """SIGKILL to each; whether any had not ended yet."""
    running = [pid for pid in set(pids) if usage_of(pid) is not None]
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(running)
