"""The lease: one message stays ours while its job runs, or the job stops."""

import asyncio
from typing import Never

from consumers.errors import LeaseLost, QueueMessageLost, Transient
from consumers.ports import Message, WorkQueue

# SQS hides a message for at most 12 hours from its receipt; a request beyond is rejected, not clamped.
# Source: SQS API reference, ChangeMessageVisibility.
MAX_HIDDEN_SECONDS = 43_200
# So many times in one visibility all leases that are due are renewed, together.
_BEATS = 12


async def keep_lease(queue: WorkQueue, message: Message, *, visibility_seconds: int, phase: float) -> Never:
    """Renew the message's visibility at about half time, for as long as this runs.

    Must start at the receipt. ``phase``, from 0 to 1, is the worker's own: its leases are renewed at the same
    moments, so that they go in batches, and those of other workers at others.

    Raises LeaseLost when the queue no longer knows the receipt, when the lease has run out while the queue
    could not be reached, and at the 12 hours.
    """
    clock = asyncio.get_running_loop().time
    received = clock()
    expires = received + visibility_seconds
    while True:
        await asyncio.sleep(_next_renewal(clock(), expires, beat=visibility_seconds / _BEATS, phase=phase) - clock())
        hidden = clock() - received
        seconds = min(visibility_seconds, int(MAX_HIDDEN_SECONDS - hidden) - 1)
        if seconds < 1:
            raise LeaseLost("the message was held for 12 hours")
        asked = clock()
        try:
            async with asyncio.timeout_at(expires):
                await queue.change_visibility(message, seconds)
        except TimeoutError as error:
            raise LeaseLost("the lease ran out while the queue did not answer") from error
        except QueueMessageLost as error:
            raise LeaseLost("the queue no longer knows the receipt") from error
        except Transient as error:
            if clock() >= expires:
                raise LeaseLost("the lease ran out while the queue could not be reached") from error
        else:
            expires = asked + seconds


def _next_renewal(now: float, expires: float, *, beat: float, phase: float) -> float:
    """The last beat before half of what is left: after a failed renewal the next try comes sooner and sooner."""
    half = now + (expires - now) / 2
    on_beat = half - (half - phase * beat) % beat
    return max(now + 0.05, on_beat if on_beat > now else half)
