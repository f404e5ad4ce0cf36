"""The ledger's object: it agrees with itself, survives its JSON, and ends in one event."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from events.keys import Flow, JobRef
from events.results import Completed, Failed, FailureCode, ResultFile, Stage, parse_event
from events.status import CompletedOutcome, FailedOutcome, JobStatus, State

NOW = datetime(2026, 3, 14, 9, 26, 53, 589123, UTC)
JOB: dict[str, Any] = {"session_id": "sess-0001", "job_id": "job-00000001", "flow": Flow.QUERY}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FILE = ResultFile(key="sessions/s/x", name="Größe.csv", media_type="text/csv", size=12, rows=1, columns=2)
COMPLETED = CompletedOutcome(data=Completed(**JOB, answer="42", files=(FILE,), seconds={Stage.READ: 0.1}))
FAILED = FailedOutcome(data=Failed(**JOB, code=FailureCode.FILE_EMPTY, message="Empty.", stage=Stage.READ))


def status(**fields: Any) -> JobStatus:
    """A running job, but for what is given."""
    running: dict[str, Any] = {
        **JOB,
        "state": State.RUNNING,
        "epoch": 1,
        "attempts": 1,
        "worker": "worker-1",
        "accepted_at": NOW,
        "updated_at": NOW,
        "claim_expires_at": NOW + timedelta(seconds=60),
    }
    return JobStatus(**running | fields)


def ended(outcome: CompletedOutcome | FailedOutcome, **fields: Any) -> JobStatus:
    return status(state=State(outcome.state), claim_expires_at=None, ended_at=NOW, outcome=outcome, **fields)


EVERY_STATE = {
    "running": status(stage=Stage.PREPARE, detail="Reading sales.csv.", traceparent=TRACE),
    "waiting": status(state=State.WAITING, claim_expires_at=None, attempts=0),
    "completed": ended(COMPLETED, published=True),
    "failed": ended(FAILED, traceparent=TRACE),
}


@pytest.mark.parametrize("name", EVERY_STATE)
def test_a_status_survives_its_own_json(name: str):
    before = EVERY_STATE[name]

    after = [JobStatus.model_validate_json(before.model_dump_json(exclude_none=brief)) for brief in (True, False)]

    assert after == [before, before]
    assert after[0].ref == JobRef("sess-0001", "job-00000001")


@pytest.mark.parametrize("name", EVERY_STATE)
def test_only_an_ended_job_is_terminal(name: str):
    assert EVERY_STATE[name].is_terminal is (name in ("completed", "failed"))


def test_a_claim_is_held_until_it_expires():
    claimed = status(claim_expires_at=NOW)

    assert claimed.is_held(NOW - timedelta(microseconds=1))
    assert not claimed.is_held(NOW)
    assert not status(claim_expires_at=None).is_held(NOW)


@pytest.mark.parametrize("name", ["waiting", "completed", "failed"])
def test_a_job_that_does_not_run_is_held_by_nobody(name: str):
    given_back = EVERY_STATE[name].model_copy(update={"claim_expires_at": NOW + timedelta(hours=1)})

    assert not given_back.is_held(NOW)


@pytest.mark.parametrize("outcome", [COMPLETED, FAILED], ids=["completed", "failed"])
def test_the_end_event_is_the_same_to_the_byte_however_often_it_is_made(outcome: CompletedOutcome | FailedOutcome):
    written = ended(outcome, traceparent=TRACE)
    read = JobStatus.model_validate_json(written.model_dump_json(exclude_none=True))
    later = read.model_copy(update={"updated_at": NOW + timedelta(hours=1), "published": True, "worker": "worker-2"})

    bodies = {each.end_event().model_dump_json(exclude_none=True) for each in (written, written, read, later)}

    assert len(bodies) == 1
    event = parse_event(bodies.pop())
    assert event.data == outcome.data
    assert (event.time, event.traceparent) == (NOW, TRACE)
    assert event.id == "sess-0001/job-00000001/end"


@settings(deadline=None)
@given(st.text(st.characters(codec=None)), st.floats(0, 1e6), st.integers(0, 999_999))
def test_whatever_the_answer_the_end_event_is_the_same_to_the_byte(answer: str, seconds: float, microsecond: int):
    outcome = CompletedOutcome(data=Completed(**JOB, answer=answer, notes=(answer,), seconds={Stage.READ: seconds}))
    written = ended(outcome).model_copy(update={"ended_at": NOW.replace(microsecond=microsecond)})

    read = JobStatus.model_validate_json(written.model_dump_json(exclude_none=True).encode())

    assert read == written
    assert read.end_event().model_dump_json() == written.end_event().model_dump_json()


@pytest.mark.parametrize("name", ["running", "waiting"])
def test_a_job_that_has_not_ended_has_no_end_event(name: str):
    with pytest.raises(ValueError, match="sess-0001/job-00000001 has not ended"):
        EVERY_STATE[name].end_event()


@pytest.mark.parametrize(
    "fields",
    [
        {"state": State.COMPLETED},
        {"state": State.COMPLETED, "ended_at": NOW},
        {"state": State.COMPLETED, "outcome": COMPLETED},
        {"state": State.COMPLETED, "outcome": FAILED, "ended_at": NOW},
        {"state": State.FAILED, "outcome": COMPLETED, "ended_at": NOW},
        {"state": State.RUNNING, "outcome": COMPLETED, "ended_at": NOW},
        {"state": State.RUNNING, "ended_at": NOW},
        {"state": State.WAITING, "outcome": FAILED, "ended_at": NOW},
    ],
    ids=lambda fields: " ".join(map(str, fields.values()))[:60],
)
def test_a_status_that_contradicts_itself_is_refused(fields: dict[str, Any]):
    with pytest.raises(ValidationError, match="must agree"):
        status(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2},
        {"epoch": 0},
        {"attempts": -1},
        {"session_id": "sess-0001\n"},
        {"accepted_at": NOW.replace(tzinfo=None)},
        {"state": "lost"},
        {"outcome": {"state": "cancelled"}},
        {"traceparent": "x"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_status_of_another_form_is_refused(fields: dict[str, Any]):
    with pytest.raises(ValidationError):
        status(**fields)
