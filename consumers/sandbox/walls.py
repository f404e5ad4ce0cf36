"""The outer wall: the bwrap command line that a task runs behind.

No network, a read-only root of system libraries and Python alone, an empty environment, no
capabilities, namespaces of its own. Options: bwrap(1), bubblewrap 0.11.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import consumers

GUEST_ROOT = Path("/dropchute")
INPUTS = Path("/job/in")
OUTPUT = Path("/job/out")
TMP_BYTES = 256 * 1024 * 1024
SHM_BYTES = 64 * 1024 * 1024

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",  # noqa: S108 - the sandbox's own tmpfs
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    # One thread: pools of worker threads would only eat the job's address space.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TOKIO_WORKER_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    # A guest starts no process; told so, joblib works serially without a warning.
    "JOBLIB_MULTIPROCESSING": "0",
    # Arrow's own pools keep what they were given once: a million rows took a fifth more memory with them.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}

_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/fonts")


def command(*, inputs: Mapping[str, Path], output: Path, descriptor: int) -> list[str]:
    """The whole command that starts a guest behind the walls."""
    return [
        str(bwrap_path()),
        *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
        *("--unshare-cgroup-try", "--disable-userns", "--uid", "65534", "--gid", "65534"),
        *("--hostname", "sandbox", "--new-session", "--die-with-parent", "--cap-drop", "ALL"),
        *_filesystem(inputs, output),
        "--clearenv",
        *(part for name, value in ENVIRONMENT.items() for part in ("--setenv", name, value)),
        *("--chdir", "/tmp"),  # noqa: S108 - the sandbox's own tmpfs
        "--",
        *(sys.executable, "-I", "-B", str(GUEST_ROOT / "consumers/sandbox/guest/main.py"), str(descriptor)),
    ]


def _filesystem(inputs: Mapping[str, Path], output: Path) -> Iterator[str]:
    for place in _SYSTEM:
        yield from ("--ro-bind-try", place, place)
    package = Path(consumers.__file__).parent
    yield from ("--ro-bind", str(package), str(GUEST_ROOT / "consumers"))
    # What is written to a tmpfs is memory that no limit of a process counts: each has a size, /dev none to write to.
    yield from ("--proc", "/proc", "--dev", "/dev", "--size", str(SHM_BYTES), "--tmpfs", "/dev/shm")  # noqa: S108
    yield from ("--remount-ro", "/dev")
    yield from ("--size", str(TMP_BYTES), "--tmpfs", "/tmp")  # noqa: S108 - the sandbox's own tmpfs
    # After the tmpfs: a Python that lives below the host's /tmp would be hidden by it.
    for home in _python_homes():
        yield from ("--ro-bind", home, home)
    yield from ("--dir", str(INPUTS))
    for name, path in inputs.items():
        yield from ("--ro-bind", str(path), str(INPUTS / name))
    yield from ("--bind", str(output), str(OUTPUT))
    yield from ("--remount-ro", "/")


def read_only_places() -> Iterator[tuple[Path, Path]]:
    """What a guest may read beside its slot: a place of the host's, and where it is inside."""
    for place in _SYSTEM:
        yield Path(place), Path(place)
    yield Path(consumers.__file__).parent, GUEST_ROOT / "consumers"
    for home in _python_homes():
        yield Path(home), Path(home)


def _python_homes() -> Iterator[str]:
    homes = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parents[1]}
    covered = tuple(Path(place) for place in _SYSTEM)
    yield from sorted(str(home) for home in homes if not any(home.is_relative_to(place) for place in covered))
