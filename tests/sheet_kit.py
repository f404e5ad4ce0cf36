"""What tests of sheets need: a spreadsheet in the emulator, jobs that append to it, and what is there afterwards."""

import asyncio
import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from memory_store import MemoryStore
from sheets_in_process import ACCOUNT, SpreadsheetsInProcess

from consumers.delivery.google_sheet import GoogleSheets
from consumers.delivery.sheet.rows import MAX_REQUEST_BYTES
from consumers.drop import Answer, Drop
from consumers.ports import Limits, SandboxReport
from events.keys import JobRef
from events.manifest import Manifest
from infra.embedded.sheets.service import SheetsService

numbers = itertools.count(1)


@dataclass
class PlayedGuest:
    """Plays the sandbox: writes the rows that a test names as ``export_rows`` would."""

    columns: list
    rows: list
    notes: tuple = ()
    tier = "played"
    walls = ()

    async def run(self, task):
        (task.output / "rows.ndjson").write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        columns = [{"name": name, "kind": kind} for name, kind in self.columns]
        value = {"file": "rows.ndjson", "rows": len(self.rows), "columns": columns, "notes": list(self.notes)}
        return SandboxReport(value, "", 0)


@dataclass
class Told:
    """Plays the ledger's part of a job's report."""

    stages: list = field(default_factory=list)
    spreadsheet_id: str | None = None

    async def __call__(self, stage, detail):
        self.stages.append((stage, detail))

    async def appending_to(self, spreadsheet_id):
        self.spreadsheet_id = spreadsheet_id


class Clock:
    """Virtual time: it passes where somebody waits."""

    def __init__(self):
        self.time = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def now(self):
        return self.time

    async def pause(self, seconds):
        self.time += timedelta(seconds=seconds)
        await asyncio.sleep(0)


class SheetKit:
    """One spreadsheet, shared with the workers' account, and jobs on it."""

    def __init__(self, folder: Path, *tabs: str, spreadsheets=None, service=None, **size):
        self.service = service or SheetsService(requests_per_minute=None)
        self.book = self.service.create("Book", tabs=tabs or ("Sheet1",), **size)
        self.service.share(self.book.id, ACCOUNT, "writer")
        self.store = MemoryStore()
        self.spreadsheets = spreadsheets or SpreadsheetsInProcess(self.service)
        self.folder = folder
        self.clock = Clock()
        self.request_bytes = MAX_REQUEST_BYTES

    @property
    def url(self):
        return f"https://docs.google.com/spreadsheets/d/{self.book.id}/edit"

    def tab(self, title="Sheet1"):
        return self.book.tab(title)

    def drop(self, job=None, *, epoch=1, **destination):
        job = job or JobRef("session-0001", f"job-{next(numbers):08}")
        manifest = Manifest.model_validate(
            {
                "version": 1,
                "session_id": job.session_id,
                "job_id": job.job_id,
                "created_at": datetime.now(UTC),
                "query": "q",
                "spreadsheets": [{"url": self.url}],
                "destination": {"type": "google_sheet", "url": self.url, **destination},
            }
        )
        return Drop(job, epoch, manifest)

    def sheets(self, columns=(), rows=(), notes=()):
        guest = PlayedGuest(list(columns), [list(row) for row in rows], notes)
        return GoogleSheets(
            self.spreadsheets,
            guest,
            self.store,
            limits=Limits(),
            request_bytes=self.request_bytes,
            pause=self.clock.pause,
            now=self.clock.now,
        )

    async def deliver(self, drop, columns, rows, *, report=None, answer=None):
        """One try of one job: check, then append."""
        sheets = self.sheets(columns, rows)
        opened = await sheets.open(drop, drop.manifest.destination)
        if isinstance(opened, Answer):
            return opened
        scratch = self.folder / f"try-{next(numbers)}"
        scratch.mkdir()
        given = answer or Answer((), text="t")
        return await sheets.append(opened, scratch / "unused.parquet", given, report=report or Told(), scratch=scratch)

    async def undo(self, drop):
        return await self.sheets().undo(drop.job, drop.epoch, self.book.id)
