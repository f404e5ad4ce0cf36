"""The object-key layout, both ways, and the keys that mean nothing."""

import string

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from events.keys import (
    Control,
    ControlKey,
    Flow,
    Id,
    JobRef,
    ManifestKey,
    belongs_to_session,
    close_key,
    jobs_prefix,
    parse_control_key,
    parse_job_key,
    parse_manifest_key,
    session_prefix,
)

SESSION, JOB = "sess-0001", "job-00000001"
PREFIX = f"sessions/{SESSION}/jobs/{JOB}/"
MANIFEST = f"{PREFIX}query.manifest.json"
CLOSE = f"sessions/{SESSION}/close.control.json"
CANCEL = f"{PREFIX}cancel.control.json"

IDS = st.text(string.ascii_letters + string.digits + "_-", min_size=8, max_size=64)
JOBS = st.builds(JobRef, IDS, IDS)
ID_ADAPTER: TypeAdapter[str] = TypeAdapter(Id)


def test_the_layout_is_what_the_template_and_the_front_end_rely_on():
    job = JobRef(SESSION, JOB)

    assert job.prefix == PREFIX
    assert job.status_key == f"{PREFIX}status.json"
    assert job.file_key(0) == f"{PREFIX}files/0"
    assert job.result_key(2, "answer.csv") == f"{PREFIX}result/2/answer.csv"
    assert job.manifest_key(Flow.QUERY) == MANIFEST
    assert job.manifest_key(Flow.VISUALIZATION) == f"{PREFIX}visualization.manifest.json"
    assert job.cancel_key == CANCEL
    assert close_key(SESSION) == CLOSE
    assert jobs_prefix(SESSION) == f"sessions/{SESSION}/jobs/"
    assert str(job) == f"{SESSION}/{JOB}"


@settings(deadline=None)
@given(JOBS, st.sampled_from(Flow))
def test_a_manifest_key_is_read_back(job: JobRef, flow: Flow):
    key = job.manifest_key(flow)

    assert parse_manifest_key(key) == ManifestKey(job, flow)
    assert parse_control_key(key) is None
    assert len(key) <= 1024


@settings(deadline=None)
@given(JOBS)
def test_a_control_key_is_read_back(job: JobRef):
    closed, cancelled = parse_control_key(close_key(job.session_id)), parse_control_key(job.cancel_key)

    assert closed == ControlKey(job.session_id, Control.CLOSE, None)
    assert cancelled == ControlKey(job.session_id, Control.CANCEL, job)
    assert parse_manifest_key(close_key(job.session_id)) is None
    assert parse_manifest_key(job.cancel_key) is None


@settings(deadline=None)
@given(JOBS, st.integers(0, 10**9))
def test_every_key_of_a_job_leads_back_to_it(job: JobRef, number: int):
    keys = [job.status_key, job.file_key(number), job.result_key(number, "answer.xlsx"), job.cancel_key]

    parsed = [parse_job_key(key) for key in keys]

    assert parsed == [(job, key.removeprefix(job.prefix)) for key in keys]
    assert all(belongs_to_session(key, job.session_id) for key in keys)


@settings(deadline=None)
@given(JOBS, IDS)
def test_no_key_of_a_job_lies_in_another_session(job: JobRef, other: str):
    assume(other != job.session_id)

    assert not belongs_to_session(job.file_key(0), other)
    assert not job.file_key(0).startswith(session_prefix(other))


NOT_OF_A_JOB = {
    "empty": "",
    "slash before": f"/{MANIFEST}",
    "slash after": f"{MANIFEST}/",
    "line break after": f"{MANIFEST}\n",
    "line break before": f"\n{MANIFEST}",
    "nul": f"{PREFIX}query\0.manifest.json",
    "folder up": f"{PREFIX}../query.manifest.json",
    "folder up, encoded": f"{PREFIX}%2e%2E/query.manifest.json",
    "folder up, backslash": f"{PREFIX}..\\query.manifest.json",
    "same folder": f"{PREFIX}./query.manifest.json",
    "no folder": f"{PREFIX}/query.manifest.json",
    "another root": MANIFEST.replace("sessions", "Sessions"),
    "session up": f"sessions/../jobs/{JOB}/query.manifest.json",
    "session with a digit of another script": MANIFEST.replace("0001", "000١"),
    "session with a wide letter": MANIFEST.replace("sess", "ｓess"),
    "session with a combining mark": MANIFEST.replace("sess", "séss"),
    "session with a dot": MANIFEST.replace("sess-", "sess."),
    "session with a line break": MANIFEST.replace(SESSION, f"{SESSION}\n"),
    "session too short": MANIFEST.replace(SESSION, "s" * 7),
    "session too long": MANIFEST.replace(SESSION, "s" * 65),
    "job too short": MANIFEST.replace(JOB, "j" * 7),
    "job too long": MANIFEST.replace(JOB, "j" * 65),
    "no job": f"sessions/{SESSION}/query.manifest.json",
    "nothing after the job": PREFIX,
}


