"""What a sandbox left behind: opened beneath its folder, as bytes, never parsed by the host.

The commonest escape of sandboxes is the host that follows a planted link. So: plain names only,
regular files only, one link only, and never while the sandbox still lives.
"""

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


class UnsafeOutput(Exception):
    """The file is not what an honest task leaves behind."""


def is_plain_name(name: str) -> bool:
    return _PLAIN_NAME.fullmatch(name) is not None


def output_path(folder: Path, name: object) -> Path:
    """The path of one output file that was checked; raises UnsafeOutput."""
    if not isinstance(name, str) or not is_plain_name(name):
        raise UnsafeOutput(f"not a plain file name: {name!r}"[:200])
    path = folder / name
    check_regular(path)
    return path


def check_input(path: Path) -> None:
    """That a file to be shown inside is a regular one, not a link; raises UnsafeOutput."""
    if not stat.S_ISREG(_facts(path).st_mode):
        raise UnsafeOutput(f"{path.name} is not a regular file")


def check_regular(path: Path) -> int:
    """The size of a regular file with one link; raises UnsafeOutput for anything else."""
    return _check(_facts(path), path.name)


def _facts(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except OSError as error:
        raise UnsafeOutput(f"{path.name} is not there") from error


def open_output(folder: Path, name: object) -> BinaryIO:
    """Open one output file for reading; raises UnsafeOutput."""
    path = output_path(folder, name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UnsafeOutput(f"{path.name} cannot be opened") from error
    file = os.fdopen(descriptor, "rb")
    try:
        _check(os.fstat(descriptor), path.name)
    except UnsafeOutput:
        file.close()
        raise
    return file


def _check(facts: os.stat_result, name: str) -> int:
    if not stat.S_ISREG(facts.st_mode):
        raise UnsafeOutput(f"{name} is not a regular file")
    if facts.st_nlink != 1:
        raise UnsafeOutput(f"{name} has {facts.st_nlink} links")
    return facts.st_size
