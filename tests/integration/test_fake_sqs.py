"""The SQS that tests keep in memory, held to what the endpoints' queues keep to: the same tests, another client."""

from types import SimpleNamespace
from uuid import uuid4

import pytest
import pytest_asyncio
import test_polling as polling
import test_queue_batches as together
import test_queue_contract as contract
from fake_sqs import FakeSqs

from infra.sqs_batches import SqsBatches
from infra.sqs_queue import SqsQueue

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def clients():
    sqs = FakeSqs()
    async with SqsBatches(sqs) as batches:
        yield SimpleNamespace(control=sqs, polls=sqs, batches=batches)


@pytest.fixture
def kit(clients):
    return SimpleNamespace(clients=clients)


@pytest_asyncio.fixture(loop_scope="module")
async def url(clients):
    return (await clients.control.create_queue(QueueName=f"work-{uuid4().hex}"))["QueueUrl"]


@pytest_asyncio.fixture(loop_scope="module")
async def fifo_url(clients):
    name, facts = f"results-{uuid4().hex}.fifo", {"FifoQueue": "true"}
    return (await clients.control.create_queue(QueueName=name, Attributes=facts))["QueueUrl"]


@pytest.fixture
def queue(clients, url):
    return SqsQueue(clients.polls, clients.batches, name="queries", url=url)


test_a_message_comes_with_its_body = contract.test_a_message_comes_with_its_body_and_sqs_own_attributes
test_an_empty_queue_gives_nothing = contract.test_an_empty_queue_gives_nothing
test_no_more_messages_come_than_asked_for = contract.test_no_more_messages_come_than_asked_for
test_a_received_message_is_hidden = contract.test_a_received_message_is_hidden
test_a_message_given_back_comes_again = contract.test_a_message_given_back_comes_again
test_a_renewed_message_stays_hidden = contract.test_a_renewed_message_stays_hidden
test_an_acknowledged_message_is_gone = contract.test_an_acknowledged_message_is_gone_and_may_be_acknowledged_twice
test_a_deleted_message_cannot_be_renewed = contract.test_a_deleted_message_cannot_be_renewed
test_a_receipt_that_never_was_is_lost = contract.test_a_receipt_that_never_was_is_lost_and_acknowledging_it_is_no_error
test_a_queue_that_is_not_there_is_transient = contract.test_a_queue_that_is_not_there_is_transient
test_an_event_published_twice_arrives_once = contract.test_an_event_published_twice_arrives_once_and_in_order
test_a_dead_letter_arrives_as_it_is = contract.test_a_dead_letter_arrives_as_it_is

test_a_void_receipt_among_good_ones_is_lost_alone = together.test_a_void_receipt_among_good_ones_is_lost_alone
test_a_void_receipt_among_acknowledgements = (
    together.test_a_void_receipt_among_acknowledgements_leaves_nothing_of_the_others
)
test_the_newest_receipt_stands_for_an_older_one = together.test_the_newest_receipt_stands_for_an_older_one
test_closing_sends_what_waits = together.test_closing_sends_what_waits_and_waits_for_its_confirmation
test_an_acknowledgement_whose_caller_is_cancelled = (
    together.test_an_acknowledgement_whose_caller_is_cancelled_before_it_is_sent_is_sent
)

test_full_receives_bring_more_pollers = polling.test_full_receives_bring_more_pollers_and_an_empty_queue_leaves_one
test_no_more_is_received_than_there_are_lanes = (
    polling.test_however_many_pollers_no_more_is_received_than_there_are_lanes
)
test_a_message_that_comes_again_waits = polling.test_a_message_that_comes_again_while_it_is_handled_waits_for_its_turn
