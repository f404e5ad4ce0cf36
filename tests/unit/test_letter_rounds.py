"""Rounds through thousands of dead letters, on virtual time, against a queue that takes its liberties."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import virtual_time
from fake_sqs import FakeSqs, Odds, refusal
from kit import new_job
from memory_store import MemoryStore

from consumers.errors import Transient
from consumers.ports import Message
from consumers.worker.outcome import DeadLetter
from events.keys import Flow
from events.notification import notification_of
from infra.dead_letters import DeadLetterBox, Fate
from infra.letter import Choice
from infra.letter_queue import HIDDEN_SECONDS, Looked
from infra.provision import Stack
from infra.sqs_batches import SqsBatches

ALL = Choice()
QUEUES = ("queries", "visualizations", "controls", "dead_letters")
# About what calls of AWS take.
CALL_SECONDS = {"receive_message": 0.02, "send_message": 0.015}
OTHER_CALL_SECONDS = 0.01
STORE_SECONDS = 0.025


class Wire:
    """An SQS as far away as AWS is; ``failures`` say which calls fail: by name, how many of the next ones.

    A call fails so where ``seconds`` is the visibility that it sets, if that is given.
    """

    def __init__(self, sqs):
        self._sqs = sqs
        self.seconds = dict(CALL_SECONDS)
        self.failures = Counter()
        self.calls = Counter()
        self.only_to = None

    def __getattr__(self, name):
        async def call(**arguments):
            self.calls[name] += 1
            there_or_back = self.seconds.get(name, OTHER_CALL_SECONDS) / 2
            await asyncio.sleep(there_or_back)
            if self.failures[name] and self._is_meant(arguments):
                self.failures[name] -= 1
                raise refusal(name, "ServiceUnavailable", status=503)
            reply = await getattr(self._sqs, name)(**arguments)
            await asyncio.sleep(there_or_back)
            return reply

        return call

    def _is_meant(self, arguments):
        entries = arguments.get("Entries", [])
        return self.only_to is None or any(entry.get("VisibilityTimeout") == self.only_to for entry in entries)


class FarStore(MemoryStore):
    async def get(self, key, *, max_bytes):
        await asyncio.sleep(STORE_SECONDS)
        return await super().get(key, max_bytes=max_bytes)


@dataclass
class Place:
    """A stack on virtual time; ``told`` are the ids that commands told of, in their order."""

    sqs: FakeSqs
    wire: Wire
    urls: dict
    batches: SqsBatches
    told: list = field(default_factory=list)
    fates: Counter = field(default_factory=Counter)

    @property
    def control(self):
        return self.wire

    @property
    def polls(self):
        return self.wire

    @property
    def letters(self):
        return self.sqs.queue(self.urls["dead_letters"])

    @property
    def queries(self):
        return self.sqs.queue(self.urls["queries"])

    def visible(self, queue=None):
        now = asyncio.get_running_loop().time()
        return sum(stored.visible_at <= now for stored in (queue or self.letters).stored)

    def box(self):
        return DeadLetterBox(self, Stack("memory", self.urls), FarStore(now=virtual_time.now))

    async def bury(self, body=None, *, code="internal"):
        body = body or notification_of("memory", new_job().manifest_key(Flow.QUERY), at=virtual_time.now())
        letter = DeadLetter(code=code, reason="It broke.", worker="worker-1", at=virtual_time.now())
        message = Message("queries", "m-1", "r-1", body)
        await self.sqs.send_message(QueueUrl=self.urls["dead_letters"], MessageBody=letter.envelope(message))

    async def look(self, choice=ALL):
        return await self.box().look(
            choice, now=virtual_time.now(), on_letter=lambda letter: self.told.append(letter.id)
        )

    async def redrive(self, choice=ALL, *, dry_run=False):
        def tell(letter, fate):
            self.told.append(letter.id)
            self.fates[fate] += 1

        return await self.box().redrive(choice, now=virtual_time.now(), dry_run=dry_run, on_letter=tell)

    async def purge(self):
        ids = frozenset(stored.message_id for stored in self.letters.stored)
        return await self.box().purge(ids, now=virtual_time.now(), on_letter=lambda letter: self.told.append(letter.id))

    async def take_some(self, number):
        """As another command does that is killed then."""
        taken = 0
        while taken < number:
            reply = await self.sqs.receive_message(
                QueueUrl=self.urls["dead_letters"],
                MaxNumberOfMessages=min(10, number - taken),
                VisibilityTimeout=HIDDEN_SECONDS,
            )
            taken += len(reply["Messages"])


@asynccontextmanager
async def place(letters, *, odds=None):
    sqs = FakeSqs(odds=odds)
    urls = {}
    for name in QUEUES:
        urls[name] = (await sqs.create_queue(QueueName=name, Attributes={"MessageRetentionPeriod": "1209600"}))[
            "QueueUrl"
        ]
    wire = Wire(sqs)
    async with SqsBatches(wire) as batches:
        here = Place(sqs, wire, urls, batches)
        for _ in range(letters):
            await here.bury()
        yield here


def now():
    return asyncio.get_running_loop().time()


# ---------------------------------------------------------------- to the end


@pytest.mark.parametrize("command", ["look", "dry run", "redrive", "purge"])
def test_thousands_of_letters_are_all_gone_through_each_once_and_in_good_time(command: str):
    async def story():
        async with place(3000) as here:
            do = {
                "look": here.look,
                "dry run": lambda: here.redrive(dry_run=True),
                "redrive": here.redrive,
                "purge": here.purge,
            }
            looked = await do[command]()
            gone = 3000 if command in ("redrive", "purge") else 0

            assert looked == Looked(to_the_end=True)
            assert len(here.told) == len(set(here.told)) == 3000
            assert now() < 60
            assert here.visible() == len(here.letters.stored) == 3000 - gone
            assert len(here.queries.stored) == (3000 if command == "redrive" else 0)

    virtual_time.run(story())


def test_letters_stay_hidden_for_as_long_as_a_round_takes_and_each_is_seen_once():
    async def story():
        async with place(500) as here:
            here.wire.seconds["receive_message"] = 5
            looked = await here.look()

            assert now() > 4 * HIDDEN_SECONDS
            assert here.wire.calls["receive_message"] <= 55
            assert looked.is_whole
            assert len(here.told) == len(set(here.told)) == here.visible() == 500

    virtual_time.run(story())


def test_letters_that_come_again_do_not_end_the_round_and_are_told_once():
    """Nothing can be renewed, so that letters come again before the round is over; their newest receipts count."""

    async def story():
        async with place(200) as here:
            here.wire.seconds["receive_message"] = 5
            here.wire.failures["change_message_visibility_batch"], here.wire.only_to = 10**6, HIDDEN_SECONDS
            looked = await here.look()

            assert len(here.told) == len(set(here.told)) == 200
            assert not looked.hidden
            assert here.visible() == 200
            assert here.wire.calls["receive_message"] > 25

    virtual_time.run(story())


def test_copies_of_letters_and_late_ones_are_told_once():
    async def story():
        async with place(300, odds=Odds(twice=0.2, late_seconds=5)) as here:
            await here.redrive()

            assert len(here.told) == len(set(here.told)) == len(here.queries.stored) == 300

    virtual_time.run(story())


def test_a_redrive_ends_though_workers_bury_again_all_that_it_sends():
    async def story():
        async with place(30) as here:

            async def worker():
                while True:
                    reply = await here.sqs.receive_message(QueueUrl=here.urls["queries"], WaitTimeSeconds=20)
                    for message in reply.get("Messages", []):
                        await here.bury(message["Body"])
                        await here.sqs.delete_message(
                            QueueUrl=here.urls["queries"], ReceiptHandle=message["ReceiptHandle"]
                        )

            async with asyncio.timeout(600), asyncio.TaskGroup() as tasks:
                working = tasks.create_task(worker())
                looked = await here.redrive()
                working.cancel()

            assert looked.to_the_end
            assert here.fates == {Fate.SENT_BACK: 30}

    virtual_time.run(story())


def test_a_round_ends_though_letters_never_cease_to_come():
    async def story():
        async with place(30) as here:

            async def bury_on():
                while True:
                    await here.bury()
                    await asyncio.sleep(0.5)

            async with asyncio.timeout(600), asyncio.TaskGroup() as tasks:
                burying = tasks.create_task(bury_on())
                await here.look()
                burying.cancel()

            assert len(here.told) >= 30

    virtual_time.run(story())


# ---------------------------------------------------------------- not to the end


def test_letters_that_another_command_hid_are_counted_and_come_back_within_a_minute():
    async def story():
        async with place(25) as here:
            await here.take_some(7)
            first = await here.look()
            await asyncio.sleep(HIDDEN_SECONDS)
            second = await here.look()

            assert first == Looked(to_the_end=True, hidden=7)
            assert not first.is_whole
            assert second == Looked(to_the_end=True)
            assert len(here.told) == 18 + 25

    virtual_time.run(story())


def test_what_a_killed_command_held_is_visible_a_minute_later():
    async def story():
        async with place(50) as here:
            here.wire.failures["change_message_visibility_batch"], here.wire.only_to = 10**6, 0
            await here.look()
            hidden = 50 - here.visible()
            await asyncio.sleep(HIDDEN_SECONDS)

            assert HIDDEN_SECONDS == 60
            assert hidden == 50
            assert here.visible() == 50

    virtual_time.run(story())


def test_a_queue_that_counts_more_than_it_gives_was_not_looked_at_to_the_end():
    class Hoarding(Wire):
        async def receive_message(self, **arguments):
            await asyncio.sleep(arguments["WaitTimeSeconds"])
            return {}

    async def story():
        async with place(5) as here:
            here.wire = Hoarding(here.sqs)

            assert await here.look() == Looked(to_the_end=False)
            assert now() > 5
            assert await here.purge() == Looked(to_the_end=False)
            assert await here.redrive() == Looked(to_the_end=False)

    virtual_time.run(story())


# ---------------------------------------------------------------- errors, and a stop


def test_a_receive_or_a_count_that_fails_is_tried_again():
    async def story():
        async with place(50) as here:
            here.wire.failures.update({"receive_message": 2, "get_queue_attributes": 2})
            looked = await here.redrive()

            assert looked.is_whole
            assert here.fates == {Fate.SENT_BACK: 50}
            assert not +here.wire.failures

    virtual_time.run(story())


def test_showing_letters_again_may_fail_without_a_failure_of_the_command():
    async def story():
        async with place(50) as here:
            here.wire.failures["change_message_visibility_batch"] = 10**6
            looked = await here.look()

            assert looked.is_whole
            assert len(here.told) == 50

    virtual_time.run(story())


def test_what_fails_in_the_middle_loses_no_word_of_what_was_done_and_hides_nothing():
    async def story():
        async with place(50) as here:
            sends = 0

            class Ceasing(Wire):
                async def send_message(self, **arguments):
                    nonlocal sends
                    sends += 1
                    if sends > 23:
                        raise refusal("SendMessage", "ServiceUnavailable", status=503)
                    return await here.sqs.send_message(**arguments)

            here.wire = Ceasing(here.sqs)
            with pytest.raises(Transient):
                await here.redrive()

            assert len(here.queries.stored) == len(here.told) == 23
            assert here.visible() == len(here.letters.stored) == 27

    virtual_time.run(story())


@pytest.mark.parametrize("after", [1, 100])
def test_a_stop_loses_no_word_of_what_was_done_and_hides_nothing(after: int):
    """After so many messages were sent, while the reply to the last is on its way."""

    async def story():
        async with place(1000) as here:
            redriving = asyncio.create_task(here.redrive())
            while len(here.queries.stored) < after:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.001)
            for _ in range(3):  # Ctrl-C, more than once
                redriving.cancel()
                await asyncio.sleep(0.001)
            with pytest.raises(asyncio.CancelledError):
                await redriving

            sent = len(here.queries.stored)
            assert len(here.told) == sent < 1000
            assert here.visible() == len(here.letters.stored) == 1000 - sent

    virtual_time.run(story())


def test_a_stop_that_is_asked_for_again_and_again_shows_all_letters_again():
    async def story():
        async with place(1000) as here:
            looking = asyncio.create_task(here.look())
            while len(here.told) < 500:  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.001)
            while not looking.done():
                looking.cancel()
                await asyncio.sleep(0.001)

            assert looking.cancelled()
            assert here.visible() == 1000

    virtual_time.run(story())
