"""Room: how many jobs this machine, or this container of it, can have at once."""

import os
from dataclasses import dataclass
from pathlib import Path

from infra.settings import Settings

# Both versions of control groups; inside a container each shows the container's own.
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True, slots=True)
class Room:
    """What the jobs of all flows share: how many fit into memory, and the bytes of files they may have in hand."""

    jobs: int
    bytes_at_once: int


def room_of(settings: Settings, scratch: Path) -> Room:
    """As the settings say, or as there is on this machine."""
    memory = settings.memory_bytes or memory_bytes() * 3 // 4
    return Room(
        jobs=max(1, memory // settings.sandbox_memory_bytes),
        bytes_at_once=settings.bytes_at_once or max(1, free_disk_bytes(scratch) // 2),
    )


def memory_bytes(limits: tuple[Path, ...] = _MEMORY_LIMITS) -> int:
    """What there is in all: the machine's memory, or the container's limit where that is less."""
    told = [limit.read_text().strip() for limit in limits if limit.exists()]
    return min([_physical(), *(int(each) for each in told if each.isdecimal())])


def free_disk_bytes(folder: Path) -> int:
    """What an ordinary user may still write there."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
