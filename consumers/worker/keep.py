"""Work that may go on only while something is kept: a message's lease, a job's claim."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Never, TypeVar

T = TypeVar("T")


async def while_kept(keeper: Coroutine[Any, Any, Never], work: Coroutine[Any, Any, T], *, name: str) -> T:
    """Run ``work`` to its end while ``keeper`` runs beside it; returns or raises what the work does.

    The keeper runs for ever or raises. When it raises, the work is cancelled and awaited, and the
    keeper's error is what the caller sees.
    """
    keeping = asyncio.create_task(keeper, name=f"{name}-keeper")
    working = asyncio.create_task(work, name=name)
    try:
        await asyncio.wait((keeping, working), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        working.cancel()
        await asyncio.wait((working,))
        return keeping.result()
    finally:
        # Also reached when the caller is cancelled: nothing of ours outlives it.
        for task in (working, keeping):
            task.cancel()
        await asyncio.wait((working, keeping))
        for task in (working, keeping):
            if not task.cancelled():
                task.exception()
