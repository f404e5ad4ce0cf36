"""The manifest: what is accepted, what is refused, with which code, in which words."""

import base64
import json
import string
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from events.keys import Flow, JobRef, ManifestKey
from events.manifest import (
    MAX_MANIFEST_BYTES,
    DownloadDestination,
    GoogleSheetDestination,
    Manifest,
    ManifestError,
    parse_manifest,
)
from events.results import FailureCode

BUCKET = "dropchute-temp"
SESSION, JOB = "sess-0001", "job-00000001"
KEY = ManifestKey(JobRef(SESSION, JOB), Flow.QUERY)
OWN = f"sessions/{SESSION}/jobs/{JOB}/files/0"


def entry(**fields: Any) -> dict[str, Any]:
    return {"name": "sales.csv", "type": "text/csv", "extension": "csv", "size": 3, "index": 0} | fields


def part(data: bytes = b"a;b", **fields: Any) -> dict[str, Any]:
    return {"index": 0, "content": base64.b64encode(data).decode()} | fields


def drop(**fields: Any) -> dict[str, Any]:
    """A valid manifest with one file in S3, but for what is given; ``...`` leaves a field out."""
    manifest = {
        "version": 1,
        "session_id": SESSION,
        "job_id": JOB,
        "created_at": "2026-03-14T09:26:53.589Z",
        "query": "What did each shop sell?",
        "files": [entry(s3Key=OWN)],
    } | fields
    return {name: value for name, value in manifest.items() if value is not ...}


def inline(*, size: int = 3, data: bytes = b"a;b", **fields: Any) -> dict[str, Any]:
    """A valid manifest with one file inline, but for what is given."""
    return drop(files=[entry(size=size, **fields)], inline=[part(data)])


def parse(payload: Any) -> Manifest:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return parse_manifest(body, KEY, bucket=BUCKET)


def refusal(payload: Any) -> ManifestError:
    with pytest.raises(ManifestError) as refused:
        parse(payload)
    return refused.value


def is_presentable(error: ManifestError) -> bool:
    text = error.message
    printable = all(character.isprintable() or character == " " for character in text)
    return str(error) == text and text.startswith("The ") and printable and 20 < len(text) <= 1000


# ---------------------------------------------------------------- what is accepted


def test_a_file_in_s3_is_read_with_its_pins():
    pins = {"versionId": "v1", "eTag": '"abc"', "crc32": "y/Q5Jg=="}
    url = f"https://{BUCKET}.s3.eu-central-1.amazonaws.com/{OWN}?X-Amz-Signature=0"
    manifest = parse(drop(files=[entry(s3Key=OWN, s3Url=url, file_id="f1", page_count=2, **pins)]))

    (file,) = manifest.files
    assert (file.s3_key, file.s3_url, file.version_id, file.etag, file.crc32) == (OWN, url, "v1", '"abc"', "y/Q5Jg==")
    assert (file.name, file.type, file.extension, file.size, file.index) == ("sales.csv", "text/csv", "csv", 3, 0)
    assert (file.file_id, file.page_count) == ("f1", 2)
    assert manifest.created_at == datetime(2026, 3, 14, 9, 26, 53, 589000, UTC)


def test_a_file_inline_is_read_with_its_bytes():
    manifest = parse(inline())

    assert manifest.inline_part(0).data == b"a;b"
    assert manifest.files[0].s3_key is None


def test_our_own_names_are_accepted_too():
    ours = entry(s3_key=OWN, s3_url=f"s3://{BUCKET}/{OWN}", version_id="v1", etag="abc")
    theirs = entry(s3Key=OWN, s3Url=f"s3://{BUCKET}/{OWN}", versionId="v1", eTag="abc")

    assert parse(drop(files=[ours])) == parse(drop(files=[theirs]))


def test_both_names_at_once_are_refused():
    error = refusal(drop(files=[entry(s3Key=OWN, s3_key=OWN)]))

    assert error.code == FailureCode.MANIFEST_INVALID
    assert "files.0.s3_key" in error.message


