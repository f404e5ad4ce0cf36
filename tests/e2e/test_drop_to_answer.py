"""The whole path, over real notifications: a drop becomes an answer, in every format, and a chart."""

import asyncio
import base64
import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import openpyxl
import pyarrow.parquet as pq
import pytest
from kit import Kit, manifest_of, new_job, until
from pydantic import SecretStr
from scripted_model import Reply, ScriptedModel

from events.keys import JobRef
from events.manifest import DownloadDestination
from events.results import AcceptedEvent, Completed, CompletedEvent, FailedEvent, ProgressEvent, Stage, parse_event
from infra.drop_client import DropClient, Request
from infra.embedded.demo import CHART, QUESTION, charted_files
from infra.embedded.demo_data import write_demo_files
from infra.embedded.replayed_model import RECORDINGS, ReplayedModel
from infra.wiring import run_worker

MESSY = "report of 31.01.2025\nid;city;amount\n007;Århus;1.234,50\n008;=1+1;2,00\n009;Bilbao;\n".encode()


@asynccontextmanager
async def worker(kit: Kit, base_url: str) -> AsyncIterator[None]:
    model = {"openai_base_url": base_url, "openai_api_key": SecretStr("none")}
    stop = asyncio.Event()
    task = asyncio.create_task(run_worker(kit.settings.model_copy(update=model), kit.stack, stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def ended(kit: Kit, job: JobRef) -> Completed:
    """The completed event's data, once the job has ended well."""

    async def published() -> bool:
        status = await kit.status(job)
        return status is not None and status.published

    await until(published, seconds=60)
    end = (await kit.published(job))[-1]
    assert isinstance(end, CompletedEvent), end
    return end.data


async def test_two_files_and_a_question_become_a_workbook_and_that_becomes_a_chart(kit: Kit, tmp_path: Path):
    files = write_demo_files(tmp_path)
    client = DropClient(kit.store)
    with ReplayedModel(RECORDINGS / "demo") as model:
        async with worker(kit, model.base_url):
            job = await client.drop(files, QUESTION)
            answered = await ended(kit, job)
            status = await kit.status(job)
            saved = await client.save(answered, tmp_path / "answer")
            folder = tmp_path / "again"
            folder.mkdir()
            charted = await ended(kit, await client.drop(charted_files(saved, folder), CHART))
            chart = await client.save(charted, tmp_path / "chart")

    rows = list(openpyxl.load_workbook(saved[0]).active.iter_rows(values_only=True))
    assert len(rows) == 17
    assert {row[0] for row in rows[1:]} == {"North", "South", "East", "West"}
    assert answered.files[0].rows == 16
    assert set(answered.seconds) == set(Stage)
    assert status is not None
    assert status.sandbox[0] == "namespaces"
    assert "system call filter" in status.sandbox
    assert [path.name for path in chart] == ["chart.png", "chart.svg", "chart.vl.json"]
    assert chart[0].read_bytes().startswith(b"\x89PNG")
    assert chart[1].read_text().startswith("<svg")
    assert json.loads(chart[2].read_text())["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
    assert await kit.keys(job.files_prefix) == []


@pytest.mark.parametrize("file_format", ["xlsx", "csv", "parquet", "json", "jsonl"])
async def test_a_table_is_delivered_in_the_format_that_was_asked_for(file_format: str, kit: Kit, tmp_path: Path):
    path = tmp_path / "messy.csv"
    path.write_bytes(MESSY)
    client = DropClient(kit.store)
    with ScriptedModel(Reply("```python\nresult = df\nanswer = f'{len(df)} rows'\n```")) as model:
        async with worker(kit, model.base_url):
            request = Request("Clean it.", destination=DownloadDestination(format=file_format))
            completed = await ended(kit, await client.drop([path], request, inline_bytes=1_000))
    (saved,) = await client.save(completed, tmp_path / "out")

    assert completed.answer == "3 rows"
    assert any("leading zeros" in note for note in completed.notes)
    formula = "'=1+1" if file_format == "csv" else "=1+1"
    assert list(_rows(saved)) == [("007", "Århus", 1234.5), ("008", formula, 2.0), ("009", "Bilbao", None)]


def _rows(path: Path) -> list[tuple[object, ...]]:
    """What other programs' readers find in the file, the header left out."""
    match path.suffix:
        case ".xlsx":
            sheet = openpyxl.load_workbook(path).active
            assert {cell.data_type for row in sheet.iter_rows(min_row=2) for cell in row} <= {"s", "n"}
            return list(sheet.iter_rows(min_row=2, values_only=True))
        case ".csv":
            rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))[1:]
            return [(row[0], row[1], float(row[2]) if row[2] else None) for row in rows]
        case ".parquet":
            return [tuple(row.values()) for row in pq.read_table(path).to_pylist()]
        case ".jsonl":
            return [tuple(json.loads(line).values()) for line in path.read_text().splitlines()]
        case _:
            return [tuple(row.values()) for row in json.loads(path.read_bytes())]


async def test_the_front_end_hears_of_every_step_in_order(kit: Kit):
    job = new_job()
    inline = [{"index": 0, "content": base64.b64encode(MESSY).decode()}]
    entry = {"name": "messy.csv", "type": "text/csv", "extension": ".csv", "size": len(MESSY), "index": 0}
    manifest = manifest_of(job, files=[entry], inline=inline, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    with ScriptedModel(Reply("no code"), Reply("```python\nresult = df\n```")) as model:
        async with worker(kit, model.base_url):
            await kit.write_manifest(job, json.dumps(manifest).encode())

            async def published() -> bool:
                status = await kit.status(job)
                return status is not None and status.published

            await until(published, seconds=60)

    events = [parse_event(message.body) for message in await kit.drain("results")]
    steps = [event.data.stage for event in events if isinstance(event, ProgressEvent)]
    assert isinstance(events[0], AcceptedEvent)
    assert steps == [Stage.PREPARE, Stage.ANALYSE, Stage.ANALYSE, Stage.DELIVER]
    assert isinstance(events[-1], CompletedEvent)
    assert {event.traceparent for event in events} == {manifest["traceparent"]}
    run = json.loads((await kit.store.get(job.result_key(1, "run.json"), max_bytes=100_000)).body)
    assert run["attempts"][0]["reply"] == "no code"


async def test_drops_at_once_are_all_answered_and_none_twice(kit: Kit):
    jobs = [new_job() for _ in range(12)]
    with ScriptedModel(Reply("```python\nresult = df\n```")) as model:
        async with worker(kit, model.base_url):
            for number, job in enumerate(jobs):
                await kit.drop(job, query=f"Question {number}")

            async def all_published() -> bool:
                statuses = [await kit.status(job) for job in jobs]
                return all(status is not None and status.published for status in statuses)

            await until(all_published, seconds=90)

    events = [parse_event(message.body) for message in await kit.drain("results")]
    ends = [event.data.job_id for event in events if isinstance(event, CompletedEvent | FailedEvent)]
    assert sorted(ends) == sorted(job.job_id for job in jobs)
    assert len(model.requests) == len(jobs)
    assert await kit.in_queue("queries") == (0, 0)
