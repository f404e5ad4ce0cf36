"""``dropchute status``: where a job is, or how it ended."""

import asyncio
import re

from rich.console import Console

from events.keys import ID_PATTERN, JobRef
from events.status import CompletedOutcome, FailedOutcome, JobStatus
from infra.cli import show
from infra.cli.drop import Handed, facts, job_failed, print_json
from infra.cli.endings import wrong_usage
from infra.cli.environment import read_settings
from infra.drop_client import DropClient, drop_client
from infra.provision import locate


def run(job: str, *, as_json: bool) -> None:
    """Show the status of ``session/job``, or of a job id that is looked for in the whole bucket."""
    ids = ids_of(job)
    ref, status = asyncio.run(_look(ids))
    if as_json:
        print_json(facts(Handed(ref, status)))
    else:
        _show(Console(), ref, status)
    if status is not None and isinstance(status.outcome, FailedOutcome):
        raise job_failed(status.outcome.data)


def ids_of(job: str) -> list[str]:
    """A job's id, after its session's if that was given; raises Ending for anything else."""
    ids = job.split("/")
    if len(ids) > 2 or not all(re.fullmatch(ID_PATTERN, each) for each in ids):
        raise wrong_usage(f"{job} is no job: give a job's id, or its session's id, a slash and the job's id.")
    return ids


async def _look(ids: list[str]) -> tuple[JobRef, JobStatus | None]:
    settings = read_settings()
    await asyncio.to_thread(locate, settings)
    async with drop_client(settings) as client:
        job = await find(client, ids)
        return job, await client.status(job)


async def find(client: DropClient, ids: list[str]) -> JobRef:
    """The one job that the ids name; raises Ending."""
    if len(ids) == 2:
        job = JobRef(*ids)
        if not await client.exists(job):
            raise wrong_usage(f"There is no job {job}; a job is forgotten after a day, or with its session.")
        return job
    found = await client.find(ids[0])
    if not found:
        raise wrong_usage(f"There is no job {ids[0]}; a job is forgotten after a day, or with its session.")
    if len(found) > 1:
        raise wrong_usage(f"Several sessions have a job {ids[0]}: {', '.join(map(str, found))}. Say which.")
    return found[0]


def _show(console: Console, job: JobRef, status: JobStatus | None) -> None:
    if status is None:
        show.pairs(console, [("job", str(job)), ("state", "waiting for a worker")])
        return
    rows = [
        ("job", str(job)),
        ("state", status.state.value),
        ("stage", f"{status.stage or ''}"),
        ("detail", status.detail or ""),
        ("attempts", str(status.attempts)),
        ("worker", status.worker),
        ("accepted", f"{status.accepted_at:%Y-%m-%d %H:%M:%S %Z}"),
        ("updated", f"{status.updated_at:%Y-%m-%d %H:%M:%S %Z}"),
    ]
    if isinstance(status.outcome, CompletedOutcome):
        completed = status.outcome.data
        rows.append(("answer", completed.answer or ""))
        rows += [("file", f"{file.name} ({file.size:,} bytes)") for file in completed.files]
        rows += [("sheet", show.where(completed.sheet))] if completed.sheet else []
        rows += [("note", note) for note in completed.notes]
        rows += [("took", show.took(completed.seconds))] if completed.seconds else []
    rows += [("undo", status.undo.data.message)] if status.undo else []
    show.pairs(console, rows)
