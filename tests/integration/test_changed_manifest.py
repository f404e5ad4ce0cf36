"""A manifest that is rewritten under its job: the job answers the first one, or none."""

import json
from typing import Any

import pytest
from kit import DeliveringFlow, Kit, manifest_of

from consumers.drop import Answer, Drop
from consumers.errors import Transient
from consumers.ports import Report
from consumers.worker.outcome import Completed, Retry
from events.keys import ManifestKey
from events.results import CompletedEvent, FailedEvent, FailureCode


async def rewrite(kit: Kit, key: ManifestKey, **changes: Any) -> None:
    body = json.dumps(manifest_of(key.job, **changes)).encode()
    await kit.store.put(key.job.manifest_key(key.flow), body, media_type="application/json")


class _Rewriting(DeliveringFlow):
    """Delivers; meanwhile somebody writes the manifest again, as ``changes`` say."""

    def __init__(self, kit: Kit, key: ManifestKey, changes: dict[str, Any], *, raising: Exception | None) -> None:
        super().__init__(kit.store, raising=raising)
        self._rewrite = lambda: rewrite(kit, key, **changes)

    async def __call__(self, drop: Drop, *, report: Report) -> Answer:
        await self._rewrite()
        return await super().__call__(drop, report=report)


async def refused(kit: Kit, key: ManifestKey) -> None:
    """The job has failed, and was told once; the operator has a letter, and nothing else is left."""
    (end,) = [event for event in await kit.published(key.job) if isinstance(event, CompletedEvent | FailedEvent)]
    assert isinstance(end, FailedEvent)
    assert end.data.code == FailureCode.MANIFEST_CHANGED
    assert "as a new request" in end.data.message
    assert [letter.code for letter in kit.letters] == [FailureCode.MANIFEST_CHANGED]
    assert await kit.keys(key.job.results_prefix) == []
    assert await kit.keys(key.job.files_prefix) == []


async def test_a_manifest_rewritten_while_its_job_runs_is_not_answered(kit: Kit):
    key = await kit.drop()
    flow = _Rewriting(kit, key, {"query": "Something else."}, raising=None)

    assert await kit.transaction(flow).run(key, kit.bury) == Completed()

    await refused(kit, key)


async def test_a_manifest_rewritten_between_two_attempts_is_not_read_again(kit: Kit):
    key = await kit.drop()
    shaky = _Rewriting(
        kit, key, {"query": "Something else."}, raising=Transient(FailureCode.MODEL_UNREACHABLE, "no answer")
    )
    assert isinstance(await kit.transaction(shaky).run(key, kit.bury), Retry)
    flow = DeliveringFlow(kit.store)

    assert await kit.transaction(flow, worker="worker-2").run(key, kit.bury) == Completed()

    assert flow.calls == 0
    await refused(kit, key)


@pytest.mark.parametrize("rewritten_by", ["the front end, once more", "nobody"])
async def test_a_manifest_that_is_the_same_to_the_byte_is_answered(rewritten_by: str, kit: Kit):
    same = {"created_at": manifest_of((key := await kit.drop(query="First.")).job)["created_at"]}
    await rewrite(kit, key, **same)
    flow = _Rewriting(kit, key, same, raising=None) if rewritten_by != "nobody" else DeliveringFlow(kit.store)

    await kit.transaction(flow).run(key, kit.bury)

    status = await kit.status(key.job)
    assert status is not None
    assert status.manifest_etag is not None
    assert isinstance((await kit.published(key.job))[-1], CompletedEvent)
    assert kit.letters == []


async def test_a_manifest_rewritten_after_the_end_changes_nothing(kit: Kit):
    key = await kit.drop()
    flow = DeliveringFlow(kit.store)
    await kit.transaction(flow).run(key, kit.bury)
    await rewrite(kit, key, query="Something else.")

    assert await kit.transaction(flow, worker="worker-2").run(key, kit.bury) == Completed()

    assert flow.calls == 1
    assert isinstance((await kit.published(key.job))[-1], CompletedEvent)
