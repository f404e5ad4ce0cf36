"""Everything that can be handed in wrong, all at once, to one worker: each has its code and its sentence."""

import asyncio
import base64
import io
import json
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import xlsxwriter
from endpoints import each_of
from kit import Kit, manifest_of, new_job, until
from pydantic import SecretStr
from scripted_model import HttpError, ModelByRequest, Reply

from consumers.errors import OPERATOR_CODES
from events.keys import Flow, JobRef
from events.manifest import MAX_MANIFEST_BYTES
from events.results import CompletedEvent, FailedEvent, FailureCode, parse_event
from infra.wiring import run_worker

# Every end is the same on each endpoint; one of them is enough.
endpoint_url = each_of("localstack")

CSV = b"name,amount\n" + b"".join(b"row %d,%d\n" % (number, number) for number in range(100))
GOOD_CODE = "result = df.head(3)"


def code(program: str) -> Reply:
    return Reply(f"```python\n{program}\n```")


MODEL_STEPS = {
    "ASK: refuse": Reply("I'm sorry, I cannot help with that."),
    "ASK: talk": Reply("What a lovely table you have there."),
    "ASK: reject": HttpError(400, {"message": "bad request"}),
    "ASK: forever": code("while True: pass"),
    "ASK: memory": code("x = []\nwhile True: x.append('x' * 10_000_000)"),
    "ASK: print": code("while True: print('x' * 1000)"),
    "ASK: nothing": code("result = df[df['amount'] < 0]"),
    "ASK: wide": code("result = pd.DataFrame([range(16_385)]).add_prefix('c')"),
    "ASK: broken": code("result = df['no such column']"),
    "ASK: dict": code("result = {'a': 1}"),
    "ASK: long": code("import time; time.sleep(4); result = df.head(1)"),
}


@dataclass
class Bad:
    """One wrong drop: what to write, and what must come of it."""

    code: FailureCode
    says: str
    query: str = "ASK: good"
    content: bytes | None = CSV
    entry: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    body: bytes | None = None

    async def drop(self, kit: Kit, job: JobRef) -> None:
        if self.content is not None:
            await kit.store.put(job.file_key(0), self.content, media_type="text/csv")
        size = len(self.content or b"")
        entry = manifest_of(job)["files"][0] | {"name": "table.csv", "size": size}
        entry |= {name: _filled(value, job) for name, value in self.entry.items()}
        manifest = manifest_of(job, query=self.query, files=[entry]) | self.manifest
        await kit.write_manifest(job, self.body if self.body is not None else json.dumps(manifest).encode())


def _filled(value: Any, job: JobRef) -> Any:
    return value.format(job=job, key=job.file_key(0)) if isinstance(value, str) else value


def workbook() -> bytes:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as book:
        sheet = book.add_worksheet("One")
        sheet.write_row(0, 0, ["a", "b"])
        sheet.write_row(1, 0, [1, 2])
    return buffer.getvalue()


