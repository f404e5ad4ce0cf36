"""A full disk under the real worker: large drops fail as ours to mend, small ones go on, and scratch is empty again."""

import asyncio
import json
import random
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
from kit import Kit, manifest_of, new_job
from outage_world import World, outage_settings, own_name, tell
from scripted_model import Reply, ScriptedModel
from worker_process import worker_process

from events.keys import JobRef
from events.results import FailureCode
from events.status import FailedOutcome
from infra.provision import Stack, provision
from infra.settings import Settings

CODE = Reply("```python\nresult = df\n```")
SCRATCH_BYTES = 3_000_000
LARGE_BYTES = 6_000_000
OF_WORKBOOKS = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@pytest.fixture
def settings(moto_endpoint: str, request: pytest.FixtureRequest) -> Settings:
    return outage_settings(moto_endpoint, own_name(request))


@pytest.fixture
def stack(settings: Settings) -> Stack:
    return provision(settings)


def on_a_small_disk(scratch: Path) -> list[str]:
    """Begins a command whose scratch is so small; nobody else sees it."""
    mount = f"mount -t tmpfs -o size={SCRATCH_BYTES} tmpfs {shlex.quote(str(scratch))}"
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]


async def hand_in_large(kit: Kit, name: str, media_type: str, content: bytes) -> JobRef:
    job = new_job()
    file = {"name": name, "type": media_type, "extension": Path(name).suffix, "index": 0, "s3Key": job.file_key(0)}
    await kit.store.put(job.file_key(0), content, media_type=media_type)
    manifest = manifest_of(job, files=[{**file, "size": len(content)}])
    await kit.write_manifest(job, json.dumps(manifest).encode())
    return job


def incompressible_rows() -> bytes:
    """As CSV, twice what the disk holds, also as Parquet."""
    random_bytes = random.Random(7).randbytes
    return b"a\n" + b"".join(random_bytes(500).hex().encode() + b"\n" for _ in range(2 * SCRATCH_BYTES // 500))


async def test_a_disk_that_is_too_small_is_the_operator_s_to_mend(
    kit: Kit, tmp_path: Path, request: pytest.FixtureRequest
):
    began, world, scratch = time.monotonic(), World(kit), tmp_path / "scratch"
    scratch.mkdir()
    more: Any = {"inside": on_a_small_disk(scratch), "DROPCHUTE_SCRATCH": str(scratch)}
    more["DROPCHUTE_RETRY_BASE_SECONDS"] = "0.2"
    with (
        ScriptedModel(CODE) as model,
        worker_process(kit.settings, model.base_url, tmp_path / "log", **more) as worker,
    ):
        await world.hand_in(1, "Before.")
        await world.all_end()
        staged = await hand_in_large(kit, "book.xlsx", OF_WORKBOOKS, bytes(LARGE_BYTES))
        streamed = await hand_in_large(kit, "rows.csv", "text/csv", incompressible_rows())
        for job in (staged, streamed):
            world.ends[job] = frozenset({str(FailureCode.INTERNAL)})
        await world.hand_in(2, "During.")
        await world.all_end(seconds=120)
        await world.hand_in(1, "After.")
        await world.all_end()
        there = Path(f"/proc/{worker.pid}/root", *scratch.parts[1:])
        # Of the sandbox the folders of the guests that wait, and nothing in them.
        left = [
            path
            for path in there.glob("*/**/*")
            if path.is_file() or not any(part.startswith("sandbox-") for part in path.relative_to(there).parts)
        ]
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 20) == 0
    letters = [json.loads(message.body) for message in await kit.drain("dead_letters")]
    world.letters.update((JobRef(letter["session_id"], letter["job_id"]), letter["code"]) for letter in letters)
    tally = await world.tally()
    tell(request, "full disk", runs=1, tally=tally, seconds=time.monotonic() - began)

    assert tally.is_clean, tally
    assert left == []
    assert [letter["job_id"] for letter in letters if "No space left on device" not in letter["reason"]] == []
    for job in (staged, streamed):
        status = await kit.status(job)
        assert status is not None
        assert isinstance(status.outcome, FailedOutcome)
        assert status.attempts == 3
        assert "try again later" in status.outcome.data.message
