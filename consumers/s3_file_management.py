"""Temporary files, in S3 and on scratch: where they live, and that they go."""

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from consumers.ports import ObjectStore
from events.keys import JobRef


@contextlib.contextmanager
def scratch_folder(root: Path | None, job: JobRef) -> Iterator[Path]:
    """A folder of this job's own on local disk; gone afterwards, whatever happened in it."""
    folder = Path(tempfile.mkdtemp(prefix=f"dropchute-{job.job_id}-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def remove_uploads(store: ObjectStore, job: JobRef) -> None:
    """Delete what the user uploaded for this job."""
    await store.delete([uploaded.key async for uploaded in store.list(job.files_prefix)])


async def remove_results(
    store: ObjectStore, job: JobRef, *, epoch: int | None = None, but_epoch: int | None = None
) -> None:
    """Delete delivered objects: of one epoch, or of every epoch but one."""
    prefix = job.results_prefix if epoch is None else job.result_prefix(epoch)
    kept = None if but_epoch is None else job.result_prefix(but_epoch)
    await store.delete([key async for key in _keys(store, prefix) if kept is None or not key.startswith(kept)])


async def _keys(store: ObjectStore, prefix: str) -> AsyncIterator[str]:
    async for found in store.list(prefix):
        yield found.key
