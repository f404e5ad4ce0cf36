"""How many pollers a queue has, and what becomes of a message that comes again while it is handled."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest
from endpoints import each_of
from kit import Kit, until

from consumers.ports import Message, WorkQueue
from consumers.worker.budget import Lanes
from consumers.worker.poll import Poller
from infra.sqs_queue import SqsQueue

endpoint_url = each_of("moto", "localstack", "ministack")


class CountingQueue(SqsQueue):
    """Knows how many receives there are at once."""

    now = 0
    most = 0

    async def receive(self, **wanted: int) -> Sequence[Message]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await super().receive(**wanted)
        finally:
            self.now -= 1


@pytest.fixture
async def url(kit: Kit) -> str:
    """A queue of the test's own: a long poll that was cut short may still take what comes next."""
    created = await kit.clients.control.create_queue(QueueName=f"polled-{uuid4().hex}")
    return created["QueueUrl"]


def counting_queue(kit: Kit, url: str) -> CountingQueue:
    return CountingQueue(kit.clients.polls, kit.clients.batches, name="polled", url=url)


async def fill(kit: Kit, url: str, count: int) -> None:
    for first in range(0, count, 10):
        numbers = range(first, min(count, first + 10))
        entries = [{"Id": str(number), "MessageBody": "{}"} for number in numbers]
        await kit.clients.control.send_message_batch(QueueUrl=url, Entries=entries)


async def in_queue(kit: Kit, url: str) -> tuple[int, int]:
    """How many are visible, and how many in flight."""
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    reply = await kit.clients.control.get_queue_attributes(QueueUrl=url, AttributeNames=names)
    visible, hidden = (int(reply["Attributes"][name]) for name in names)
    return visible, hidden


async def test_full_receives_bring_more_pollers_and_an_empty_queue_leaves_one(kit: Kit, url: str):
    await fill(kit, url, 60)
    queue, done = counting_queue(kit, url), list[str]()

    async def acknowledge(queue: WorkQueue, message: Message) -> None:
        await queue.delete(message)
        done.append(message.message_id)

    async def one_is_left() -> bool:
        return len(done) == 60 and queue.now == 1

    async with asyncio.TaskGroup() as running:
        polling = running.create_task(
            Poller(queue, acknowledge, lanes=40, wait_seconds=20, visibility_seconds=30).poll(running)
        )
        await until(one_is_left)
        polling.cancel()

    assert 1 < queue.most <= 5
    assert len(set(done)) == 60


async def test_however_many_pollers_no_more_is_received_than_there_are_lanes(kit: Kit, url: str):
    await fill(kit, url, 40)
    handled, gate = list[Message](), asyncio.Event()

    async def hold(queue: WorkQueue, message: Message) -> None:
        handled.append(message)
        await gate.wait()
        await queue.delete(message)

    async def all_taken() -> bool:
        return len(handled) == 25 and await in_queue(kit, url) == (15, 25)

    async with asyncio.TaskGroup() as running:
        polling = running.create_task(
            Poller(counting_queue(kit, url), hold, lanes=25, wait_seconds=1, visibility_seconds=30).poll(running)
        )
        await until(all_taken)
        polling.cancel()
        gate.set()


async def test_a_message_that_comes_again_while_it_is_handled_waits_for_its_turn(kit: Kit, url: str):
    await fill(kit, url, 1)
    receipts, came_again = list[str](), asyncio.Event()
    at_once, most = 0, 0

    async def handle(queue: WorkQueue, message: Message) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        receipts.append(message.receipt_handle)
        if len(receipts) == 1:
            await queue.change_visibility(message, 0)
            await came_again.wait()
        else:
            await queue.delete(message)
        at_once -= 1

    class Noting(CountingQueue):
        async def receive(self, **wanted: int) -> Sequence[Message]:
            messages = await super().receive(**wanted)
            if messages and receipts:
                asyncio.get_running_loop().call_soon(came_again.set)
            return messages

    queue = Noting(kit.clients.polls, kit.clients.batches, name="polled", url=url)

    async def gone() -> bool:
        return len(receipts) == 2 and await in_queue(kit, url) == (0, 0)

    async with asyncio.TaskGroup() as running:
        polling = running.create_task(
            Poller(queue, handle, lanes=2, wait_seconds=1, visibility_seconds=30).poll(running)
        )
        await until(gone)
        polling.cancel()

    assert most == 1
    assert receipts[0] != receipts[1]


async def test_two_queues_that_share_lanes_receive_no_more_together_than_there_are(kit: Kit, url: str):
    other = (await kit.clients.control.create_queue(QueueName=f"polled-{uuid4().hex}"))["QueueUrl"]
    for each in (url, other):
        await fill(kit, each, 8)
    together, gate, running_now, most, done = Lanes(3), asyncio.Event(), 0, 0, list[str]()

    async def work(queue: WorkQueue, message: Message) -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await gate.wait()
        running_now -= 1
        await queue.delete(message)
        done.append(message.message_id)

    async def three_at_work() -> bool:
        flying = [(await in_queue(kit, each))[1] for each in (url, other)]
        return running_now == 3 == sum(flying)

    async def all_done() -> bool:
        return len(done) == 16

    async with asyncio.TaskGroup() as running:
        polling = [
            running.create_task(
                Poller(
                    counting_queue(kit, each), work, lanes=6, wait_seconds=1, visibility_seconds=30, within=together
                ).poll(running)
            )
            for each in (url, other)
        ]
        await until(three_at_work)
        gate.set()
        await until(all_done)
        for task in polling:
            task.cancel()

    assert most == 3
