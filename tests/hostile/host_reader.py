"""What the host does with what came out: the ways of a result through the worker, and what must not happen there."""

import csv
import re
import struct
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import openpyxl
from attack import Trial
from memory_store import MemoryStore
from pydantic import ValidationError

from consumers.analyst import _GuestReport
from consumers.delivery.download import Downloads
from consumers.delivery.sheet.requests import write_rows
from consumers.delivery.sheet.rows import RowsReport, read_chunks
from consumers.drop import Drop
from consumers.errors import Permanent
from consumers.ports import JsonObject, Limits, SandboxError, SandboxTask
from consumers.result_tables import ResultTable
from consumers.sandbox.outputs import UnsafeOutput, open_output, output_path
from consumers.sandbox.text import without_control_characters
from events.keys import JobRef
from events.manifest import DownloadDestination, Manifest

MAX_BYTES = 20_000_000
# An exporter of half a gigabyte of text has to see that it is too much within these.
EXPORTING = Limits(wall_seconds=20, cpu_seconds=10, memory_bytes=1024**3, address_bytes=8 * 1024**3)
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n")
_MAX_PIXELS = 50_000_000
_jobs = count(1)


async def exported(trial: Trial, *formats: str, may_succeed: bool = True) -> list[str]:
    """Hand the result on as a download: refused in our own words, or a file of modest size."""
    through = []
    for name in formats:
        bodies = await delivered(trial, name)
        if bodies and not may_succeed:
            through.append(f"{name}: {sum(map(len, bodies.values())):,} bytes were written")
        if sum(map(len, bodies.values())) > MAX_BYTES:
            through.append(f"{name}: more than allowed")
        through += [f"{name}: a secret" for body in bodies.values() for each in trial.known["canaries"] if each in body]
    return through


async def delivered(trial: Trial, file_format: str) -> dict[str, bytes]:
    """What a download would be, by name; nothing where it was refused as an honest worker refuses."""
    told = told_by_guest(trial)
    if told is None or not told.tables:
        return {}
    try:
        tables = [
            ResultTable(table.name, output_path(trial.output, table.file), table.rows, table.columns)
            for table in told.tables
        ]
    except UnsafeOutput:
        return {}
    store, downloads = _downloads(trial)
    destination = DownloadDestination.model_validate({"type": "download", "format": file_format})
    try:
        await downloads.table(_drop(), tables, destination=destination, scratch=_folder(trial))
    except Permanent:
        return {}
    return {key: body for key, (body, _) in store.objects.items()}


async def drawn(trial: Trial, spec: Path) -> dict[str, bytes]:
    """The files of a chart, by the end of their names; nothing where it was refused."""
    store, downloads = _downloads(trial)
    try:
        await downloads.chart(_drop(), spec, scratch=_folder(trial))
    except Permanent:
        return {}
    return {key.rpartition("/")[2]: body for key, (body, _) in store.objects.items()}


async def no_rows_are_formulas(trial: Trial) -> list[str]:
    """Workbook, CSV and the rows for a sheet, of a result full of formulas."""
    through = []
    book = _folder(trial) / "result.xlsx"
    for body in (await delivered(trial, "xlsx")).values():
        book.write_bytes(body)
    cells = [cell for row in openpyxl.load_workbook(book).active.iter_rows() for cell in row]
    through += [f"a formula in {cell.coordinate}: {cell.value}" for cell in cells if cell.data_type == "f"]
    through += [f"a link in {cell.coordinate}" for cell in cells if cell.hyperlink]
    for body in (await delivered(trial, "csv")).values():
        for row in csv.reader(body.decode("utf-8-sig").splitlines()):
            through += [f"csv: {cell}" for cell in row if cell.startswith(_FORMULA_SIGNS)]
    return through + [f"a formula for the sheet: {value}" for value in await _entered(trial) if "formulaValue" in value]


async def _entered(trial: Trial) -> list[JsonObject]:
    """What would be entered into a sheet, cell by cell, as Google Sheets reads it."""
    folder = _folder(trial)
    inputs = {"result.parquet": output_path(trial.output, "result.parquet")}
    task = SandboxTask("consumers.delivery.guest.rows:export_rows", {}, inputs, folder, EXPORTING)
    report = RowsReport.model_validate((await trial.sandbox.run(task)).value)
    entered = []
    async for chunk in read_chunks(folder, report, max_bytes=1_000_000):
        request = write_rows(0, 1, chunk.rows, range(len(report.columns)))
        rows = request["updateCells"]["rows"]
        entered += [cell["userEnteredValue"] for row in rows for cell in row["values"] if cell]
    return entered


def told_by_guest(trial: Trial) -> _GuestReport | None:
    """The reply as the analyst reads it; None where it would not be believed."""
    if trial.report is None:
        return None
    try:
        return _GuestReport.model_validate(trial.report.value)
    except ValidationError:
        return None


