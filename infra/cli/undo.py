"""``dropchute undo``: the rows that a job added to a sheet go again."""

import asyncio

from rich.console import Console

from events.keys import JobRef
from events.results import UndoRefused
from events.status import Undo
from infra.cli import show
from infra.cli.drop import print_json
from infra.cli.endings import Ending, ExitCode
from infra.cli.environment import read_settings
from infra.cli.status import find, ids_of
from infra.drop_client import drop_client
from infra.provision import locate


def run(job: str, *, as_json: bool) -> None:
    """Ask a worker to undo, and wait for what it says."""
    ids = ids_of(job)
    try:
        ref, undo = asyncio.run(_undo(ids, Console(stderr=as_json)))
    except KeyboardInterrupt:
        raise Ending(
            ExitCode.INTERRUPTED, f"Stopped watching; the undo goes on. Look again with: dropchute status {job}"
        ) from None
    refused = isinstance(undo.data, UndoRefused)
    if as_json:
        told = undo.data.model_dump(mode="json", exclude={"session_id", "job_id", "flow"})
        print_json({"job_id": ref.job_id, "session_id": ref.session_id, "undone": not refused} | told)
    else:
        show.say(Console(), undo.data.message)
    if isinstance(undo.data, UndoRefused):
        raise Ending(ExitCode.FAILED, "The sheet is as it was.", code=undo.data.code)


async def _undo(ids: list[str], human: Console) -> tuple[JobRef, Undo]:
    settings = read_settings()
    await asyncio.to_thread(locate, settings)
    async with drop_client(settings) as client:
        job = await find(client, ids)
        await client.undo(job)
        if not human.is_terminal:
            show.say(human, show.WAITING, style="dim")
        with human.status(show.WAITING):
            return job, await client.follow_undo(job)
