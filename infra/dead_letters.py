"""Dead letters: looked at one by one, sent back to where they came from, or deleted.

Everything works by receiving, so that single letters can be chosen, on every endpoint: ``StartMessageMoveTask``
moves all or nothing, cannot take a message out of its envelope, asks no ledger, and is not everywhere. What is not
chosen is made visible again as soon as the queue has been gone through.
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from pydantic import ValidationError

from consumers.errors import ObjectMissing
from consumers.ports import ObjectStore
from consumers.worker.ledger import read_status
from events.keys import JobRef, parse_manifest_key
from infra.clients import Clients
from infra.letter import REFUSED, Choice, Letter
from infra.letter_queue import LetterQueue, Looked, Settle
from infra.provision import Stack
from infra.work_queues import WorkQueues

_PRESENCE_BYTES = 1


class Fate(StrEnum):
    """What became of a letter that was to be sent back."""

    SENT_BACK = "sent back"
    JOB_ENDED = "left: its job has ended"
    CONTROL_DONE = "left: its control was done"
    REFUSED = "left: it would be refused again"
    CUT = "left: its message was too long to be kept whole"
    NO_QUEUE = "left: nothing tells which queue it came from"


class DeadLetterBox:
    """The stack's dead-letter queue."""

    def __init__(self, clients: Clients, stack: Stack, store: ObjectStore, *, wait_seconds: int = 1) -> None:
        self._queue = LetterQueue(clients, stack.queue_urls["dead_letters"], wait_seconds=wait_seconds)
        self._work = WorkQueues(clients.control, stack)
        self._store = store
        self._bucket = stack.bucket

    async def look(self, choice: Choice, *, now: datetime, on_letter: Callable[[Letter], None]) -> Looked:
        """Tell the chosen letters, in no order; all of them stay."""

        async def tell(letter: Letter) -> None:
            if choice.takes(letter, now):
                on_letter(letter)

        return await self._queue.round(tell, now=now)

    async def redrive(
        self, choice: Choice, *, now: datetime, dry_run: bool, on_letter: Callable[[Letter, Fate], None]
    ) -> Looked:
        """Send the chosen messages back to the queues that they came from, as they were.

        Only those that are there when it begins: a worker may bury again what it was sent. Each is deleted here only
        after the queue there has confirmed it: a crash in between leaves it in both, which is harmless. What would do
        nothing stays: a status never changes once its job has ended, and what no worker understands is refused again.
        """

        async def tell(letter: Letter) -> None:
            if choice.takes(letter, now):
                on_letter(letter, await self._fate(letter))

        async def send(letter: Letter) -> None:
            fate, queue = await self._fate(letter), letter.queue
            if fate is not Fate.SENT_BACK or queue is None:
                on_letter(letter, fate)
                return
            await self._work.send(queue, letter.body)
            on_letter(letter, fate)
            await self._queue.delete(letter)

        if dry_run:
            return await self._queue.round(tell, now=now)
        chosen: set[str] = set()
        looked = await self.look(choice, now=now, on_letter=lambda letter: chosen.add(letter.id))
        return Looked(looked.to_the_end and await self._settle(frozenset(chosen), send, now), looked.hidden)

    async def purge(self, ids: frozenset[str], *, now: datetime, on_letter: Callable[[Letter], None]) -> Looked:
        """Delete the letters with these ids, and no other one."""

        async def drop(letter: Letter) -> None:
            await self._queue.delete(letter)
            on_letter(letter)

        return Looked(await self._settle(ids, drop, now))

    async def _settle(self, ids: frozenset[str], settle: Settle, now: datetime) -> bool:
        """Whether all of them were there. Nothing else is waited for: more may come than can ever be gone through."""
        left = set(ids)

        async def settle_these(letter: Letter) -> None:
            if letter.id in left:
                left.remove(letter.id)
                await settle(letter)

        await self._queue.round(settle_these, now=now, is_enough=lambda: not left)
        return not left

    async def _fate(self, letter: Letter) -> Fate:
        if letter.code in REFUSED:
            return Fate.REFUSED
        if letter.is_cut:
            return Fate.CUT
        if not letter.is_understood(self._bucket):
            return Fate.REFUSED
        if letter.queue is None:
            return Fate.NO_QUEUE
        keys = letter.asks(self._bucket)
        if letter.envelope is None or not keys:
            return Fate.SENT_BACK
        fates = [await self._fate_of(key) for key in keys]
        # Of several records, one that still asks for something is enough.
        return Fate.SENT_BACK if Fate.SENT_BACK in fates else fates[0]

    async def _fate_of(self, key: str) -> Fate:
        manifest = parse_manifest_key(key)
        if manifest is not None:
            return Fate.JOB_ENDED if await self._is_over(manifest.job) else Fate.SENT_BACK
        return Fate.SENT_BACK if await self._exists(key) else Fate.CONTROL_DONE

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