async def nothing_planted_is_read(trial: Trial) -> list[str]:
    """Whatever lies in the output is a regular file of its own, or cannot be opened."""
    through = []
    for entry in sorted(trial.output.iterdir()):
        try:
            with open_output(trial.output, entry.name) as file:
                body = file.read(1_000_000)
        except UnsafeOutput:
            continue
        through += [f"a secret in {entry.name!r}" for each in trial.known["canaries"] if each in body]
    told = told_by_guest(trial)
    for table in told.tables if told else ():
        try:
            path = output_path(trial.output, table.file)
        except UnsafeOutput:
            continue
        if path.resolve().parent != trial.output.resolve():
            through.append(f"{path} is not beneath the output")
    return through + await exported(trial, "csv")


async def nothing_ran_out_here(trial: Trial) -> list[str]:
    """No code of the guest's was run by whoever read its result."""
    through = await exported(trial, "xlsx", "csv", "parquet")
    marks = [Path(trial.known["mark"]), trial.scratch / "mark"]
    return through + [f"code ran out here: {mark}" for mark in marks if mark.exists()]


async def charts_are_modest(trial: Trial) -> list[str]:
    """Every specification that was left is drawn: no script, no address, no picture without measure."""
    through = []
    for spec in sorted(trial.output.glob("*.vl.json")):
        for name, body in (await drawn(trial, spec)).items():
            through += [f"{spec.name}: a secret in {name}" for each in trial.known["canaries"] if each in body]
            if name.endswith(".svg"):
                found = re.findall(
                    rb"<script|<image|<foreignObject|<!ENTITY|href=\"(?!#)|javascript:", body, re.IGNORECASE
                )
                through += [f"{spec.name}: {part!r} in the SVG" for part in found]
            if name.endswith(".png"):
                width, height = struct.unpack(">II", body[16:24])
                if width * height > _MAX_PIXELS:
                    through.append(f"{spec.name}: {width} by {height} pixels")
    return through


async def only_data_came(trial: Trial) -> list[str]:
    """Whatever was replied is an object that the analyst reads, or refuses."""
    told_by_guest(trial)
    if trial.report is not None and not isinstance(trial.report.value, dict):
        return ["a reply that is no object"]
    return []


async def text_is_safe(trial: Trial) -> list[str]:
    """Nothing that is logged or shown moves a cursor, changes a colour or turns the writing around."""
    texts = [trial.report.printed if trial.report else "", str(trial.error or "")]
    if trial.error is not None:
        texts += [trial.error.printed, getattr(trial.error, "traceback", "")]
    told = told_by_guest(trial)
    if told is not None:
        texts += [told.answer or "", *told.notes, *told.preview.columns]
    return [f"control characters: {text!r}"[:100] for text in texts if text != without_control_characters(text)]


async def values_stay_inside(trial: Trial) -> list[str]:
    """The error says what is wrong, and quotes no cell."""
    quoted = str(trial.error or "") + getattr(trial.error, "traceback", "")
    return [f"quoted: {quoted[:200]!r}"] if "IGNORE ALL PREVIOUS" in quoted else []


async def a_later_job_finds_nothing(trial: Trial) -> list[str]:
    """What was left in caches and folders does not reach the job after it."""
    task = SandboxTask(
        "consumers.sandbox.guest.run_code:run_query",
        {"code": _LATER, "tables": []},
        {},
        _folder(trial),
    )
    try:
        report = await trial.sandbox.run(task)
    except SandboxError as error:
        return [f"the job after it failed: {error}"]
    found = report.value["answer"]
    return [] if found == "nothing" else [f"found by the job after it: {found}"]


async def a_made_up_answer_is_dropped(trial: Trial) -> list[str]:
    told = told_by_guest(trial)
    return [f"a result that was never computed: {told.rows} row"] if told else []


# Looks where the attack on caches wrote.
_LATER = """
import os, sys
found = []
homes = {"/tmp", os.environ.get("HOME", "/tmp"), os.environ.get("MPLCONFIGDIR", "/tmp")}
for home in [*homes, *(p for p in sys.path if "site-packages" in p)]:
    for name in ("poison", ".cache/fontconfig/poison", ".config/matplotlib/poison", "__pycache__/poison.pyc"):
        if os.path.exists(os.path.join(home, name)): found.append(os.path.join(home, name))
result = 1
answer = " ".join(found) or "nothing"
"""


def _downloads(trial: Trial) -> tuple[MemoryStore, Downloads]:
    store = MemoryStore()
    return store, Downloads(store, trial.sandbox, limits=EXPORTING, max_bytes=MAX_BYTES)


def _folder(trial: Trial) -> Path:
    folder = trial.output.parent / f"host-{next(_jobs)}"
    folder.mkdir()
    return folder


def _drop() -> Drop:
    job = JobRef("session-0001", f"job-{next(_jobs):08}")
    manifest = Manifest.model_validate(
        {
            "version": 1,
            "session_id": job.session_id,
            "job_id": job.job_id,
            "created_at": datetime.now(UTC),
            "query": "q",
            "files": [{"name": "a.csv", "type": "text/csv", "extension": ".csv", "size": 1, "index": 0}],
            "inline": [{"index": 0, "content": "YQ=="}],
            "destination": {"type": "download", "format": "xlsx"},
        }
    )
    return Drop(job, 1, manifest)
