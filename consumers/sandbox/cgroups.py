"""Control groups: the kernel itself holds a guest's memory and threads, where this process may make groups.

What its limits as a process do not count, a group does: memory shared with no file behind it, pages of a tmpfs, all
threads of all its processes. What a guest shares with the warmed process since its fork stays charged there, and is
charged to the guest once it writes to it. Sources: cgroups(7), Documentation/admin-guide/cgroup-v2.rst and
cgroup-v1/{memory,pids}.rst of Linux, and systemd's CGROUP_DELEGATION.md. Every function blocks, for a few
milliseconds at times: a process that joins a group waits for the other processors.
"""

import contextlib
import errno
import os
import re
import secrets
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import structlog

_PREFIX = "dropchute"
_NAME = re.compile(rf"{_PREFIX}-(\d+)-(\d+)-[0-9a-f]+-\d+")
_CONTROLLERS = frozenset({"memory", "pids"})
_PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 0.005

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Places:
    """The folders below which a group is made: version 1 has one for each controller, version 2 the same for both."""

    version: int
    memory: Path
    pids: Path

    def folders(self, name: str) -> tuple[Path, ...]:
        return tuple(dict.fromkeys((self.memory / name, self.pids / name)))


class Group:
    """One guest's group. It is made with its object; every function raises OSError, ENOENT if the group has gone."""

    def __init__(self, places: Places, name: str) -> None:
        self._version = places.version
        self._memory = places.memory / name
        self._pids = places.pids / name
        self.folders = places.folders(name)
        for folder in self.folders:
            folder.mkdir()

    def limit(self, *, memory_bytes: int, tasks: int) -> None:
        """What its processes may use together. Memory includes swap, or there is none; ``tasks`` are threads."""
        if self._version == 2:
            _write(self._memory / "memory.max", memory_bytes)
            _write_if_there(self._memory / "memory.swap.max", 0)
        else:
            _write(self._memory / "memory.limit_in_bytes", memory_bytes)
            _write_if_there(self._memory / "memory.memsw.limit_in_bytes", memory_bytes)
        _write(self._pids / "pids.max", tasks)

    def hold(self, pid: int) -> None:
        """Take a process in, and all that it starts from now on; OSError with ESRCH where there is none."""
        for folder in self.folders:
            _write(folder / "cgroup.procs", pid)

    def ran_out(self) -> bool:
        """Whether the kernel has killed one of its processes for the memory that they used."""
        events = self._memory / ("memory.events" if self._version == 2 else "memory.oom_control")
        return facts_of(events.read_text()).get("oom_kill", 0) > 0


