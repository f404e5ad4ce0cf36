"""The lease: one message stays ours while its job runs, or the job stops."""

import asyncio
import random
from typing import Never

from consumers.errors import LeaseLost, QueueMessageLost, Transient
from consumers.ports import Message, WorkQueue

# SQS hides a message for at most 12 hours from its receipt; a request beyond is rejected, not clamped.
# Source: SQS API reference, ChangeMessageVisibility.
MAX_HIDDEN_SECONDS = 43_200


async def keep_lease(queue: WorkQueue, message: Message, *, visibility_seconds: int) -> Never:
    """Renew the message's visibility at half time, for as long as this runs.

    Must start at the receipt. Raises LeaseLost when the queue no longer knows the receipt, when the
    lease has run out while the queue could not be reached, and at the 12 hours.
    """
    clock = asyncio.get_running_loop().time
    received = clock()
    expires = received + visibility_seconds
    while True:
        await asyncio.sleep(_pause(expires - clock()))
        hidden = clock() - received
        seconds = min(visibility_seconds, int(MAX_HIDDEN_SECONDS - hidden) - 1)
        if seconds < 1:
            raise LeaseLost("the message was held for 12 hours")
        asked = clock()
        try:
            await queue.change_visibility(message, seconds)
        except QueueMessageLost as error:
            raise LeaseLost("the queue no longer knows the receipt") from error
        except Transient as error:
            if clock() >= expires:
                raise LeaseLost("the lease ran out while the queue could not be reached") from error
        else:
            expires = asked + seconds


def _pause(remaining: float) -> float:
    # Half of what is left: after a failed renewal the next try comes sooner and sooner.
    return max(0.05, remaining / 2 * random.uniform(0.9, 1.0))  # noqa: S311 - spreads load, guards nothing