@pytest.mark.parametrize("key", NOT_OF_A_JOB.values(), ids=NOT_OF_A_JOB.keys())
def test_a_key_out_of_the_layout_is_nothing(key: str):
    parsed = [parse_job_key(key), parse_manifest_key(key), parse_control_key(key)]

    assert parsed == [None, None, None]


@pytest.mark.parametrize(
    "key",
    [
        f"{PREFIX}Query.manifest.json",
        f"{PREFIX}query.manifest.json.bak",
        f"{PREFIX}xquery.manifest.json",
        f"{PREFIX}files/query.manifest.json",
        f"{PREFIX}.manifest.json",
        f"{PREFIX}query.manifest%2Ejson",
    ],
)
def test_a_key_beside_the_manifests_is_no_manifest(key: str):
    assert parse_manifest_key(key) is None
    assert parse_job_key(key) is not None


@pytest.mark.parametrize(
    "key",
    [
        f"{CLOSE}\n",
        f"{CANCEL}\n",
        f"{PREFIX}close.control.json",
        f"sessions/{SESSION}/cancel.control.json",
        f"sessions/{SESSION}/jobs/close.control.json",
        f"sessions/{SESSION}/Close.control.json",
        f"sessions/{SESSION}/../close.control.json",
        f"sessions/{'s' * 7}/close.control.json",
        f"{PREFIX}files/cancel.control.json",
    ],
)
def test_a_control_in_the_wrong_place_is_no_control(key: str):
    assert parse_control_key(key) is None


@settings(deadline=None)
@given(st.text() | st.from_regex(r"sessions/.{0,20}/jobs/.{0,20}/.{0,20}"))
@example(MANIFEST)
@example(CLOSE)
@example(CANCEL)
def test_whatever_is_read_writes_the_same_key(key: str):
    manifest, control = parse_manifest_key(key), parse_control_key(key)

    assert manifest is None or manifest.job.manifest_key(manifest.flow) == key
    assert control is None or (control.job.cancel_key if control.job else close_key(control.session_id)) == key


@pytest.mark.parametrize(
    "rest",
    ["jobs/../../sess-0002/x", "..", ".", "a/..", "./a", "a//b", "", "a/", "a\n", "a\x7f", "%2e%2e/x", "a%0a", "..\\x"],
)
def test_a_key_that_may_be_folded_belongs_to_no_session(rest: str):
    assert not belongs_to_session(f"sessions/{SESSION}/{rest}", SESSION)


@pytest.mark.parametrize("rest", ["x", "a/b", "..a", "a..", ".hidden", "a/...", "Größe (1).csv", "100%.csv", "a+b"])
def test_any_other_key_under_the_prefix_belongs_to_the_session(rest: str):
    assert belongs_to_session(f"sessions/{SESSION}/{rest}", SESSION)


def test_a_session_whose_name_begins_like_another_is_another():
    assert not belongs_to_session(f"sessions/{SESSION}2/x", SESSION)
    assert not belongs_to_session(f"x/sessions/{SESSION}/x", SESSION)


@pytest.mark.parametrize("accepted", ["a" * 8, "a" * 64, "Az09_-Az", "--------"])
def test_an_id_has_8_to_64_plain_characters(accepted: str):
    assert ID_ADAPTER.validate_python(accepted) == accepted


@pytest.mark.parametrize(
    "refused", ["a" * 7, "a" * 65, "a" * 8 + "\n", "\n" + "a" * 8, "a/b/c/d/e", "12345678٣", "aaaaaaaé"]
)
def test_an_id_of_any_other_form_is_refused(refused: str):
    with pytest.raises(ValidationError):
        ID_ADAPTER.validate_python(refused)
