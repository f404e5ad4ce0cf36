"""A round through the dead letters: each is seen once, hidden from others until the round ends, then shown again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Never

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from consumers.aws_retry import may_pass, retrying
from consumers.errors import JobError
from consumers.ports import Message
from consumers.uncancelled import uncancelled
from infra.clients import Clients
from infra.letter import Letter, read_letter
from infra.sqs_batches import SqsBatches, is_lost
from infra.sqs_queue import SqsQueue, counts

HIDDEN_SECONDS = 60
"""How long a letter stays hidden after its last renewal: so long after a command that was killed."""
RENEWED_AFTER_SECONDS = 20
BATCH = 10
CHANGED_TOGETHER = 100
FRUITLESS_LOOKS = 10

log = structlog.get_logger(__name__)

Settle = Callable[[Letter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Looked:
    """How far a round came: whether to the end, and how many letters somebody else had hidden."""

    to_the_end: bool
    hidden: int = 0

    @property
    def is_whole(self) -> bool:
        return self.to_the_end and not self.hidden


class LetterQueue:
    """The dead-letter queue, for one round at a time. A receive that fails is tried again, by the rule of all calls."""

    def __init__(self, clients: Clients, url: str, *, wait_seconds: int) -> None:
        self._control = clients.control
        self._url = url
        self._queue = SqsQueue(clients.polls, clients.batches, name="dead_letters", url=url)
        self._held = _Held(clients.batches, url)
        # A short poll asks some of SQS's servers only, and may find nothing where there is something.
        self._wait_seconds = wait_seconds

    async def round(self, settle: Settle, *, now: datetime, is_enough: Callable[[], bool] = lambda: False) -> Looked:
        """Show each letter to ``settle`` once, ten together, to the end or until it ``is_enough``.

        It ends when a receive brings nothing and the queue counts nothing that could be received. As both are
        approximate, it tries so for a while; and it does not wait for the end of what comes after ``now``. Memory is
        an id and a receipt for each letter.
        """
        try:
            return await self._go_round_held(settle, now, is_enough)
        finally:
            await uncancelled(self._held.show_again())

    async def delete(self, letter: Letter) -> None:
        await self._queue.delete(letter.message)
        self._held.let_go(letter.id)

    async def _go_round_held(self, settle: Settle, now: datetime, is_enough: Callable[[], bool]) -> Looked:
        failure: BaseException
        try:
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._held.keep(), name="keep dead letters hidden")
                try:
                    return await self._go_round(settle, now, is_enough)
                finally:
                    keeping.cancel()
        except BaseExceptionGroup as failures:
            failure = failures.exceptions[0]
        raise failure

    async def _go_round(self, settle: Settle, now: datetime, is_enough: Callable[[], bool]) -> Looked:
        seen: set[str] = set()
        again = fruitless = 0
        while not is_enough():
            messages = await self._receive()
            self._held.take(messages)
            fresh = {message.message_id: message for message in messages if message.message_id not in seen}
            seen.update(fresh)
            letters = [read_letter(message) for message in fresh.values()]
            # Who stops the command finds the ten that were begun done, and told.
            await uncancelled(_settle_together(settle, letters))
            if any(letter.sent_at <= now for letter in letters):
                again = fruitless = 0
                continue
            again += len(messages) - len(fresh)
            fruitless += 1 if fresh or not messages else 0
            is_empty = not messages and (await counts(self._control, self._url))[0] == 0
            if is_empty or fruitless == FRUITLESS_LOOKS or again > len(seen):
                break
        if is_enough():
            return Looked(to_the_end=True)
        visible, hidden = await counts(self._control, self._url)
        return Looked(visible == 0, max(0, hidden - len(self._held)))

    async def _receive(self) -> Sequence[Message]:
        return await retrying(_passes)(
            self._queue.receive,
            max_messages=BATCH,
            wait_seconds=self._wait_seconds,
            visibility_seconds=HIDDEN_SECONDS,
        )


class _Held:
    """The letters that nobody else is given meanwhile: the id of each, with its newest receipt."""

    def __init__(self, batches: SqsBatches, url: str) -> None:
        self._batches = batches
        self._url = url
        self._receipts: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._receipts)

    def take(self, messages: Sequence[Message]) -> None:
        self._receipts.update({message.message_id: message.receipt_handle for message in messages})

    def let_go(self, letter_id: str) -> None:
        self._receipts.pop(letter_id, None)

    async def keep(self) -> Never:
        while True:
            await asyncio.sleep(RENEWED_AFTER_SECONDS)
            await self._change(HIDDEN_SECONDS)

    async def show_again(self) -> None:
        """What fails here shows itself when its time is over, and all has by the end of the timeout."""
        try:
            async with asyncio.timeout(HIDDEN_SECONDS):
                await self._change(0)
        except TimeoutError:
            log.warning("dead_letters.not_all_shown_again")
        self._receipts.clear()

    async def _change(self, seconds: int) -> None:
        ids = list(self._receipts)
        for start in range(0, len(ids), CHANGED_TOGETHER):
            # Some may have been deleted since, or received again.
            receipts = {each: self._receipts[each] for each in ids[start : start + CHANGED_TOGETHER] if each in self}
            changes = (
                self._batches.change_visibility(self._url, each, receipt, seconds) for each, receipt in receipts.items()
            )
            errors = await asyncio.gather(*changes, return_exceptions=True)
            failed = [error for error in errors if isinstance(error, Exception) and not _is_lost(error)]
            if failed:
                log.warning(
                    "dead_letters.visibility_not_changed", letters=len(failed), seconds=seconds, why=str(failed[0])
                )

    def __contains__(self, letter_id: str) -> bool:
        return letter_id in self._receipts


async def _settle_together(settle: Settle, letters: Sequence[Letter]) -> None:
    """All of them, though one fails; then its error."""
    errors = await asyncio.gather(*map(settle, letters), return_exceptions=True)
    for error in errors:
        if error is not None:
            raise error


def _is_lost(error: Exception) -> bool:
    return isinstance(error, ClientError) and is_lost(error)


def _passes(error: BaseException) -> bool:
    cause = error.__cause__ if isinstance(error, JobError) else None
    return isinstance(cause, ClientError | BotoCoreError) and may_pass(cause)