def test_what_is_left_out_has_its_default():
    manifest = parse(drop())

    assert manifest.destination == DownloadDestination(type="download", format="xlsx")
    assert (manifest.inline, manifest.spreadsheets) == ((), ())
    assert manifest.expires_at is None
    assert manifest.traceparent is None


def test_every_destination_is_read():
    url = "https://docs.google.com/spreadsheets/d/1AbCdEfGhIjKlMnOp/edit"
    sheet = parse(drop(destination={"type": "google_sheet", "url": url, "sheet": "Sums", "mode": "new_tab"}))
    formats = [
        parse(drop(destination={"type": "download", "format": kind})).destination
        for kind in ("xlsx", "csv", "parquet", "json")
    ]

    assert sheet.destination == GoogleSheetDestination(type="google_sheet", url=url, sheet="Sums", mode="new_tab")
    assert [download.model_dump()["format"] for download in formats] == ["xlsx", "csv", "parquet", "json"]


def test_a_spreadsheet_alone_is_enough_to_read():
    manifest = parse(drop(files=[], spreadsheets=[{"url": "https://example.com/s", "sheet": "S", "range": "A1:B2"}]))

    assert manifest.spreadsheets[0].range == "A1:B2"


def test_a_manifest_may_begin_with_a_byte_order_mark():
    manifest = parse(b"\xef\xbb\xbf" + json.dumps(drop()).encode())

    assert manifest.job_id == JOB


def test_a_parsed_manifest_does_not_change():
    manifest: Any = parse(drop())

    with pytest.raises(ValidationError, match="frozen"):
        manifest.query = "Something else"


# ---------------------------------------------------------------- limits

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
URL = "https://x/"
ACCEPTED = {
    "shortest query": drop(query="?"),
    "longest query": drop(query="q" * 20_000),
    "query of the longest characters": drop(query="📈" * 20_000),
    "query of lines": drop(query="one\n\ttwo\r\n"),
    "oldest time": drop(created_at="1970-01-01T00:00:00Z"),
    "latest time": drop(expires_at="2999-12-31T23:59:59.999999999+14:00"),
    "time with a zone": drop(created_at="2026-03-14T09:26:53-05:30"),
    "no expiry": drop(expires_at=None),
    "trace": drop(traceparent=TRACE),
    "most files": drop(files=[entry(index=index, s3Key=OWN) for index in range(100)]),
    "most spreadsheets": drop(spreadsheets=[{"url": URL}] * 100),
    "longest url": drop(spreadsheets=[{"url": URL.ljust(2048, "x")}]),
    "longest sheet": drop(spreadsheets=[{"url": URL, "sheet": "s" * 255}]),
    "longest range": drop(spreadsheets=[{"url": URL, "range": "r" * 64}]),
    "shortest name": inline(name="a"),
    "longest name": inline(name="n" * 255),
    "name in another script": inline(name="売上 📈 {0} %s.csv"),
    "no type": inline(type=""),
    "longest type": inline(type="t" * 255),
    "no extension": inline(extension=""),
    "longest extension": inline(extension="e" * 32),
    "longest file id": inline(file_id="f" * 255),
    "first index": inline(index=0),
    "last index": drop(files=[entry(index=999_999, s3Key=OWN)]),
    "nothing in a file": inline(size=0, data=b""),
    "largest file": drop(files=[entry(size=2**53 - 1, s3Key=OWN)]),
    "one page": inline(page_count=1),
    "most pages": inline(page_count=2**53 - 1),
    "longest key": drop(files=[entry(s3Key=f"sessions/{SESSION}/".ljust(1024, "k"))]),
    "longest url of a file": drop(
        files=[entry(s3Key=OWN, s3Url=f"https://{BUCKET}.s3.amazonaws.com/{OWN}?".ljust(4096, "x"))]
    ),
    "longest version": drop(files=[entry(s3Key=OWN, versionId="v" * 1024)]),
    "longest etag": drop(files=[entry(s3Key=OWN, eTag="e" * 128)]),
    "crc of nothing": drop(files=[entry(s3Key=OWN, crc32="AAAAAA==")]),
}