def encrypted_workbook() -> bytes:
    """The container that Office writes around an encrypted workbook: an OLE file with EncryptedPackage in it."""
    header = bytearray(512)
    header[:8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
    struct.pack_into("<HHHHH", header, 24, 0x3E, 3, 0xFFFE, 9, 6)
    struct.pack_into("<IIIIIIIII", header, 44, 1, 1, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0, 0)
    struct.pack_into("<109I", header, 76, 0, *([0xFFFFFFFF] * 108))
    table = struct.pack("<128I", 0xFFFFFFFD, 0xFFFFFFFE, *([0xFFFFFFFF] * 126))
    folder = b"".join(_ole_entry(name, kind) for name, kind in (("Root Entry", 5), ("EncryptedPackage", 2)))
    return bytes(header) + table + folder.ljust(512, b"\0")


def _ole_entry(name: str, kind: int) -> bytes:
    text = (name + "\0").encode("utf-16-le")
    nothing = 0xFFFFFFFF
    head = text.ljust(64, b"\0") + struct.pack(
        "<HBBIII", len(text), kind, 1, nothing, nothing, 1 if kind == 5 else nothing
    )
    return head + bytes(36) + struct.pack("<IQ", 0xFFFFFFFE, 0)


def zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("xl/worksheets/sheet1.xml", b"\0" * 700_000_000)
    return buffer.getvalue()


XLSX = {
    "name": "book.xlsx",
    "extension": ".xlsx",
    "type": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
WRONG_CRC = base64.b64encode((zlib.crc32(CSV) ^ 1).to_bytes(4, "big")).decode()

BAD: dict[str, Bad] = {
    "manifest that is not JSON": Bad(FailureCode.MANIFEST_NOT_JSON, "cannot be read", body=b"{'single': quotes}"),
    "manifest too large": Bad(FailureCode.MANIFEST_TOO_LARGE, "bytes", body=b" " * (MAX_MANIFEST_BYTES + 1)),
    "unknown version": Bad(FailureCode.MANIFEST_VERSION, "reads version 1", manifest={"version": 2}),
    "no query": Bad(FailureCode.MANIFEST_INVALID, "query", manifest={"query": " "}),
    "key and body disagree": Bad(FailureCode.MANIFEST_MISMATCH, "key says", manifest={"job_id": "another-job"}),
    "file of another session": Bad(
        FailureCode.FOREIGN_FILE, "own space", entry={"s3Key": "sessions/somebody-else/jobs/their-job/files/0"}
    ),
    "file of another bucket": Bad(
        FailureCode.FOREIGN_FILE, "another bucket", entry={"s3Url": "s3://other-bucket/{key}"}
    ),
    "url of another object": Bad(
        FailureCode.S3_URL_MISMATCH, "s3Url", entry={"s3Url": "s3://dropchute-tests/{key}-not"}
    ),
    "index rule broken": Bad(
        FailureCode.INDEX_RULE, "table.csv", manifest={"inline": [{"index": 0, "content": "eA=="}]}
    ),
    "online sheet": Bad(
        FailureCode.NOT_SUPPORTED, "drop that file", manifest={"spreadsheets": [{"url": "https://sheets.example/1"}]}
    ),
    "file missing": Bad(FailureCode.FILE_MISSING, "Upload it again", content=None, entry={"size": 8}),
    "size differs": Bad(FailureCode.FILE_CHANGED, "bytes", entry={"size": len(CSV) + 1}),
    "etag differs": Bad(FailureCode.FILE_CHANGED, "ETag", entry={"eTag": '"0123456789abcdef0123456789abcdef"'}),
    "crc differs": Bad(FailureCode.FILE_CHANGED, "CRC32", entry={"crc32": WRONG_CRC}),
    "empty file": Bad(FailureCode.FILE_EMPTY, "empty", content=b""),
    "file of blanks": Bad(FailureCode.FILE_EMPTY, "table.csv", content=b"\n \n\n"),
    "picture called csv": Bad(FailureCode.FILE_TYPE, "table.csv", content=PNG),
    "csv called xlsx": Bad(FailureCode.FILE_TYPE, "book.xlsx", entry=XLSX),
    "encrypted workbook": Bad(FailureCode.FILE_PROTECTED, "password", content=encrypted_workbook(), entry=XLSX),
    "damaged workbook": Bad(FailureCode.FILE_UNREADABLE, "book.xlsx", content=workbook()[:-200], entry=XLSX),
    "zip bomb": Bad(FailureCode.FILE_UNREADABLE, "book.xlsx", content=zip_bomb(), entry=XLSX),
    "model rejects": Bad(FailureCode.MODEL_REJECTED, "", query="ASK: reject"),
    "model refuses": Bad(FailureCode.MODEL_REFUSED, "other words", query="ASK: refuse"),
    "model writes no code": Bad(FailureCode.MODEL_NO_CODE, "other words", query="ASK: talk"),
    "code never ends": Bad(FailureCode.CODE_TIMEOUT, "less", query="ASK: forever"),
    "code eats memory": Bad(FailureCode.CODE_MEMORY, "memory", query="ASK: memory"),
    "code prints without end": Bad(FailureCode.CODE_OUTPUT, "output", query="ASK: print"),
    "code is wrong": Bad(FailureCode.CODE_FAILED, "narrowly", query="ASK: broken"),
    "code returns a dict": Bad(FailureCode.CODE_FAILED, "narrowly", query="ASK: dict"),
    "result is empty": Bad(FailureCode.RESULT_EMPTY, "matches", query="ASK: nothing"),
    "result too large for xlsx": Bad(
        FailureCode.RESULT_TOO_LARGE,
        "csv",
        query="ASK: wide",
        manifest={"destination": {"type": "download", "format": "xlsx"}},
    ),
}


@asynccontextmanager
async def worker(kit: Kit, model: ModelByRequest, **changes: Any) -> AsyncIterator[None]:
    settings = kit.settings.model_copy(
        update={
            "openai_base_url": model.base_url,
            "openai_api_key": SecretStr("key-that-must-not-leak"),
            "sandbox_wall_seconds": 8,
            "sandbox_memory_bytes": 1024**3,
            "visibility_seconds": 30,
        }
        | changes
    )
    stop = asyncio.Event()
    task = asyncio.create_task(run_worker(settings, kit.stack, stop))
    try:
        yield
    finally:
        stop.set()
        await task


@pytest.mark.timeout(400)
async def test_every_wrong_drop_ends_with_its_code_and_no_other_job_waits_for_it(kit: Kit):
    jobs = {name: new_job() for name in BAD}
    good = [new_job() for _ in range(4)]
    with ModelByRequest(MODEL_STEPS, code(GOOD_CODE)) as model:
        async with worker(kit, model):
            for number, (name, bad) in enumerate(BAD.items()):
                if number % 10 == 0:
                    await Bad(FailureCode.INTERNAL, "").drop(kit, good[number // 10])
                await bad.drop(kit, jobs[name])

            async def all_ended() -> bool:
                statuses = [await kit.status(job) for job in [*jobs.values(), *good]]
                return all(status is not None and status.published for status in statuses)

            await until(all_ended, seconds=300)

    events = [parse_event(message.body) for message in await kit.drain("results")]
    ends = {event.data.ref: event for event in events if isinstance(event, FailedEvent | CompletedEvent)}
    wrong = {}
    for name, job in jobs.items():
        end, expected = ends[job].data, BAD[name]
        if not (
            isinstance(end, type(end)) and getattr(end, "code", None) == expected.code and expected.says in end.message
        ):
            wrong[name] = end
    assert wrong == {}
    assert all(isinstance(ends[job], CompletedEvent) for job in good)
    letters = [json.loads(letter.body) for letter in await kit.drain("dead_letters")]
    assert sorted(letter["job_id"] for letter in letters) == sorted(
        job.job_id for name, job in jobs.items() if BAD[name].code in OPERATOR_CODES
    )
    assert "key-that-must-not-leak" not in json.dumps(letters) + "".join(event.model_dump_json() for event in events)
    for job in jobs.values():
        assert await kit.keys(job.files_prefix) == []
        assert await kit.keys(job.results_prefix) == []
    assert await kit.in_queue("queries") == (0, 0)


async def test_a_model_that_cannot_be_reached_is_asked_again_and_then_told(kit: Kit):
    job = new_job()
    with ModelByRequest({}, HttpError(503, headers={"retry-after": "0"})) as model:
        async with worker(kit, model, llm_attempts=1, job_attempts=2):
            await Bad(FailureCode.MODEL_UNREACHABLE, "").drop(kit, job)

            async def ended() -> bool:
                status = await kit.status(job)
                return status is not None and status.published

            await until(ended, seconds=60)

    status = await kit.status(job)
    assert status is not None
    assert status.attempts == 2
    assert status.outcome is not None
    assert status.outcome.data.model_dump()["code"] == FailureCode.MODEL_UNREACHABLE
    assert len(await kit.drain("dead_letters")) == 1


async def test_a_cancel_and_a_close_written_to_s3_stop_what_runs(kit: Kit):
    running, session_job = new_job(), new_job()
    with ModelByRequest({"ASK: long": code("import time; time.sleep(60); result = 1")}, code(GOOD_CODE)) as model:
        async with worker(kit, model, sandbox_wall_seconds=60, claim_seconds=4):
            for job in (running, session_job):
                await Bad(FailureCode.CANCELLED, "", query="ASK: long").drop(kit, job)

            async def both_run() -> bool:
                statuses = [await kit.status(job) for job in (running, session_job)]
                return all(status is not None and status.stage == "analyse" for status in statuses)

            await until(both_run, seconds=60)
            await kit.store.put(running.cancel_key, b"{}", media_type="application/json")
            close = f"sessions/{session_job.session_id}/close.control.json"
            await kit.store.put(close, b"{}", media_type="application/json")

            async def all_gone() -> bool:
                left = await kit.keys(f"sessions/{session_job.session_id}/")
                return left == [] and await kit.in_queue("queries") == (0, 0)

            await until(all_gone, seconds=60)

    assert await kit.keys(running.prefix) == [running.manifest_key(Flow.QUERY), running.status_key]
    codes = [event.data.model_dump().get("code") for event in await kit.published(running)]
    assert codes[-1] == FailureCode.CANCELLED
