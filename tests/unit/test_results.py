"""What workers emit: CloudEvents 1.0, the same to the byte however often it is made."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from events.keys import Flow
from events.results import (
    Accepted,
    Completed,
    Failed,
    FailureCode,
    JobEvent,
    Progress,
    ResultFile,
    Stage,
    event_of,
    parse_event,
)

NOW = datetime(2026, 3, 14, 9, 26, 53, 589000, UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
JOB: dict[str, Any] = {"session_id": "sess-0001", "job_id": "job-00000001", "flow": Flow.QUERY}
SUBJECT = "sessions/sess-0001/jobs/job-00000001"
FILE = ResultFile(key=f"{SUBJECT}/result/1/answer.csv", name="answer.csv", media_type="text/csv", size=12, rows=1)

ACCEPTED = Accepted(**JOB, epoch=1)
PROGRESS = Progress(**JOB, epoch=1, step=2, stage=Stage.ANALYSE, detail="Asking the model.")
COMPLETED = Completed(
    **JOB, answer="Berlin sold most.", files=(FILE,), notes=("sales.csv: a note",), seconds={Stage.READ: 0.25}
)
FAILED = Failed(**JOB, code=FailureCode.FILE_EMPTY, message="sales.csv is empty.", stage=Stage.PREPARE)
FACTS: list[Accepted | Progress | Completed | Failed] = [ACCEPTED, PROGRESS, COMPLETED, FAILED]
KINDS = ["accepted", "progress", "completed", "failed"]


def published(event: JobEvent) -> str:
    """As the results queue gets it."""
    return event.model_dump_json(exclude_none=True)


@pytest.mark.parametrize("fact", FACTS, ids=KINDS)
def test_an_event_has_what_cloudevents_asks_for(fact: Any):
    """CloudEvents 1.0.2, "Required Attributes", "Type System", and JSON Event Format 1.0.2."""
    event = json.loads(published(event_of(fact, time=NOW, traceparent=TRACE)))

    attributes = {name: value for name, value in event.items() if name != "data"}
    assert event["specversion"] == "1.0"
    assert event["source"] == "/dropchute/worker"
    assert event["subject"] == SUBJECT
    assert event["datacontenttype"] == "application/json"
    assert event["time"] == "2026-03-14T09:26:53.589000Z"
    assert event["traceparent"] == TRACE
    assert all(isinstance(value, str) and value and value.isprintable() for value in attributes.values())
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for name in attributes)
    assert isinstance(event["data"], dict)


def test_every_kind_of_event_has_its_own_type():
    types = [event_of(fact, time=NOW).type for fact in FACTS]

    assert types == [f"io.dropchute.job.{kind}" for kind in KINDS]


@pytest.mark.parametrize("traceparent", [None, TRACE])
@pytest.mark.parametrize("fact", FACTS, ids=KINDS)
def test_an_event_survives_the_queue(fact: Any, traceparent: str | None):
    event = event_of(fact, time=NOW, traceparent=traceparent)

    read = parse_event(published(event))

    assert read == event
    assert read == parse_event(event.model_dump_json().encode())
    assert published(read) == published(event)
    assert read.data == fact
    assert read.data.ref == fact.ref


@pytest.mark.parametrize("fact", FACTS, ids=KINDS)
def test_the_same_fact_told_again_is_the_same_event(fact: Any):
    first, second = event_of(fact, time=NOW), event_of(fact.model_copy(), time=NOW + timedelta(hours=1))

    assert first.id == second.id
    assert first.deduplication_id == second.deduplication_id


def test_different_facts_are_different_events():
    another = JOB | {"job_id": "job-00000002"}
    facts: list[Accepted | Progress | Completed | Failed] = [
        ACCEPTED,
        Accepted(**JOB, epoch=2),
        Accepted(**JOB, epoch=12),
        Accepted(**another, epoch=1),
        Accepted(**JOB | {"session_id": "sess-0002"}, epoch=1),
        PROGRESS,
        PROGRESS.model_copy(update={"step": 3}),
        PROGRESS.model_copy(update={"epoch": 2}),
        PROGRESS.model_copy(update={"epoch": 12, "step": 1}),
        PROGRESS.model_copy(update={"epoch": 1, "step": 21}),
        COMPLETED,
        Completed(**another),
    ]

    events = [event_of(fact, time=NOW) for fact in facts]

    assert len({event.id for event in events}) == len(facts)
    assert len({event.deduplication_id for event in events}) == len(facts)


def test_a_job_ends_once_however_it_ends():
    completed, failed = event_of(COMPLETED, time=NOW), event_of(FAILED, time=NOW)

    assert completed.id == failed.id


IDS = st.from_regex(r"[A-Za-z0-9_-]{8,64}", fullmatch=True)


@settings(deadline=None)
@given(IDS, IDS, st.integers(1, 10**18), st.integers(0, 10**18))
def test_every_deduplication_id_fits_sqs(session_id: str, job_id: str, epoch: int, step: int):
    """SendMessage: at most 128 characters, alphanumeric and punctuation."""
    ids = {"session_id": session_id, "job_id": job_id, "flow": Flow.VISUALIZATION}
    event = event_of(Progress(**ids, epoch=epoch, step=step, stage=Stage.READ, detail=""), time=NOW)

    assert re.fullmatch(r"[0-9a-f]{64}", event.deduplication_id)


ODD = "a\0b\n€ 📈 \u2028 \ufffe\uffff \ud800 \udfff {x}"


def test_a_text_with_odd_characters_still_reaches_the_queue():
    """SendMessage takes the characters of XML 1.0 only, and no half of a surrogate pair can be encoded."""
    file = FILE.model_copy(update={"name": "x"})
    facts: list[Any] = [
        Completed(**JOB, answer=ODD, notes=(ODD,), files=(ResultFile(**file.model_dump() | {"name": ODD}),)),
        Failed(**JOB, code=FailureCode.INTERNAL, message=ODD),
        Progress(**JOB, epoch=1, step=1, stage=Stage.READ, detail=ODD),
    ]

    bodies = [published(event_of(fact, time=NOW)) for fact in facts]

    allowed = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
    assert all(allowed.fullmatch(body) for body in bodies)
    assert all(parse_event(body).data == fact for body, fact in zip(bodies, facts, strict=True))
    assert facts[0].answer == "a\0b\n€ 📈 \u2028 \ufffd\ufffd \ufffd \ufffd {x}"


@settings(deadline=None)
@given(st.text(st.characters(codec=None)), st.floats(0, 1e9))
def test_any_answer_survives_the_queue(answer: str, seconds: float):
    event = event_of(Completed(**JOB, answer=answer, seconds={Stage.DELIVER: seconds}), time=NOW)

    assert parse_event(published(event).encode()) == event


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -0.1])
def test_a_time_that_json_cannot_carry_is_refused(seconds: float):
    with pytest.raises(ValidationError):
        Completed(**JOB, seconds={Stage.READ: seconds})


@pytest.mark.parametrize(
    "wrong",
    [
        {"session_id": "s/../other"},
        {"job_id": "job-00000001\n"},
        {"flow": "else"},
        {"epoch": 0},
        {"epoch": None},
        {"worker": "w1"},
    ],
    ids=str,
)
def test_a_fact_that_breaks_the_contract_is_refused(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        Accepted(**JOB | {"epoch": 1} | wrong)


GOOD: dict[str, Any] = json.loads(published(event_of(ACCEPTED, time=NOW)))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "not JSON",
        "[]",
        "null",
        "[" * 100_000,
        json.dumps(GOOD)[:-1],
        json.dumps(GOOD | {"specversion": "2.0"}),
        json.dumps(GOOD | {"id": ""}),
        json.dumps(GOOD | {"source": ""}),
        json.dumps(GOOD | {"type": "io.dropchute.job.lost"}),
        json.dumps(GOOD | {"type": "io.dropchute.job.failed"}),
        json.dumps(GOOD | {"time": "2026-03-14T09:26:53"}),
        json.dumps(GOOD | {"traceparent": "x"}),
        json.dumps(GOOD | {"extension": "x"}),
        json.dumps(GOOD | {"data": None}),
        json.dumps(GOOD | {"data": GOOD["data"] | {"more": 1}}),
        json.dumps({name: value for name, value in GOOD.items() if name != "type"}),
        json.dumps({name: value for name, value in GOOD.items() if name != "id"}),
    ],
)
def test_a_body_that_is_no_event_of_ours_is_refused(body: str):
    with pytest.raises(ValidationError):
        parse_event(body)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValidationError):
        event_of(ACCEPTED, time=NOW.replace(tzinfo=None))


def test_a_time_of_another_zone_stays_the_same_moment():
    event = event_of(ACCEPTED, time=NOW.astimezone(timezone(timedelta(hours=-3, minutes=-30))))

    assert json.loads(published(event))["time"] == "2026-03-14T05:56:53.589000-03:30"
    assert parse_event(published(event)).time == NOW


def test_codes_are_stable_names():
    assert all(re.fullmatch(r"[a-z][a-z0-9_]{2,39}", code) for code in FailureCode)
    assert all(code.name.lower() == code.value for code in FailureCode)
