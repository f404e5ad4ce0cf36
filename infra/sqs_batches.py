"""Batches: deletes, visibility changes and sends that come at about the same time, in one call of SQS."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from botocore.exceptions import BotoCoreError, ClientError

from consumers.aws_retry import ATTEMPTS, error_code, may_pass, wait_seconds
from consumers.errors import Permanent
from consumers.uncancelled import uncancelled
from infra.aws_errors import job_error

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

# SQS's own limits for one batch. Source: SQS Developer Guide, "Amazon SQS message quotas".
MAX_ENTRIES = 10
MAX_BATCH_BYTES = 1024 * 1024
LINGER_SECONDS = 0.02

Action = Literal["delete_message_batch", "change_message_visibility_batch", "send_message_batch"]


class SqsBatches:
    """Ten entries for one queue and action, or those of 20 ms, become one call.

    Each method returns once its own entry was confirmed, and raises the SDK's error for its own entry,
    after the attempts of ``consumers.aws_retry``. Cancelling a caller does not take its entry back. Leaving
    the context sends what waits, and returns once everything is confirmed or refused.
    """

    def __init__(self, control: "SQSClient", *, linger_seconds: float = LINGER_SECONDS) -> None:
        self._control = control
        self._linger_seconds = linger_seconds
        self._tasks = asyncio.TaskGroup()
        self._coalescers: dict[tuple[str, Action], _Coalescer] = {}

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for coalescer in self._coalescers.values():
            coalescer.close()
        # Whatever ends the block, no error of it is the batches': the group would cancel them.
        await uncancelled(self._tasks.__aexit__(None, None, None))

    async def delete(self, url: str, message_id: str, receipt: str) -> None:
        await self._add(url, "delete_message_batch", {"ReceiptHandle": receipt}, order=message_id)

    async def change_visibility(self, url: str, message_id: str, receipt: str, seconds: int) -> None:
        entry = {"ReceiptHandle": receipt, "VisibilityTimeout": seconds}
        await self._add(url, "change_message_visibility_batch", entry, order=message_id)

    async def send(self, url: str, body: str) -> None:
        await self._add(url, "send_message_batch", {"MessageBody": body}, size=len(body.encode()))

    async def send_in_order(self, url: str, body: str, *, group: str, deduplication_id: str) -> None:
        """To a FIFO queue: a message never overtakes an earlier one of its group, not even a failing one."""
        entry = {"MessageBody": body, "MessageGroupId": group, "MessageDeduplicationId": deduplication_id}
        await self._add(url, "send_message_batch", entry, size=len(body.encode()), order=group)

    async def _add(
        self, url: str, action: Action, fields: Mapping[str, Any], *, size: int = 0, order: Hashable = None
    ) -> None:
        coalescer = self._coalescers.get((url, action))
        if coalescer is None:
            call = partial(getattr(self._control, action), QueueUrl=url)
            coalescer = _Coalescer(call, action, self._tasks, linger_seconds=self._linger_seconds)
            self._coalescers[url, action] = coalescer
        await coalescer.add(fields, size=size, order=order)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One caller's part of a batch: ``size`` in bytes; of the same ``order``, one is under way at a time."""

    fields: Mapping[str, Any]
    size: int
    order: Hashable
    confirmed: asyncio.Future[None]


