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

# Not whole: who keeps a program below /usr, or makes a virtual environment of its folder, keeps secrets there too.
_SYSTEM = (
    *("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/bin", "/usr/share", "/usr/local/lib", "/usr/local/share"),
    *("/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/fonts"),
)
_OF_PYTHON = ("bin", "lib", "lib64", "pyvenv.cfg")


def read_only_places() -> Iterator[tuple[Path, Path]]:
    """What a guest may read beside its slot: a place of the host's, and where it is inside. Some may not exist."""
    for system in _SYSTEM:
        yield Path(system), Path(system)
    yield Path(consumers.__file__).parent, GUEST_ROOT / "consumers"
    for place in sorted({home / name for home in _python_homes() for name in _OF_PYTHON}):
        if place.exists() and not any(place.is_relative_to(system) for system in _SYSTEM):
            yield place, place


def _python_homes() -> set[Path]:
    return {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parents[1]}
