import asyncio
import json

import openai
import pytest
from scripted_model import HttpError, Reply, ScriptedModel

from consumers.errors import Permanent
from consumers.llm_service import OpenAILanguageModel
from consumers.ports import ChatMessage, ModelReply
from events.results import FailureCode
from infra.embedded.replayed_model import RECORDINGS, ReplayedModel, recording_key, replace_recordings

OWNERS = {"demo", "tests", "benchmark"}
ASKED = {"messages": [{"role": "user", "content": "Größe?"}], "temperature": 0, "max_tokens": 9}


def client(server, *, model="any", max_reply_tokens=9):
    return OpenAILanguageModel(
        base_url=server.base_url, api_key="", model=model, timeout_seconds=20, max_reply_tokens=max_reply_tokens
    )


async def ask(server, text, **options):
    async with client(server, **options) as model:
        return await model.complete([ChatMessage("user", text)])


def test_every_recording_is_named_by_what_was_asked():
    recordings = {path.stem: json.loads(path.read_bytes()) for path in RECORDINGS.rglob("*.json")}

    assert {path.parent.relative_to(RECORDINGS).name for path in RECORDINGS.rglob("*.json")} == OWNERS
    assert [recording_key(recording["request"]) for recording in recordings.values()] == list(recordings)
    assert all(recording["model"] and recording["recorded_at"] for recording in recordings.values())
    assert "scripted" not in {recording["model"] for recording in recordings.values()}


def test_fresh_recordings_take_the_place_of_all_old_ones(tmp_path):
    fresh, kept = tmp_path / "fresh", tmp_path / "kept"
    for folder, names in ((fresh, "ab"), (kept, "bc")):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.json").write_text(folder.name)

    replaced = replace_recordings(fresh, kept)

    assert replaced == [kept / "a.json", kept / "b.json"]
    assert {path.name: path.read_text() for path in kept.iterdir()} == {"a.json": "fresh", "b.json": "fresh"}


def test_the_key_is_what_is_asked_and_not_how_it_is_written():
    same = {"max_tokens": 9, "temperature": 0, "messages": [{"content": "Größe?", "role": "user"}], "model": "b"}

    assert recording_key(ASKED) == recording_key(same)
    assert recording_key(ASKED) != recording_key({**ASKED, "max_tokens": 10})
    assert recording_key(ASKED) != recording_key({**ASKED, "messages": [{"role": "user", "content": "Size?"}]})


async def test_what_was_asked_before_is_answered_as_it_was(tmp_path):
    with ScriptedModel(Reply("four")) as upstream, ReplayedModel(tmp_path, upstream=upstream.base_url) as recorder:
        first = await ask(recorder, "How many?", model="counter-1")
    with ReplayedModel(tmp_path) as replayed:
        second = await ask(replayed, "How many?", model="some other name")

    assert first == second == ModelReply("four", "counter-1", prompt_tokens=7, completion_tokens=3)


async def test_a_recording_keeps_the_model_the_date_and_both_sides(tmp_path):
    with ScriptedModel(Reply("four")) as upstream, ReplayedModel(tmp_path, upstream=upstream.base_url) as recorder:
        await ask(recorder, "Größe?")
    (path,) = tmp_path.iterdir()
    kept = json.loads(path.read_bytes())

    assert path.stem == recording_key(ASKED)
    assert set(kept) == {"recorded_at", "model", "request", "response"}
    assert kept["request"] == {**ASKED, "model": "any"} == upstream.requests[0]
    assert kept["response"]["choices"][0]["message"]["content"] == "four"


async def test_what_is_recorded_is_not_asked_upstream_again(tmp_path):
    with ScriptedModel(Reply("four")) as upstream, ReplayedModel(tmp_path, upstream=upstream.base_url) as recorder:
        await ask(recorder, "How many?")
        await ask(recorder, "How many?")

    assert len(upstream.requests) == 1


async def test_an_unknown_question_fails_aloud_and_says_how_to_record(tmp_path):
    with ReplayedModel(tmp_path) as replayed, pytest.raises(Permanent) as caught:
        await ask(replayed, "Größe?")

    assert caught.value.code == FailureCode.MODEL_REJECTED
    assert caught.value.message.startswith(f"NO RECORDING {recording_key(ASKED)}: ")
    assert "make record" in caught.value.message


async def test_an_upstream_error_is_passed_on_and_not_recorded(tmp_path):
    error = HttpError(401, {"message": "who are you", "code": "invalid_api_key"})
    with ScriptedModel(error) as real, ReplayedModel(tmp_path, upstream=real.base_url) as recorder:
        (failure,) = await asyncio.gather(ask(recorder, "How many?"), return_exceptions=True)

    assert "who are you" in str(failure.__cause__)
    assert list(tmp_path.iterdir()) == []


async def test_the_models_are_those_that_were_recorded():
    async with openai.AsyncOpenAI(base_url="http://unused", api_key="none") as model:
        with ReplayedModel(RECORDINGS / "demo") as replayed:
            listed = await model.with_options(base_url=replayed.base_url).models.list()

    recorded = {json.loads(path.read_bytes())["model"] for path in (RECORDINGS / "demo").glob("*.json")}
    assert {entry.id for entry in listed.data} == recorded != set()


async def test_a_body_that_is_no_json_is_an_error_of_the_client(tmp_path):
    async with openai.AsyncOpenAI(base_url="http://unused", api_key="none", max_retries=0) as model:
        with ReplayedModel(tmp_path) as replayed, pytest.raises(openai.BadRequestError):
            await model.with_options(base_url=replayed.base_url).post("/chat/completions", cast_to=object, content=b"{")
