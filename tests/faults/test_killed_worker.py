"""kill -9 in the middle of a job: another worker finishes it, once."""

import signal
from pathlib import Path

import pytest
from endpoints import each_of
from kit import Kit, new_job, until
from scripted_model import Reply, ScriptedModel, Silence
from worker_process import worker_process

from events.keys import Flow
from events.results import AcceptedEvent, CompletedEvent, FailedEvent
from events.status import State

# On moto, workers are killed at every step.
endpoint_url = each_of("localstack")

CODE = Reply("```python\nresult = df\n```")


@pytest.mark.parametrize("again", range(2))
async def test_a_job_whose_worker_was_killed_is_finished_once_by_another(kit: Kit, tmp_path: Path, again: int):
    job = new_job()
    with (
        ScriptedModel(Silence()) as silent,
        worker_process(kit.settings, silent.base_url, tmp_path / "first.log") as first,
    ):
        await kit.drop(job)

        async def asks_the_model() -> bool:
            return len(silent.requests) > 0

        await until(asks_the_model, seconds=60)
        first.send_signal(signal.SIGKILL)
        first.wait()

    with ScriptedModel(CODE) as model, worker_process(kit.settings, model.base_url, tmp_path / "second.log") as second:

        async def ended() -> bool:
            status = await kit.status(job)
            return status is not None and status.published and await kit.in_queue("queries") == (0, 0)

        await until(ended, seconds=60)
        second.send_signal(signal.SIGTERM)
        assert second.wait(timeout=20) == 0

    status = await kit.status(job)
    assert status is not None
    assert (status.state, status.epoch, status.attempts) == (State.COMPLETED, 2, 2)
    events = await kit.published(job)
    assert sum(isinstance(event, CompletedEvent | FailedEvent) for event in events) == 1
    assert sum(isinstance(event, AcceptedEvent) for event in events) == 2
    assert await kit.keys(job.prefix) == [
        job.manifest_key(Flow.QUERY),
        job.result_key(2, "result.csv"),
        job.result_key(2, "run.json"),
        job.status_key,
    ]
