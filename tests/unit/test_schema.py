"""The JSON Schemas: fresh, true to the models, and what a front end can check against."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import TypeAdapter, ValidationError

from events.keys import Flow
from events.manifest import Manifest
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
)
from events.schema.generate import FOLDER, main, schemas
from events.status import CompletedOutcome, JobStatus, State

NOW = datetime(2026, 3, 14, 9, 26, 53, 589000, UTC)
JOB: dict[str, Any] = {"session_id": "sess-0001", "job_id": "job-00000001", "flow": Flow.QUERY}
KEY = "sessions/sess-0001/jobs/job-00000001/files/0"
NAMES = ["manifest", "job-event", "job-status"]


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    return loaded


VALIDATORS = {name: Draft202012Validator(schema(name)) for name in NAMES}


def fits(name: str, value: Any) -> bool:
    return bool(VALIDATORS[name].is_valid(value))


# ---------------------------------------------------------------- the files


def test_the_files_are_what_the_models_say():
    assert main(["--check"]) == 0


def test_nothing_else_lies_beside_them():
    assert {path.name for path in FOLDER.glob("*.json")} == set(schemas()) == {f"{name}.schema.json" for name in NAMES}


def test_what_is_written_passes_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    written, checked = main([], folder=tmp_path), main(["--check"], folder=tmp_path)

    assert (written, checked) == (0, 0)
    assert capsys.readouterr().err == ""
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == schemas()


def test_a_stale_or_missing_file_is_named_with_the_command_that_mends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main([], folder=tmp_path)
    manifest, event = tmp_path / "manifest.schema.json", tmp_path / "job-event.schema.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("20000", "20001"), encoding="utf-8")
    event.unlink()

    code = main(["--check"], folder=tmp_path)

    first, second = capsys.readouterr().err.splitlines()
    assert code == 1
    assert first == f"{manifest} is not what the models say. Mend it with: python -m events.schema.generate"
    assert second.startswith(f"{event} is not")
    assert not event.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_valid_and_says_what_it_is(name: str):
    text = schema(name)

    Draft202012Validator.check_schema(text)
    assert list(text)[:4] == ["$schema", "$id", "title", "description"]
    assert text["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert text["$id"] == f"urn:dropchute:schema:{name}:1"
    assert text["title"] in ("Manifest", "JobEvent", "JobStatus")
    assert all(text["$defs"][kind].get("description") for kind in text["$defs"])


def test_other_accepted_names_are_told():
    fields = schema("manifest")["$defs"]["FileUploadMetadata"]["properties"]

    told = {name: field.get("description", "") for name, field in fields.items()}
    assert "`s3_key`" in told["s3Key"]
    assert "`s3_url`" in told["s3Url"]
    assert "`version_id`" in told["versionId"]
    assert "`etag`" in told["eTag"]


# ---------------------------------------------------------------- manifests


def manifest(**fields: Any) -> dict[str, Any]:
    drop = {
        "version": 1,
        "session_id": "sess-0001",
        "job_id": "job-00000001",
        "created_at": "2026-03-14T09:26:53.589Z",
        "query": "What did each shop sell?",
        "files": [entry(s3Key=KEY)],
    } | fields
    return {name: value for name, value in drop.items() if value is not ...}


def entry(**fields: Any) -> dict[str, Any]:
    return {"name": "sales.csv", "type": "text/csv", "extension": "csv", "size": 3, "index": 0} | fields


SHEET = {"type": "google_sheet", "url": "https://docs.google.com/spreadsheets/d/1AbCdEfGhIjKlMnOp/edit"}
MANIFESTS = {
    "in S3": manifest(),
    "with pins": manifest(files=[entry(s3Key=KEY, s3Url="s3://b/k", versionId="1", eTag="e", crc32="y/Q5Jg==")]),
    "with nulls": manifest(files=[entry(s3Key=KEY, file_id=None, page_count=None)], expires_at=None, traceparent=None),
    "inline": manifest(files=[entry()], inline=[{"index": 0, "content": "YTti"}]),
    "spreadsheet": manifest(files=..., spreadsheets=[{"url": "https://example.com/s", "sheet": "S", "range": "A1"}]),
    "to a sheet": manifest(destination=SHEET),
    "as CSV": manifest(destination={"type": "download", "format": "csv"}),
    "as whatever": manifest(destination={"type": "download"}),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_the_model_takes_fits_the_schema(name: str):
    parsed = Manifest.model_validate(MANIFESTS[name])

    assert fits("manifest", MANIFESTS[name])
    assert fits("manifest", json.loads(parsed.model_dump_json(by_alias=True)))
    assert fits("manifest", json.loads(parsed.model_dump_json(by_alias=True, exclude_none=True)))


BROKEN_MANIFESTS = {
    "array": [],
    "no version": manifest(version=...),
    "version 2": manifest(version=2),
    "version text": manifest(version="1"),
    "no session": manifest(session_id=...),
    "short session": manifest(session_id="s"),
    "job up": manifest(job_id="../../job-1"),
    "no time": manifest(created_at=...),
    "no query": manifest(query=...),
    "empty query": manifest(query=""),
    "long query": manifest(query="q" * 20_001),
    "unknown field": manifest(callback_url="https://x/"),
    "unknown field of a file": manifest(files=[entry(s3Key=KEY, path="/x")]),
    "no name": manifest(files=[{"size": 3, "index": 0}]),
    "size text": manifest(files=[entry(s3Key=KEY, size="3")]),
    "size true": manifest(files=[entry(s3Key=KEY, size=True)]),
    "size below nothing": manifest(files=[entry(s3Key=KEY, size=-1)]),
    "too many files": manifest(files=[entry(s3Key=KEY)] * 101),
    "crc in hexadecimal": manifest(files=[entry(s3Key=KEY, crc32="cbf43926")]),
    "long content": manifest(files=[entry()], inline=[{"index": 0, "content": "A" * 136_540}]),
    "no content": manifest(files=[entry()], inline=[{"index": 0}]),
    "plain http": manifest(spreadsheets=[{"url": "http://x/"}]),
    "unknown format": manifest(destination={"type": "download", "format": "pdf"}),
    "unknown destination": manifest(destination={"type": "ftp"}),
    "destination without a type": manifest(destination={"format": "csv"}),
    "sheet without url": manifest(destination={"type": "google_sheet"}),
    "trace": manifest(traceparent="x"),
}


@pytest.mark.parametrize("name", BROKEN_MANIFESTS)
def test_a_broken_manifest_fits_neither_the_schema_nor_the_model(name: str):
    assert not fits("manifest", BROKEN_MANIFESTS[name])
    with pytest.raises(ValidationError):
        Manifest.model_validate(BROKEN_MANIFESTS[name])


FIELDS = st.sampled_from([*manifest(), "inline", "spreadsheets", "destination", "expires_at", "traceparent"])
FILE_FIELDS = st.sampled_from([*entry(), "s3Key", "s3Url", "versionId", "eTag", "crc32", "file_id", "page_count"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.just("2026-03-14T00:00:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "url", "index"]), inner),
    max_leaves=6,
)


def model_takes(payload: dict[str, Any]) -> bool:
    try:
        Manifest.model_validate(payload)
    except ValidationError:
        return False
    return True


@settings(deadline=None)
@given(FIELDS, FILE_FIELDS, VALUES, VALUES)
def test_what_the_schema_refuses_the_model_refuses(field: str, file_field: str, value: Any, file_value: Any):
    payloads = [manifest() | {field: value}, manifest(files=[entry(s3Key=KEY) | {file_field: file_value}])]

    assert all(fits("manifest", payload) for payload in payloads if model_takes(payload))


# ---------------------------------------------------------------- events and statuses

FILE = ResultFile(key=KEY, name="answer.csv", media_type="text/csv", size=12)
COMPLETED = Completed(**JOB, answer="42", files=(FILE,), notes=("a note",), seconds={Stage.READ: 0.25})
FACTS: list[Accepted | Progress | Completed | Failed] = [
    Accepted(**JOB, epoch=1),
    Progress(**JOB, epoch=1, step=2, stage=Stage.ANALYSE, detail="Asking the model."),
    COMPLETED,
    Completed(**JOB),
    *(Failed(**JOB, code=code, message="…", stage=Stage.READ) for code in FailureCode),
    Failed(**JOB, code=FailureCode.INTERNAL, message=""),
]
EVENTS: list[dict[str, Any]] = [
    json.loads(event_of(fact, time=NOW).model_dump_json(exclude_none=brief))
    for fact in FACTS
    for brief in (True, False)
]
EVENT_MODEL: TypeAdapter[JobEvent] = TypeAdapter(JobEvent)


def test_every_event_that_is_published_fits_the_schema():
    assert [event for event in EVENTS if not fits("job-event", event)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "2.0"},
        {"id": ""},
        {"type": "io.dropchute.job.lost"},
        {"type": "io.dropchute.job.failed"},
        {"time": 3},
        {"traceparent": "x"},
        {"extension": "x"},
        {"data": {}},
        {"data": EVENTS[0]["data"] | {"epoch": 0}},
        {"data": EVENTS[0]["data"] | {"flow": "else"}},
    ],
    ids=str,
)
def test_a_broken_event_fits_neither_the_schema_nor_the_model(change: dict[str, Any]):
    assert not fits("job-event", EVENTS[0] | change)
    with pytest.raises(ValidationError):
        EVENT_MODEL.validate_python(EVENTS[0] | change)


@pytest.mark.parametrize("attribute", ["specversion", "id", "source", "type", "subject", "time", "data"])
def test_the_schema_asks_for_every_attribute_that_is_always_there(attribute: str):
    event = {name: value for name, value in EVENTS[0].items() if name != attribute}

    assert not fits("job-event", event)


RUNNING = JobStatus(
    **JOB, state=State.RUNNING, epoch=1, attempts=1, worker="w", accepted_at=NOW, updated_at=NOW, claim_expires_at=NOW
)
ENDED = RUNNING.model_copy(
    update={
        "state": State.COMPLETED,
        "claim_expires_at": None,
        "ended_at": NOW,
        "outcome": CompletedOutcome(data=COMPLETED),
        "published": True,
        "stage": Stage.DELIVER,
    }
)


@pytest.mark.parametrize("status", [RUNNING, ENDED], ids=["running", "completed"])
@pytest.mark.parametrize("brief", [True, False])
def test_every_status_that_is_written_fits_the_schema(status: JobStatus, brief: bool):
    assert fits("job-status", json.loads(status.model_dump_json(exclude_none=brief)))


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"state": "lost"}, {"epoch": 0}, {"outcome": {"state": "completed"}}, {"more": 1}],
    ids=str,
)
def test_a_broken_status_does_not_fit_the_schema(change: dict[str, Any]):
    assert not fits("job-status", json.loads(RUNNING.model_dump_json(exclude_none=True)) | change)
