import time

import openai
import pytest
from scripted_model import Drip, HangUp, HttpError, Raw, Reply, ScriptedModel, Silence

from consumers.errors import Permanent, Transient
from consumers.llm_service import NO_RECORDING, Budget, OpenAILanguageModel
from consumers.ports import ChatMessage, ModelReply
from events.results import FailureCode

QUESTION = [ChatMessage("system", "You count."), ChatMessage("user", "How many?")]
KEY = "sk-secret-1234"


class Waits(list):
    """Waits that take no time and are kept, in seconds."""

    async def sleep(self, seconds):
        self.append(seconds)


@pytest.fixture
def waits():
    return Waits()


async def ask(server, waits, *, attempts=3, timeout_seconds=20, question=QUESTION):
    async with OpenAILanguageModel(
        base_url=server.base_url,
        api_key=KEY,
        model="counter",
        timeout_seconds=timeout_seconds,
        max_reply_tokens=50,
        attempts=attempts,
        sleep=waits.sleep,
    ) as model:
        return await model.complete(question)


async def failure(kind, server, waits, **options):
    with pytest.raises(kind) as caught:
        await ask(server, waits, **options)
    return caught.value


async def test_a_call_is_plain_chat_that_every_endpoint_knows(waits):
    with ScriptedModel(Reply("four")) as server:
        reply = await ask(server, waits)

    assert reply == ModelReply(text="four", model="counter", prompt_tokens=7, completion_tokens=3)
    assert server.requests == [
        {
            "model": "counter",
            "messages": [{"role": "system", "content": "You count."}, {"role": "user", "content": "How many?"}],
            "temperature": 0,
            "max_tokens": 50,
        }
    ]


async def test_an_endpoint_that_counts_no_tokens_is_fine(waits):
    with ScriptedModel(Reply("four", usage=None)) as server:
        reply = await ask(server, waits)

    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("four", None, None)


async def test_an_empty_reply_is_an_empty_text(waits):
    with ScriptedModel(Reply(None, finish_reason="length")) as server:
        reply = await ask(server, waits)

    assert reply.text == ""


@pytest.mark.parametrize("trouble", [HttpError(429), HttpError(500), HttpError(503), HttpError(408), HangUp()])
async def test_what_may_pass_is_tried_again(waits, trouble):
    with ScriptedModel(trouble, trouble, Reply("four")) as server:
        reply = await ask(server, waits)

    assert reply.text == "four"
    assert len(waits) == 2
    assert all(0 <= seconds <= 10 for seconds in waits)


async def test_what_does_not_pass_is_transient_after_the_last_attempt(waits):
    with ScriptedModel(HttpError(503, {"message": "upstream 10.0.0.7 is down"})) as server:
        error = await failure(Transient, server, waits)

    assert error.code == FailureCode.MODEL_UNREACHABLE
    assert error.message == "The language model cannot be reached right now. Try again in a few minutes."
    assert len(server.requests) == 3
    assert isinstance(error.__cause__, openai.InternalServerError)


@pytest.mark.parametrize("slow", [Silence(), Drip()])
async def test_one_try_ends_with_the_timeout(waits, slow):
    with ScriptedModel(slow) as server:
        error = await failure(Transient, server, waits, attempts=2, timeout_seconds=0.1)

    assert error.code == FailureCode.MODEL_UNREACHABLE
    assert len(waits) == 1


async def test_nobody_listening_is_unreachable(waits):
    with ScriptedModel(Reply("")) as gone:
        pass
    error = await failure(Transient, gone, waits)

    assert error.code == FailureCode.MODEL_UNREACHABLE


async def test_the_wait_that_the_endpoint_asks_for_is_kept(waits):
    with ScriptedModel(HttpError(429, headers={"retry-after": "17"}), Reply("four")) as server:
        await ask(server, waits)

    assert waits == [17]


async def test_a_wait_until_a_date_is_kept_but_capped(waits):
    in_an_hour = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3600))
    with ScriptedModel(HttpError(429, headers={"retry-after": in_an_hour}), Reply("four")) as server:
        await ask(server, waits)

    assert waits == [30]


