"""Temporary files of jobs and workers: where they live, and that they go."""

import asyncio
import errno
import multiprocessing
import multiprocessing.synchronize
import os
import signal
from pathlib import Path

import pytest
from kit import new_job

from consumers.errors import Transient
from consumers.s3_file_management import Scratch


async def test_a_job_s_folder_is_gone_afterwards_and_so_is_the_worker_s(tmp_path: Path):
    async with Scratch(tmp_path) as scratch:
        async with scratch.of(new_job()) as folder:
            (folder / "file").write_text("x")
        left = list(scratch.folder.iterdir())

    assert left == []
    assert list(tmp_path.iterdir()) == []


async def test_a_failing_job_s_folder_is_gone_too(tmp_path: Path):
    async with Scratch(tmp_path) as scratch:
        with pytest.raises(ZeroDivisionError):
            async with scratch.of(new_job()):
                raise ZeroDivisionError

        assert list(scratch.folder.iterdir()) == []


async def test_a_full_disk_is_worth_another_try_and_says_so(tmp_path: Path):
    async with Scratch(tmp_path) as scratch:
        with pytest.raises(Transient, match=r"no room.*No space left on device"):
            async with scratch.of(new_job()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        assert list(scratch.folder.iterdir()) == []


async def test_a_tree_of_any_depth_and_without_permissions_goes(tmp_path: Path):
    async with Scratch(tmp_path) as scratch, scratch.of(new_job()) as folder:
        here = os.open(folder, os.O_RDONLY)
        for _ in range(3_000):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
        closed = folder / "closed"
        (closed / "inner").mkdir(parents=True)
        closed.chmod(0)

    assert list(tmp_path.iterdir()) == []


async def test_links_are_removed_and_not_followed(tmp_path: Path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    async with Scratch(tmp_path) as scratch, scratch.of(new_job()) as folder:
        (folder / "link").symlink_to(precious)

    assert (precious / "file").read_text() == "x"


def _hold(root: str, ready: "multiprocessing.synchronize.Event") -> None:
    async def hold() -> None:
        async with Scratch(Path(root)) as scratch, scratch.of(new_job()):
            ready.set()
            await asyncio.Event().wait()

    asyncio.run(hold())


async def test_what_a_killed_worker_left_is_removed_by_the_next_but_not_what_a_live_one_holds(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), ready))
    other.start()
    assert ready.wait(30)
    held = set(tmp_path.iterdir())

    async with Scratch(tmp_path) as scratch:
        assert set(tmp_path.iterdir()) == {*held, scratch.folder}
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    async with Scratch(tmp_path) as scratch:
        assert set(tmp_path.iterdir()) == {scratch.folder}