NOT_AN_INTEGER: list[Any] = [True, "3", 3.0, 3.5, None, [3]]
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no query": (drop(query=...), "query"),
    "empty query": (drop(query=""), "query"),
    "blank query": (drop(query=" \n "), "query"),
    "query too long": (drop(query="q" * 20_001), "query"),
    "query number": (drop(query=3), "query"),
    "half a surrogate pair": (drop(query="\ud800"), "query"),
    "no session": (drop(session_id=...), "session_id"),
    "session too short": (drop(session_id="s" * 7), "session_id"),
    "session with a line break": (drop(session_id=f"{SESSION}\n"), "session_id"),
    "job with a digit of another script": (drop(job_id="job-0000000١"), "job_id"),
    "job up": (drop(job_id="../../job-1"), "job_id"),
    "no time": (drop(created_at=...), "created_at"),
    "time without a zone": (drop(created_at="2026-03-14T09:26:53"), "created_at"),
    "time as a number": (drop(created_at=1_773_480_413), "created_at"),
    "time as digits": (drop(created_at="1773480413"), "created_at"),
    "time with a space": (drop(created_at="2026-03-14 09:26:53Z"), "created_at"),
    "time with digits of another script": (drop(created_at="٢٠٢٦-03-14T09:26:53Z"), "created_at"),
    "day that is not": (drop(created_at="2026-02-30T00:00:00Z"), "created_at"),
    "time too early": (drop(created_at="1969-12-31T23:59:59Z"), "created_at"),
    "time too late": (drop(expires_at="3000-01-01T00:00:00Z"), "expires_at"),
    "last time of all": (drop(created_at="9999-12-31T23:59:59Z"), "created_at"),
    "trace of another form": (drop(traceparent="00-0-0-01"), "traceparent"),
    "trace with a line break": (drop(traceparent=f"{TRACE}\n"), "traceparent"),
    "nothing to read": (drop(files=[]), "at least one file or spreadsheet"),
    "too many files": (drop(files=[entry(index=index, s3Key=OWN) for index in range(101)]), "files"),
    "too many parts": (inline() | {"inline": [part()] * 101}, "inline"),
    "too many spreadsheets": (drop(spreadsheets=[{"url": URL}] * 101), "spreadsheets"),
    "files as an object": (drop(files={"0": entry()}), "files: it must be an array"),
    "file as a text": (drop(files=["sales.csv"]), "files.0: it must be an object"),
    "unknown field": (drop(callback_url=URL), "callback_url: there is no such field in version 1"),
    "unknown field of a file": (inline(path="/etc/passwd"), "files.0.path"),
    "no name": (inline(name=None), "files.0.name"),
    "empty name": (inline(name=""), "files.0.name"),
    "name too long": (inline(name="n" * 256), "files.0.name"),
    "name with a line break": (inline(name="a\nb"), "files.0.name"),
    "name with another line break": (inline(name="a\u2028b"), "files.0.name"),
    "name with nul": (inline(name="a\0b"), "files.0.name"),
    "name of half a surrogate pair": (inline(name="\udc80"), "files.0.name"),
    "type too long": (inline(type="t" * 256), "files.0.type"),
    "type with a line break": (inline(type="text/csv\r\nX: y"), "files.0.type"),
    "extension too long": (inline(extension="e" * 33), "files.0.extension"),
    "extension with nul": (inline(extension="csv\0"), "files.0.extension"),
    "file id too long": (inline(file_id="f" * 256), "files.0.file_id"),
    "size below nothing": (inline(size=-1), "files.0.size"),
    "size too large": (drop(files=[entry(size=2**53, s3Key=OWN)]), "files.0.size"),
    "index below nothing": (inline(index=-1), "files.0.index"),
    "index too large": (drop(files=[entry(index=1_000_000, s3Key=OWN)]), "files.0.index"),
    "no pages": (inline(page_count=0), "files.0.page_count"),
    "too many pages": (inline(page_count=2**53), "files.0.page_count"),
    **{f"size {value!r}": (drop(files=[entry(size=value, s3Key=OWN)]), "files.0.size") for value in NOT_AN_INTEGER},
    **{f"index {value!r}": (drop(files=[entry(index=value, s3Key=OWN)]), "files.0.index") for value in NOT_AN_INTEGER},
    "size in another notation": (drop(files=[entry(size=1e20, s3Key=OWN)]), "files.0.size"),
    "inline index true": (inline() | {"inline": [part(index=False)]}, "inline.0.index"),
    "pages true": (inline(page_count=True), "files.0.page_count"),
    "empty key": (drop(files=[entry(s3Key="")]), "files.0.s3Key"),
    "key too long": (drop(files=[entry(s3Key=f"sessions/{SESSION}/".ljust(1025, "k"))]), "files.0.s3Key"),
    "key too long in bytes": (drop(files=[entry(s3Key=f"sessions/{SESSION}/".ljust(1000, "é"))]), "files.0.s3Key"),
    "empty url of a file": (drop(files=[entry(s3Key=OWN, s3Url="")]), "files.0.s3Url"),
    "url of a file too long": (drop(files=[entry(s3Key=OWN, s3Url="s3://".ljust(4097, "x"))]), "files.0.s3Url"),
    "empty version": (drop(files=[entry(s3Key=OWN, versionId="")]), "files.0.versionId"),
    "version too long": (drop(files=[entry(s3Key=OWN, versionId="v" * 1025)]), "files.0.versionId"),
    "empty etag": (drop(files=[entry(s3Key=OWN, eTag="")]), "files.0.eTag"),
    "etag too long": (drop(files=[entry(s3Key=OWN, eTag="e" * 129)]), "files.0.eTag"),
    "crc in hexadecimal": (drop(files=[entry(s3Key=OWN, crc32="cbf43926")]), "files.0.crc32"),
    "crc with bits to spare": (drop(files=[entry(s3Key=OWN, crc32="y/Q5Jh==")]), "files.0.crc32"),
    "crc with a line break": (drop(files=[entry(s3Key=OWN, crc32="y/Q5Jg==\n")]), "files.0.crc32"),
    "content that is no base64": (inline() | {"inline": [part(content="a;b")]}, "inline.0.content: must be base64"),
    "content with a line break": (inline() | {"inline": [part(content="YTti\n")]}, "inline.0.content"),
    "content for URLs": (inline() | {"inline": [part(content="_-_-")]}, "inline.0.content"),
    "content in another script": (inline() | {"inline": [part(content="ＹＴｔｉ")]}, "inline.0.content"),
    "plain http": (drop(spreadsheets=[{"url": "http://x/"}]), "spreadsheets.0.url"),
    "url with a space": (drop(spreadsheets=[{"url": "https://x/ y"}]), "spreadsheets.0.url"),
    "url with a line break": (drop(spreadsheets=[{"url": f"{URL}\n"}]), "spreadsheets.0.url"),
    "url with nul": (drop(spreadsheets=[{"url": f"{URL}\0"}]), "spreadsheets.0.url"),
    "url too long": (drop(spreadsheets=[{"url": URL.ljust(2049, "x")}]), "spreadsheets.0.url"),
    "empty sheet": (drop(spreadsheets=[{"url": URL, "sheet": ""}]), "spreadsheets.0.sheet"),
    "sheet too long": (drop(spreadsheets=[{"url": URL, "sheet": "s" * 256}]), "spreadsheets.0.sheet"),
    "empty range": (drop(spreadsheets=[{"url": URL, "range": ""}]), "spreadsheets.0.range"),
    "range too long": (drop(spreadsheets=[{"url": URL, "range": "r" * 65}]), "spreadsheets.0.range"),
    "unknown format": (drop(destination={"type": "download", "format": "pdf"}), "destination.download.format"),
    "unknown destination": (drop(destination={"type": "ftp"}), "destination"),
    "destination without a type": (drop(destination={"format": "csv"}), "destination"),
    "destination text": (drop(destination="download"), "destination: it must be an object"),
    "unknown mode": (
        drop(destination={"type": "google_sheet", "url": URL, "mode": "overwrite"}),
        "destination.google_sheet.mode",
    ),
    "sheet without url": (drop(destination={"type": "google_sheet"}), "destination.google_sheet.url: it is missing"),
    "field of the other destination": (drop(destination={"type": "download", "url": URL}), "destination.download.url"),
}