@pytest.mark.parametrize("header", ["soon", "-3", "Mon, 01 Jan 2001 00:00:00 GMT"])
async def test_a_wait_that_makes_no_sense_is_ignored(waits, header):
    with ScriptedModel(HttpError(429, headers={"retry-after": header}), Reply("four")) as server:
        await ask(server, waits)

    assert 0 <= waits[0] <= 10


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_rejection_is_final_and_leaks_nothing(waits, status):
    with ScriptedModel(HttpError(status, {"message": f"Incorrect API key provided: {KEY}"})) as server:
        error = await failure(Permanent, server, waits)

    assert error.code == FailureCode.MODEL_REJECTED
    assert f"HTTP {status}" in error.message
    assert KEY not in str(error)
    assert KEY in str(error.__cause__)
    assert (len(server.requests), waits) == (1, [])


async def test_an_account_without_money_is_not_asked_again(waits):
    with ScriptedModel(HttpError(429, {"code": "insufficient_quota", "message": "pay"})) as server:
        error = await failure(Permanent, server, waits)

    assert error.code == FailureCode.MODEL_REJECTED
    assert len(server.requests) == 1


async def test_a_missing_recording_is_said_aloud(waits):
    with ScriptedModel(HttpError(404, {"code": NO_RECORDING, "message": "NO RECORDING ab12: make record"})) as server:
        error = await failure(Permanent, server, waits)

    assert error.message == "NO RECORDING ab12: make record"


@pytest.mark.parametrize(
    "said",
    [
        {"code": "context_length_exceeded", "message": "too long"},
        {"message": "This model's maximum context length is 8192 tokens. However, you requested 9033 tokens"},
        {"type": "exceed_context_size_error", "message": "the request exceeds the available context size"},
    ],
)
async def test_too_much_for_the_model_is_said_so(waits, said):
    with ScriptedModel(HttpError(400, said)) as server:
        error = await failure(Permanent, server, waits)

    assert error.message == (
        "The description of the files is too long for the language model. Send fewer files or fewer columns."
    )


@pytest.mark.parametrize(
    "step",
    [
        Reply(None, message={"refusal": "I can't help with that."}),
        Reply("", finish_reason="content_filter"),
        HttpError(400, {"code": "content_filter", "message": "filtered"}),
    ],
)
async def test_a_refusal_is_final(waits, step):
    with ScriptedModel(step) as server:
        error = await failure(Permanent, server, waits)

    assert error.code == FailureCode.MODEL_REFUSED
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "step",
    [
        Raw(b"<html>Welcome</html>", media_type="text/html"),
        Raw(b'{"choices": []}'),
        Raw(b'{"choices": ['),
        Raw(b'{"error": {"message": "no"}}'),
        Raw(b""),
    ],
)
async def test_something_else_than_a_completion_is_final(waits, step):
    with ScriptedModel(step) as server:
        error = await failure(Permanent, server, waits)

    assert error.code == FailureCode.MODEL_REJECTED
    assert "chat completion" in error.message


async def test_an_endpoint_without_keys_needs_none(waits):
    with ScriptedModel(Reply("four")) as server:
        async with OpenAILanguageModel(
            base_url=server.base_url, api_key="", model="counter", timeout_seconds=20, max_reply_tokens=5
        ) as model:
            reply = await model.complete(QUESTION)

    assert reply.text == "four"


def spend(budget, times):
    for _ in range(times):
        budget.check()
        budget.count(ModelReply("", "m", prompt_tokens=60, completion_tokens=40))


@pytest.mark.parametrize(
    ("budget", "times", "share"),
    [
        (Budget(calls=2), 2, "2 questions"),
        (Budget(tokens=250), 3, "250 tokens"),
        (Budget(seconds=0), 0, "0 seconds"),
    ],
)
def test_a_job_stops_where_its_budget_ends(budget, times, share):
    spend(budget, times)
    with pytest.raises(Permanent) as caught:
        budget.check()

    assert caught.value.code == FailureCode.MODEL_REJECTED
    assert share in caught.value.message


def test_the_seconds_of_a_budget_run_from_its_making():
    now = iter([100.0, 159.9, 160.0])
    budget = Budget(seconds=60, clock=lambda: next(now))
    budget.check()

    with pytest.raises(Permanent):
        budget.check()