class ControlGroups:
    """Makes groups below ``places``, and removes them."""

    def __init__(self, places: Places) -> None:
        self.version = places.version
        self.places = places
        self._numbers = count(1)
        # The process tells whose they are, should they be left behind; there may be more than one of us in it.
        self.prefix = f"{_PREFIX}-{os.getpid()}-{_started(os.getpid())}-{secrets.token_hex(4)}"
        self._done: deque[Path] = deque()

    def group(self) -> Group:
        """A new group without limits. Those that were given up before go meanwhile.

        Raises:
            OSError: the machine has no room for another one.
        """
        self._remove()
        name = f"{self.prefix}-{next(self._numbers)}"
        try:
            return Group(self.places, name)
        except OSError:
            self._done.extend(self.places.folders(name))
            raise

    def give_up(self, group: Group) -> None:
        """Its processes have ended: it goes when the next group is made, or with ``clear``. Does not block."""
        self._done.extend(group.folders)

    def clear(self) -> None:
        """Every group that was given up is gone afterwards, or told in the log: the kernel may lag behind."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        self._remove()
        while self._done and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
            self._remove()
        for folder in self._done:
            log.warning("sandbox.group_stays", folder=str(folder))

    def _remove(self) -> None:
        for _ in range(len(self._done)):
            try:
                folder = self._done.popleft()
            except IndexError:
                return  # another thread removes as well
            if not _removed(folder):
                self._done.append(folder)


def find() -> ControlGroups | None:
    """Where this process may make groups that limit memory and threads, tried with one; None where it may not.

    Groups of workers that have ended are removed.
    """
    try:
        own, mounts = Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text()
    except OSError:
        return None
    for place in places(own, mounts):
        try:
            if place.version == 2:
                _enable(place.memory)
            groups = ControlGroups(place)
            _try(groups)
        except OSError:
            continue  # another place may do
        for folder in {place.memory, place.pids}:
            remove_leftovers(folder)
        return groups
    return None


def places(own: str, mounts: str) -> Iterator[Places]:
    """Where groups might be made, from the text of /proc/self/cgroup and /proc/self/mountinfo; the best first."""
    mounted = [_mount(line) for line in mounts.splitlines()]
    found: dict[str, Path] = {}
    for line in own.splitlines():
        _, names, path = line.split(":", 2)
        for mount in mounted:
            # The line of version 2 names no controllers (cgroups(7)).
            kind = "cgroup" if names else "cgroup2"
            folder = _beneath(mount, path) if mount.kind == kind else None
            if folder is not None:
                found |= {name: folder for name in names.split(",") if not name or name in mount.options}
    if "" in found:
        yield from (Places(2, each, each) for each in (found[""], *_delegated(found[""])))
    if found.keys() >= _CONTROLLERS:
        yield Places(1, found["memory"], found["pids"])


@dataclass(frozen=True, slots=True)
class _Mount:
    kind: str
    options: frozenset[str]
    root: str
    """Which folder of the file system is mounted."""
    at: str


def _mount(line: str) -> _Mount:
    """One line of mountinfo (proc_pid_mountinfo(5))."""
    before, _, after = line.partition(" - ")
    _, _, _, root, at, *_ = before.split()
    kind, _, options = after.split()[:3]
    return _Mount(kind, frozenset(options.split(",")), _unescaped(root), _unescaped(at))


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _beneath(mount: _Mount, path: str) -> Path | None:
    """The folder of the group ``path``, if this mount shows it; ``/../…`` is outside of our cgroup namespace."""
    group, root = Path(path), Path(mount.root)
    shown = group.is_relative_to(root) and ".." not in group.parts
    return Path(mount.at, group.relative_to(root)) if shown else None


def _delegated(folder: Path) -> Iterator[Path]:
    """The nearest group above it that systemd has left to whoever runs there."""
    for parent in folder.parents:
        with contextlib.suppress(OSError):
            if os.getxattr(parent, "user.delegate") == b"1":
                yield parent
                return


def _enable(folder: Path) -> None:
    """Children can be limited; EBUSY where there are processes beside them, which is not allowed in version 2."""
    control = folder / "cgroup.subtree_control"
    lacking = _CONTROLLERS - {*control.read_text().split()}
    if lacking:
        _write(control, " ".join(f"+{name}" for name in sorted(lacking)))


def _try(groups: ControlGroups) -> None:
    group = groups.group()
    try:
        group.limit(memory_bytes=64 * 1024**2, tasks=8)
        with subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE, env={}) as process:
            try:
                group.hold(process.pid)
            finally:
                process.kill()
        group.ran_out()
    finally:
        groups.give_up(group)
        groups.clear()


def remove_leftovers(folder: Path) -> None:
    """Remove empty groups of workers that have ended; those of living ones stay, empty or not."""
    for each in folder.iterdir():
        name = _NAME.fullmatch(each.name)
        if name and _started(int(name[1])) != int(name[2]):
            _removed(each)


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did (proc_pid_stat(5), field 22); None without one."""
    try:
        line = Path("/proc", str(pid), "stat").read_text(errors="replace")
    except OSError:
        return None
    return int(line.rpartition(")")[2].split()[19])


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError as error:
        return error.errno == errno.ENOENT
    return True


def facts_of(text: str) -> dict[str, int]:
    """A file of lines with a name and a number."""
    pairs = (line.split() for line in text.splitlines())
    return {name: int(value) for name, value in pairs}


def _write(file: Path, value: int | str) -> None:
    # Never created: a group whose controller is missing has no such file.
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)


def _write_if_there(file: Path, value: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        _write(file, value)