@pytest.mark.parametrize("payload", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_at_its_limit_a_field_is_accepted(payload: dict[str, Any]):
    manifest = parse(payload)

    assert manifest.session_id == SESSION


@pytest.mark.parametrize(("payload", "place"), REFUSED.values(), ids=REFUSED.keys())
def test_beyond_its_limit_a_field_is_named_and_refused(payload: dict[str, Any], place: str):
    error = refusal(payload)

    assert error.code == FailureCode.MANIFEST_INVALID
    assert place in error.message
    assert is_presentable(error)


# ---------------------------------------------------------------- the body as a whole

UNREADABLE = {
    "empty": (b"", "Expecting value at line 1, column 1"),
    "text": (b"What did each shop sell?", "Expecting value"),
    "cut off": (json.dumps(drop()).encode()[:-1], "at line 1"),
    "two": (b"{} {}", "Extra data"),
    "array": (b"[]", "it is an array, where an object is needed"),
    "null": (b"null", "it is null"),
    "NaN": (b'{"version": NaN}', "NaN is no JSON number"),
    "infinity": (b'{"version": -Infinity}', "-Infinity is no JSON number"),
    "endless number": (b'{"version": ' + b"1" * 5000 + b"}", "a number has 5,000 digits"),
    "deep": (b'{"version": ' + b"[" * 100_000, "nested too deeply"),
    "name twice": (b'{"version": 1, "session_id": "a", "session_id": "b"}', 'the name "session_id" occurs twice'),
    "name twice inside": (b'{"files": [{"s3Key": "a", "s3Key": "b"}]}', 'the name "s3Key" occurs twice'),
    "not UTF-8": (b'{"query": "\xff"}', "byte 11 is not UTF-8"),
    "UTF-16": (json.dumps(drop()).encode("utf-16"), "byte 0 is not UTF-8"),
    "surrogate in UTF-8": (b'{"query": "\xed\xa0\x80"}', "byte 11 is not UTF-8"),
}


@pytest.mark.parametrize(("body", "sentence"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_no_json_object_says_where(body: bytes, sentence: str):
    error = refusal(body)

    assert error.code == FailureCode.MANIFEST_NOT_JSON
    assert sentence in error.message
    assert is_presentable(error)


def test_a_manifest_of_the_largest_size_is_accepted():
    body = json.dumps(drop()).encode().ljust(MAX_MANIFEST_BYTES)

    manifest = parse(body)

    assert manifest.job_id == JOB


def test_a_manifest_beyond_the_largest_size_is_not_even_read():
    error = refusal(b"[" * (MAX_MANIFEST_BYTES + 1))

    assert error.code == FailureCode.MANIFEST_TOO_LARGE
    assert "4,194,305 bytes; 4,194,304 are allowed" in error.message
    assert is_presentable(error)


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        (..., "has no version"),
        (2, "version is 2;"),
        (0, "version is 0;"),
        (True, "version is true;"),
        (1.0, "version is 1.0;"),
        ("1", 'version is "1";'),
        (None, "version is null;"),
        ([1], "version is an array;"),
        ({"major": 1}, "version is an object;"),
        ("1\n\ud800" * 100_000, 'version is "1\\n\\ud800'),
    ],
)
def test_another_version_is_refused_before_anything_else(version: Any, shown: str):
    error = refusal(drop(version=version, query=3))

    assert error.code == FailureCode.MANIFEST_VERSION
    assert shown in error.message
    assert error.message.endswith("this service reads version 1.")
    assert is_presentable(error)


@pytest.mark.parametrize("field", ["session_id", "job_id"])
def test_a_manifest_whose_key_says_otherwise_is_refused(field: str):
    error = refusal(drop(**{field: "another-one"}))

    assert error.code == FailureCode.MANIFEST_MISMATCH
    assert "another-one" in error.message
    assert f"its key says session {SESSION}, job {JOB}" in error.message


# ---------------------------------------------------------------- the index rule

S3_AND_INLINE = inline() | {"files": [entry(s3Key=OWN)]}
INDEX_BREACHES: dict[str, tuple[dict[str, Any], str]] = {
    "neither": (drop(files=[entry(index=7)]), "file 7 (sales.csv): it has neither"),
    "both": (S3_AND_INLINE, "file 0 (sales.csv): it has an s3Key and an inline part"),
    "another index": (inline(index=1), "the inline part with index 0 has no entry in files"),
    "part without entry": (drop(inline=[part(index=1)]), "the inline part with index 1 has no entry"),
    "part without any entry": (drop(files=[], inline=[part()]), "index 0 has no entry in files"),
    "index twice": (drop(files=[entry(s3Key=OWN), entry(s3Key=OWN)]), "file 0 (sales.csv): index 0 is used twice"),
    "part twice": (inline() | {"inline": [part(), part()]}, "two inline parts have index 0"),
    "larger than it says": (inline(size=2), "it says 2 bytes, but its inline part has 3"),
    "smaller than it says": (inline(size=4), "it says 4 bytes, but its inline part has 3"),
    "not in S3": (drop(files=[entry(size=102_401)]), "it has 102,401 bytes and no s3Key; over 102,400"),
    "one byte too many": (inline(size=102_401, data=bytes(102_401)), "102,401 bytes; 102,400 are allowed"),
    "far too many": (inline(size=500_000, data=bytes(500_000)), "500,000 bytes; 102,400 are allowed"),
    "far more than it says": (inline(size=3, data=bytes(500_000)), "500,000 bytes; 102,400 are allowed"),
}


@pytest.mark.parametrize(("payload", "rule"), INDEX_BREACHES.values(), ids=INDEX_BREACHES.keys())
def test_a_breach_of_the_index_rule_names_the_entry_and_the_rule(payload: dict[str, Any], rule: str):
    error = refusal(payload)

    assert error.code == FailureCode.INDEX_RULE
    assert rule in error.message
    assert is_presentable(error)


@pytest.mark.parametrize("size", [0, 1, 102_399, 102_400])
def test_up_to_102_400_bytes_a_file_may_be_inline(size: int):
    manifest = parse(inline(size=size, data=bytes(size)))

    assert len(manifest.inline_part(0).data) == size


def test_a_file_of_any_size_may_be_in_s3():
    manifest = parse(drop(files=[entry(size=size, index=size, s3Key=OWN) for size in (0, 102_400, 102_401)]))

    assert [file.size for file in manifest.files] == [0, 102_400, 102_401]


def test_the_index_rule_holds_for_a_manifest_that_is_built_in_python():
    with pytest.raises(ValidationError, match="it has neither"):
        Manifest.model_validate(drop(files=[entry()]))


@pytest.mark.parametrize("name", ["{rule}", "{index}{name}", "{0} {} %s %(name)s", "{", "}", "\\n{{x}}", "$name"])
def test_a_display_name_stays_as_it_is_in_a_sentence(name: str):
    index_rule = refusal(inline(name=name, size=4))
    foreign = refusal(drop(files=[entry(name=name, s3Key="elsewhere")]))

    assert index_rule.message == (
        f"The manifest is wrong: file 0 ({name}): it says 4 bytes, but its inline part has 3."
    )
    assert foreign.message == f"File 0 ({name}) is not in this session's own space."


def test_an_unknown_field_cannot_forge_a_line_of_the_log():
    error = refusal(drop(**{"x\n2026-03-14 job.completed \x1b[32m" * 1000: 1}))

    assert '"x\\n2026-03-14 job.completed' in error.message
    assert is_presentable(error)


def test_a_destination_cannot_forge_a_line_of_the_log():
    error = refusal(drop(destination={"type": "x\n2026-03-14 job.completed\ud800" + "y" * 5000}))

    assert "x\ufffd2026" in error.message
    assert len(error.message) == 1000
    assert error.message.encode()


# ---------------------------------------------------------------- where files may be

FOREIGN_KEYS = {
    "another session": "sessions/sess-0002/jobs/job-00000001/files/0",
    "a longer session": f"sessions/{SESSION}2/files/0",
    "no session": "files/0",
    "sessions alone": "sessions/",
    "the session alone": f"sessions/{SESSION}",
    "slash before": f"/{OWN}",
    "up": f"sessions/{SESSION}/../sess-0002/files/0",
    "up at the end": f"sessions/{SESSION}/..",
    "up, encoded": f"sessions/{SESSION}/%2e%2e/sess-0002/files/0",
    "up, encoded in part": f"sessions/{SESSION}/.%2E/sess-0002/files/0",
    "up, encoded slash": f"sessions/{SESSION}/..%2fsess-0002",
    "up, backslash": f"sessions/{SESSION}/..\\sess-0002",
    "same": f"sessions/{SESSION}/./files/0",
    "twice a slash": f"sessions/{SESSION}//files/0",
    "slash after": f"{OWN}/",
    "line break": f"{OWN}\n",
    "nul": f"{OWN}\0",
    "another case": OWN.replace("sessions", "Sessions"),
    "another bucket": f"{BUCKET}/{OWN}",
    "url": f"s3://{BUCKET}/{OWN}",
    "arn": f"arn:aws:s3:::{BUCKET}/{OWN}",
}


@pytest.mark.parametrize("key", FOREIGN_KEYS.values(), ids=FOREIGN_KEYS.keys())
def test_a_file_outside_the_session_is_refused(key: str):
    error = refusal(drop(files=[entry(index=3, s3Key=OWN), entry(index=4, name="b.csv", s3Key=key)]))

    assert error.code == FailureCode.FOREIGN_FILE
    assert error.message == "File 4 (b.csv) is not in this session's own space."


def test_an_s3_url_may_name_the_same_object():
    url = f"https://{BUCKET}.s3.eu-central-1.amazonaws.com/{OWN}?X-Amz-Signature=0"
    manifest = parse(drop(files=[entry(s3Key=OWN, s3Url=url)]))

    assert manifest.files[0].s3_url == url


@pytest.mark.parametrize(
    "url", [f"s3://other-bucket/{OWN}", f"https://other.s3.amazonaws.com/{BUCKET}/{OWN}", OWN, "https://["]
)
def test_an_s3_url_of_another_bucket_is_refused(url: str):
    error = refusal(drop(files=[entry(s3Key=OWN, s3Url=url)]))

    assert error.code == FailureCode.FOREIGN_FILE
    assert error.message == "The s3Url of file 0 (sales.csv) names another bucket."


@pytest.mark.parametrize("url", [f"s3://{BUCKET}/{OWN}0", f"s3://{BUCKET}", f"https://{BUCKET}.s3.amazonaws.com/"])
def test_an_s3_url_of_another_key_is_refused(url: str):
    error = refusal(drop(files=[entry(s3Key=OWN, s3Url=url)]))

    assert error.code == FailureCode.S3_URL_MISMATCH
    assert error.message == "The s3Url of file 0 (sales.csv) does not name the object of its s3Key."


def test_an_s3_url_without_a_key_is_refused():
    error = refusal(inline(s3Url=f"s3://{BUCKET}/{OWN}"))

    assert error.code == FailureCode.S3_URL_MISMATCH


# ---------------------------------------------------------------- anything at all

LINES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20)
NAMES = LINES.filter(bool)
DAYS = (timedelta(days=1), timedelta(days=375_000))
MOMENTS = st.timedeltas(*DAYS).map(lambda since: (datetime(1970, 1, 1, tzinfo=UTC) + since).isoformat())
PLAIN = st.text(string.ascii_letters + "é %+#?", min_size=1, max_size=20)


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    entries, parts = [], []
    for index in draw(st.sets(st.integers(0, 999_999), max_size=4)):
        file = entry(index=index, name=draw(NAMES), type=draw(LINES), extension=draw(LINES))
        if draw(st.booleans()):
            key = f"sessions/{SESSION}/{draw(PLAIN)}"
            file |= {"size": draw(st.integers(0, 2**53 - 1)), draw(st.sampled_from(["s3Key", "s3_key"])): key}
            file |= draw(st.fixed_dictionaries({}, optional={"eTag": NAMES, "page_count": st.integers(1, 2**53 - 1)}))
        else:
            data = draw(st.binary(max_size=50))
            file |= {"size": len(data)}
            parts.append(part(data, index=index))
        entries.append(file)
    sheets = [{"url": URL}] * draw(st.integers(0 if entries else 1, 2))
    extras = st.fixed_dictionaries({}, optional={"expires_at": MOMENTS, "destination": st.just({"type": "download"})})
    query = draw(st.text(min_size=1).filter(str.strip))
    return drop(query=query, created_at=draw(MOMENTS), files=entries, inline=parts, spreadsheets=sheets) | draw(extras)


