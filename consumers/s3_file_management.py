"""Temporary files, in S3 and on scratch: where they live, and that they go."""

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from consumers.errors import Transient
from consumers.ports import ObjectStore
from consumers.remove_tree import remove_tree
from consumers.uncancelled import uncancelled
from events.keys import JobRef
from events.results import FailureCode

_PREFIX = "dropchute-worker-"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

log = structlog.get_logger(__name__)


class Scratch:
    """A worker's place for temporary files: one folder, which this process holds by a lock.

    Entering it removes the folders of workers that are gone: the kernel freed their locks when they died.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = Path(tempfile.gettempdir() if root is None else root).absolute()
        self._exits = contextlib.ExitStack()
        self.folder = self._root

    async def __aenter__(self) -> Self:
        for abandoned in self._root.glob(f"{_PREFIX}*"):
            with contextlib.ExitStack() as exits:
                if _locked(abandoned, exits):
                    await remove_tree(abandoned)
        self._make()
        while not _locked(self.folder, self._exits):
            self._make()  # another worker's start took the new folder for an abandoned one
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await uncancelled(remove_tree(self.folder))
        self._exits.close()

    def _make(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._root))

    @contextlib.asynccontextmanager
    async def of(self, job: JobRef) -> AsyncIterator[Path]:
        """A folder of this job's own; gone afterwards, whatever happened in it.

        Raises:
            Transient: the disk is full; others give back what they hold, and other workers have room.
        """
        with _room_on(self.folder):
            folder = Path(tempfile.mkdtemp(prefix=f"{job.job_id}-", dir=self.folder))
            try:
                yield folder
            finally:
                await uncancelled(remove_tree(folder))


@contextlib.contextmanager
def _room_on(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise Transient(FailureCode.INTERNAL, f"There is no room below {folder}: {error.strerror}.") from error


def _locked(folder: Path, exits: contextlib.ExitStack) -> bool:
    """Whether the lock of a folder was free and is ours now, until ``exits`` is closed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        exits.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


async def remove_uploads(store: ObjectStore, job: JobRef) -> None:
    """Delete what the user uploaded for this job."""
    await store.delete([uploaded.key async for uploaded in store.list(job.files_prefix)])


async def remove_results(store: ObjectStore, job: JobRef, *, epoch: int) -> None:
    """Delete what an epoch delivered that delivers nothing any more; and what was only half uploaded."""
    prefix = job.result_prefix(epoch)
    await store.abort_uploads(prefix)
    await store.delete([key async for key in _keys(store, prefix)])


async def remove_all_but(
    store: ObjectStore, job: JobRef, *, epoch: int | None, appended: bool, found: Collection[str] | None = None
) -> None:
    """Delete what the user uploaded, and what a job that has ended delivered in every epoch but one.

    With ``appended`` also what the other epochs noted of the rows they added to a sheet. ``found`` are the keys
    of the job, if its worker has just listed them. What was only half uploaded goes too; the first epoch, if it
    delivered, left nothing of that kind.
    """
    if epoch != 1:
        await store.abort_uploads(job.results_prefix)
    goes = (job.files_prefix, job.results_prefix, *((job.appended_prefix,) if appended else ()))

    def stays(key: str) -> bool:
        return epoch is not None and (key.startswith(job.result_prefix(epoch)) or key == job.appended_key(epoch))

    keys = [key async for key in _keys(store, job.prefix)] if found is None else found
    await store.delete([key for key in keys if key.startswith(goes) and not stays(key)])


async def remove_appended(store: ObjectStore, job: JobRef) -> None:
    """Delete what the job's tries noted of the rows they added to a sheet."""
    await store.delete([key async for key in _keys(store, job.appended_prefix)])


async def _keys(store: ObjectStore, prefix: str) -> AsyncIterator[str]:
    async for found in store.list(prefix):
        yield found.key
