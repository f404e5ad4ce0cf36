"""Dead letters: read one by one, sent back to where they came from, or deleted.

Everything works by receiving, so that single letters can be chosen, on every endpoint: ``StartMessageMoveTask``
moves all or nothing, cannot take a message out of its envelope, and is not everywhere. What is not chosen is made
visible again as soon as the queue has been gone through.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from consumers.aws_retry import retried
from consumers.errors import ObjectMissing
from consumers.ports import Message, ObjectStore
from consumers.uncancelled import uncancelled
from consumers.worker.ledger import read_status
from events.keys import JobRef, parse_control_key, parse_manifest_key
from infra.aws_errors import in_our_words
from infra.clients import Clients
from infra.letter import Choice, Letter, read_letter
from infra.provision import Stack
from infra.sqs_queue import SqsQueue
from infra.work_queues import WorkQueues

HIDDEN_SECONDS = 300
BATCH = 10
_PRESENCE_BYTES = 1


class Fate(StrEnum):
    """What became of a letter that was to be sent back."""

    SENT_BACK = "sent back"
    JOB_ENDED = "left: its job has ended"
    CONTROL_DONE = "left: its control was done"
    CUT = "left: its message was too long to be kept whole"
    NO_QUEUE = "left: nothing tells which queue it came from"


class DeadLetterBox:
    """The stack's dead-letter queue."""

    def __init__(self, clients: Clients, stack: Stack, store: ObjectStore, *, wait_seconds: int = 1) -> None:
        self._control = clients.control
        self._url = stack.queue_urls["dead_letters"]
        self._queue = SqsQueue(clients.polls, clients.batches, name="dead_letters", url=self._url)
        self._work = WorkQueues(clients.control, stack)
        self._store = store
        # A short poll asks some of SQS's servers only, and may find nothing where there is something.
        self._wait_seconds = wait_seconds

    async def find(self, choice: Choice, *, now: datetime) -> list[Letter]:
        """The chosen letters, the oldest first; all of them stay."""
        found: list[Letter] = []

        async def leave(letter: Letter) -> bool:
            found.append(letter)
            return False

        await self._each(choice, now, leave)
        return sorted(found, key=lambda letter: (letter.sent_at, letter.id))

    async def redrive(
        self, choice: Choice, *, now: datetime, dry_run: bool, on_letter: Callable[[Letter, Fate], None]
    ) -> None:
        """Send the chosen messages back to the queues that they came from, as they were.

        Each is deleted here only after the queue there has confirmed it: a crash in between leaves it in both,
        which is harmless. What would do nothing stays: a status never changes once its job has ended.
        """

        async def send(letter: Letter) -> bool:
            fate, queue = await self._fate(letter), letter.queue
            sent = fate is Fate.SENT_BACK and queue is not None and not dry_run
            if sent and queue is not None:
                await self._work.send(queue, letter.body)
            on_letter(letter, fate)
            return sent

        await self._each(choice, now, send)

    async def purge(self, choice: Choice, *, now: datetime, on_letter: Callable[[Letter], None]) -> None:
        """Delete the chosen letters, and no other one."""

        async def drop(letter: Letter) -> bool:
            on_letter(letter)
            return True

        await self._each(choice, now, drop)

    async def _each(self, choice: Choice, now: datetime, settle: Callable[[Letter], Awaitable[bool]]) -> None:
        """Go once through the queue; what ``settle`` returns True for is deleted, all else made visible again."""
        seen: set[str] = set()
        async with self._held() as held:
            while messages := await self._receive():
                held.update({message.message_id: message for message in messages})
                fresh = [message for message in messages if message.message_id not in seen]
                seen.update(message.message_id for message in fresh)
                if not fresh:
                    # All the way round: the first ones were hidden for as long as they could be.
                    return
                for letter in map(read_letter, fresh):
                    if choice.takes(letter, now) and await settle(letter):
                        await self._queue.delete(letter.message)
                        del held[letter.id]

    async def _receive(self) -> Sequence[Message]:
        return await self._queue.receive(
            max_messages=BATCH, wait_seconds=self._wait_seconds, visibility_seconds=HIDDEN_SECONDS
        )

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[dict[str, Message]]:
        """Messages that are hidden from others, until the block ends, however it does."""
        held: dict[str, Message] = {}
        try:
            yield held
        finally:
            await uncancelled(self._show_again(list(held.values())))

    async def _show_again(self, messages: Sequence[Message]) -> None:
        """What fails here shows itself when its time is over."""
        for start in range(0, len(messages), BATCH):
            entries: list[Any] = [
                {"Id": str(number), "ReceiptHandle": message.receipt_handle, "VisibilityTimeout": 0}
                for number, message in enumerate(messages[start : start + BATCH])
            ]
            with in_our_words():
                await retried(
                    lambda entries=entries: self._control.change_message_visibility_batch(  # type: ignore[misc]
                        QueueUrl=self._url, Entries=entries
                    )
                )

    async def _fate(self, letter: Letter) -> Fate:
        if letter.queue is None:
            return Fate.NO_QUEUE
        if letter.is_cut:
            return Fate.CUT
        if letter.envelope is None or not letter.keys:
            return Fate.SENT_BACK
        fates = [await self._fate_of(key) for key in letter.keys]
        # Of several records, one that still asks for something is enough.
        return Fate.SENT_BACK if Fate.SENT_BACK in fates else fates[0]

    async def _fate_of(self, key: str) -> Fate:
        manifest = parse_manifest_key(key)
        if manifest is not None:
            return Fate.JOB_ENDED if await self._is_over(manifest.job) else Fate.SENT_BACK
        if parse_control_key(key) is not None and not await self._exists(key):
            return Fate.CONTROL_DONE
        return Fate.SENT_BACK

    async def _is_over(self, job: JobRef) -> bool:
        try:
            found = await read_status(self._store, job)
        except ValidationError:
            return False
        return found is not None and found[0].is_finished

    async def _exists(self, key: str) -> bool:
        try:
            await self._store.get(key, max_bytes=_PRESENCE_BYTES)
        except ObjectMissing:
            return False
        return True
