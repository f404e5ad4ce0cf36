"""What every tier shows a guest: an environment without secrets, system libraries and Python to read, a small /tmp."""

import sys
from collections.abc import Iterator
from pathlib import Path

import consumers

GUEST_ROOT = Path("/dropchute")
TMP_BYTES = 256 * 1024 * 1024

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