class _Coalescer:
    """The entries for one queue and one action."""

    def __init__(
        self,
        call: Callable[..., Awaitable[Any]],
        action: Action,
        tasks: asyncio.TaskGroup,
        *,
        linger_seconds: float,
    ) -> None:
        self._call = call
        self._action = action
        self._tasks = tasks
        self._linger_seconds = linger_seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Entry] = []
        self._under_way: set[Hashable] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def add(self, fields: Mapping[str, Any], *, size: int, order: Hashable) -> None:
        entry = _Entry(fields, size, order, self._loop.create_future())
        self._waiting.append(entry)
        if self._linger_seconds <= 0:
            self._flush()
        elif len(self._waiting) >= MAX_ENTRIES:
            self._start_full()
        self._await_more()
        await entry.confirmed

    def close(self) -> None:
        """From now on, nothing waits for company."""
        self._linger_seconds = 0
        self._flush()

    def _await_more(self) -> None:
        if self._waiting and self._timer is None and self._linger_seconds > 0:
            self._timer = self._loop.call_later(self._linger_seconds, self._flush)

    def _flush(self) -> None:
        """Start every entry that none before it holds up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while batch := self._next_batch():
            self._start(batch)

    def _start_full(self) -> None:
        while len(batch := self._next_batch()) == MAX_ENTRIES:
            self._start(batch)
        self._waiting = batch + self._waiting

    def _next_batch(self) -> list[_Entry]:
        """Take from those that wait, in their order, what may go together now."""
        batch, held_up, orders, size = list[_Entry](), list[_Entry](), set(self._under_way), 0
        for entry in self._waiting:
            fits = len(batch) < MAX_ENTRIES and size + entry.size <= MAX_BATCH_BYTES
            if (fits or not batch) and entry.order not in orders:
                batch.append(entry)
                size += entry.size
            else:
                held_up.append(entry)
            if entry.order is not None:
                orders.add(entry.order)
        self._waiting = held_up
        return batch

    def _start(self, batch: list[_Entry]) -> None:
        self._under_way |= {entry.order for entry in batch if entry.order is not None}
        self._tasks.create_task(self._carry(batch), name=self._action)

    async def _carry(self, batch: list[_Entry]) -> None:
        try:
            await self._deliver(batch)
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait for these entries
            self._settle(batch, [error] * len(batch))

    def _settle(self, entries: Sequence[_Entry], errors: Sequence[Exception | None]) -> None:
        for entry, error in zip(entries, errors, strict=True):
            self._under_way.discard(entry.order)
            if entry.confirmed.done():
                continue  # its caller was cancelled
            if error is None:
                entry.confirmed.set_result(None)
            else:
                entry.confirmed.set_exception(error)
        if self._waiting and self._timer is None:
            self._flush()

    async def _deliver(self, batch: list[_Entry]) -> None:
        """Call until each entry is confirmed or refused; what fails alone is tried again alone."""
        failures = 0
        while True:
            try:
                errors = await self._errors_of(batch)
            except (ClientError, BotoCoreError) as error:
                if len(batch) > 1 and isinstance(job_error(error), Permanent):
                    # One of them spoiled the call: it shall not spoil the others.
                    for entry in batch:
                        await self._deliver([entry])
                    return
                errors = [error] * len(batch)
            failures += 1
            settled, again = list[int](), list[int]()
            for place, failed in enumerate(errors):
                retry = failed is not None and failures < ATTEMPTS and _may_pass(failed)
                (again if retry else settled).append(place)
            self._settle([batch[place] for place in settled], [errors[place] for place in settled])
            if not again:
                return
            batch = [batch[place] for place in again]
            await asyncio.sleep(wait_seconds(failures - 1))

    async def _errors_of(self, batch: Sequence[_Entry]) -> Sequence[Exception | None]:
        reply = await self._call(Entries=[{"Id": str(place), **entry.fields} for place, entry in enumerate(batch)])
        if not reply.get("Failed") and len(reply.get("Successful", ())) == len(batch):
            return [None] * len(batch)
        confirmed = {done["Id"] for done in reply.get("Successful", ())}
        refused = {failed["Id"]: failed for failed in reply.get("Failed", ())}
        return [
            None if place in confirmed else _refusal(refused.get(place, _UNMENTIONED), self._action)
            for place in map(str, range(len(batch)))
        ]


_UNMENTIONED = {"Code": "InternalError", "Message": "The reply does not mention this entry.", "SenderFault": False}


def _refusal(failed: Mapping[str, Any], action: Action) -> ClientError:
    """An entry's own error, as the call for it alone would have raised it."""
    status = 400 if failed.get("SenderFault") else 500
    return ClientError(
        {
            "Error": {"Code": failed.get("Code", ""), "Message": failed.get("Message", "")},
            "ResponseMetadata": {"HTTPStatusCode": status},  # type: ignore[typeddict-item]  # the rest is the call's
        },
        action,
    )


def _may_pass(error: Exception) -> bool:
    return may_pass(error) and not (isinstance(error, ClientError) and is_lost(error))


def is_lost(error: ClientError) -> bool:
    """Whether SQS says that the receipt no longer holds the message.

    A receipt never issued: ReceiptHandleIsInvalid. A deleted or expired one: InvalidParameterValue, whose
    text names the parameter (aws/aws-sdk-java issue 1628), and LocalStack likewise. Visible again:
    MessageNotInflight.
    """
    code = error_code(error).removesuffix("Exception")
    if code in {"ReceiptHandleIsInvalid", "MessageNotInflight"}:
        return True
    return code == "InvalidParameterValue" and "parameter ReceiptHandle" in error.response["Error"].get("Message", "")