@settings(deadline=None)
@given(manifests(), st.booleans())
def test_a_manifest_survives_its_own_json(payload: dict[str, Any], brief: bool):
    manifest = parse(payload)

    again = parse(manifest.model_dump_json(by_alias=True, exclude_none=brief).encode())

    assert again == manifest
    assert again.created_at + timedelta(days=1) > manifest.created_at


def is_settled(body: bytes) -> bool:
    """Whether it was read, or refused in words; any other exception is raised."""
    try:
        parse(body)
    except ManifestError as error:
        return bool(error.message.encode()) and "\n" not in error.message and error.code in FailureCode
    return True


FIELDS = st.sampled_from([*drop(), "inline", "spreadsheets", "destination", "expires_at", "traceparent"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\ud800", "{rule}", OWN]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*entry()]) | st.text(), inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.binary())
@example(b"\xff")
def test_any_bytes_are_a_manifest_or_a_refusal(body: bytes):
    assert is_settled(body)


@settings(deadline=None)
@given(VALUES)
def test_any_json_is_a_manifest_or_a_refusal(value: Any):
    assert is_settled(json.dumps(value).encode())


@settings(deadline=None)
@given(FIELDS, VALUES)
def test_any_value_in_any_field_is_a_manifest_or_a_refusal(field: str, value: Any):
    assert is_settled(json.dumps(drop() | {field: value}).encode())


@settings(deadline=None)
@given(st.sampled_from([*entry(), "s3Key", "s3Url", "versionId", "eTag", "crc32", "file_id", "page_count"]), VALUES)
def test_any_value_in_any_field_of_a_file_is_a_manifest_or_a_refusal(field: str, value: Any):
    assert is_settled(json.dumps(inline(**{field: value})).encode())


@settings(deadline=None)
@given(st.text())
@example("https://[")
@example("https://dropchute-temp.s3.\u2100/")
@example("s3://dropchute-temp/\ud800")
def test_any_s3_url_is_a_manifest_or_a_refusal(url: str):
    assert is_settled(json.dumps(drop(files=[entry(s3Key=OWN, s3Url=url)])).encode())
