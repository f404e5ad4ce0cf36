"""A slot: the folders of one guest on the host's disk. What it may read is linked in; what it left is moved out."""

import asyncio
import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import structlog

from consumers.remove_tree import remove_tree
from consumers.sandbox.outputs import is_plain_name

_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP})

_FEW = 1_000
BLOCK_BYTES = 512

log = structlog.get_logger(__name__)


class Slot:
    """``inputs``, ``output`` and ``tmp`` beneath one folder, which no other guest sees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs = folder / "in"
        self.output = folder / "out"
        self.tmp = folder / "tmp"
        for each in (folder, self.inputs, self.output, self.tmp):
            each.mkdir(mode=0o700)

    async def bring_in(self, inputs: Mapping[str, Path]) -> None:
        """Link host files in, by these names; copied where the file system cannot link."""
        for name, path in inputs.items():
            try:
                os.link(path, self.inputs / name, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                await asyncio.to_thread(shutil.copyfile, path, self.inputs / name, follow_symlinks=False)

    def give_back(self) -> None:
        """The inputs are the host's alone again: no link to them is left here."""
        with contextlib.suppress(OSError):  # the slot has gone, and they with it
            for path in list(self.inputs.iterdir()):
                path.unlink()

    def take_out(self, output: Path) -> None:
        """Move regular files with one link and a plain name to ``output``; whatever else is there is not followed."""
        left = 0
        for path in list(self.output.iterdir()):
            facts = path.lstat()
            if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and is_plain_name(path.name):
                path.chmod(0o600)  # it may have made it unreadable
                _move(path, output / path.name)
            else:
                left += 1
        if left:
            log.warning("sandbox.left_inside", entries=left)

    def used(self, *, at_most: int) -> tuple[int, int]:
        """How much lies in what it may write to: bytes, entries of all folders.

        Counted to one entry more than ``at_most``, for there may be millions; a folder that cannot be looked into
        (closed, or too deep) counts as so many.
        """
        size, entries, folders = 0, 0, [self.output, self.tmp]
        while folders and entries <= at_most:
            try:
                found = _entries(folders.pop(), at_most + 1 - entries)
            except OSError:
                return size, at_most + 1
            entries += len(found)
            # Holes as well: whoever copies or sends a file sends them.
            size += sum(max(facts.st_size, facts.st_blocks * BLOCK_BYTES) for _, facts in found)
            folders += [path for path, facts in found if stat.S_ISDIR(facts.st_mode)]
        return size, entries

    async def remove(self) -> None:
        """Everything of it, whatever untrusted code made of it."""
        if not await asyncio.to_thread(self._removed_if_flat):
            await remove_tree(self.folder)

    def _removed_if_flat(self) -> bool:
        try:
            for folder in (self.inputs, self.output, self.tmp):
                for entry in list(islice(os.scandir(folder), _FEW)):
                    Path(entry.path).unlink()
                folder.rmdir()
            self.folder.rmdir()
        except OSError:
            return False
        return True


def _entries(folder: Path, at_most: int) -> list[tuple[Path, os.stat_result]]:
    """What is in a folder, which may have gone since."""
    entries = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        for entry in islice(found, at_most):
            with contextlib.suppress(FileNotFoundError):
                entries.append((Path(entry.path), entry.stat(follow_symlinks=False)))
    return entries


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(source, target, follow_symlinks=False)
