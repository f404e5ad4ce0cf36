"""What a worker's process tree uses on the host, and what is there that should be gone: from /proc, by the worker."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from attack import Load

_PAGE = os.sysconf("SC_PAGE_SIZE")
INTERVAL_SECONDS = 0.03


def descendants(root: int) -> Iterator[tuple[int, list[str]]]:
    """Every process below ``root`` with the fields of its stat after the name (proc_pid_stat(5)), itself not."""
    found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are what is wanted
        if entry.isdigit():
            try:
                found[int(entry)] = Path("/proc", entry, "stat").read_text(errors="replace").rsplit(")", 1)[1].split()
            except OSError:
                continue
    family = {root}
    while more := {pid for pid, fields in found.items() if int(fields[1]) in family} - family:
        family |= more
    for pid in family - {root}:
        # An orphan that has ended waits for us, as for any init; we await only our own.
        if not (found[pid][0] == "Z" and int(found[pid][1]) == root):
            yield pid, found[pid]


def load_now(folder: Path) -> Load:
    """The tree below this process, and what lies below ``folder``."""
    tasks = memory = 0
    for pid, fields in descendants(os.getpid()):
        tasks += int(fields[17])
        memory += _share_of(pid) or int(fields[21]) * _PAGE
    return Load(tasks, memory, *_below(folder))


def _share_of(pid: int) -> int:
    """Its memory, with what it shares divided among the sharers; 0 where we may not know."""
    try:
        lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _below(folder: Path) -> tuple[int, int]:
    size = entries = 0
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                for entry in found:
                    entries += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
        except OSError:  # gone meanwhile
            continue
    return size, entries


class Meter:
    """Measures from its beginning to its end, in a thread: the loop of the worker may be what is attacked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="meter")
        self.peak = Load()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(INTERVAL_SECONDS):
            self.peak = self.peak.highest(load_now(self._folder))


@dataclass(frozen=True, slots=True)
class Traces:
    """What a job could leave on its host."""

    processes: int
    entries: int
    descriptors: int
    mounts: str
    ipc: str


def traces(folder: Path) -> Traces:
    return Traces(
        processes=sum(1 for _ in descendants(os.getpid())),
        entries=_below(folder)[1],
        descriptors=sum(1 for _ in Path("/proc/self/fd").iterdir()),
        mounts=Path("/proc/self/mountinfo").read_text(),
        ipc="".join(_keys(Path("/proc/sysvipc", name)) for name in ("shm", "sem", "msg")),
    )


def _keys(table: Path) -> str:
    return " ".join(line.split()[0] for line in table.read_text().splitlines()[1:])


def left_behind(before: Traces, after: Traces) -> list[str]:
    """What is there more than before; fewer is no trace."""
    left = []
    for name in ("processes", "entries", "descriptors"):
        more = getattr(after, name) - getattr(before, name)
        if more > 0:
            left.append(f"{more} {name} are left")
    if after.mounts != before.mounts:
        left.append("the mounts have changed")
    if after.ipc != before.ipc:
        left.append(f"System V objects are left: {after.ipc}")
    return left
