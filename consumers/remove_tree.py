"""Removing a tree that untrusted code may have built: of any depth and size, beside the event loop."""

import asyncio
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


async def remove_tree(folder: Path) -> None:
    """Remove a folder and all beneath it; what cannot be removed is told in the log."""
    if await _ran("rm", "-rf", "--", str(folder)):
        return
    await _ran("chmod", "-R", "u+rwX", "--", str(folder))
    if not await _ran("rm", "-rf", "--", str(folder)):
        log.warning("scratch.not_removed", folder=str(folder))


async def _ran(*command: str) -> bool:
    nowhere = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(*command, stdout=nowhere, stderr=nowhere)
    except OSError as error:  # no process, no descriptor: the folder stays, and is told of
        log.warning("scratch.no_process", command=command[0], reason=str(error))
        return False
    return await process.wait() == 0
