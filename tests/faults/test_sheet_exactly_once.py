"""Rows appear exactly once, whatever goes wrong: randomised tries of one job, with faults at every call.

Each run is one job on one spreadsheet that others write to as well. Its tries meet lost replies, errors before and
after a change was made, quota errors, and crashes at any call to Google or to the store; older tries that were
thought dead come back in between. In the end one try is left alone. Then the rows must be there once, or, where
the job was ended instead, not at all; and an undo must give back the cells that were there before.
"""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field

import pytest
from memory_store import MemoryStore
from sheet_kit import SheetKit, Told
from sheets_in_process import SpreadsheetsInProcess

from consumers.delivery.sheet.rows import MAX_REQUEST_BYTES
from consumers.errors import JobError
from infra.embedded.sheets.calls import ApplyThen, LoseReply, Refuse

LONG = 10_000
SHORT = 400
COLUMNS = [("Name", "text"), ("Day", "date"), ("Amount", "number"), ("Paid", "bool")]


class Crash(BaseException):
    """The worker is gone, right here."""


@dataclass
class Faults:
    """What happens at the next calls: drawn by a run's own random numbers until it is quiet."""

    random: random.Random
    chance: float
    met: dict = field(default_factory=dict)

    def at_google(self, call):
        if self.random.random() >= self.chance:
            return None
        fault = self.random.choice([LoseReply(), Refuse(500), Refuse(503), ApplyThen(503), ApplyThen(500), Refuse(429)])
        self.count(f"{type(fault).__name__} {getattr(fault, 'status', '')}".strip())
        return fault

    def crashes(self, where):
        if self.random.random() < self.chance / 8:
            self.count(f"crash {where}")
            raise Crash(where)

    def count(self, name):
        self.met[name] = self.met.get(name, 0) + 1


class CrashingSpreadsheets(SpreadsheetsInProcess):
    """A worker may die before it sends, and after the reply has come; and the calls of several tries interleave."""

    faults = None

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name not in ("get", "search", "update"):
            return found

        async def call(*args, **options):
            await asyncio.sleep(0)
            self.faults.crashes(f"before {name}")
            reply = await found(*args, **options)
            await asyncio.sleep(0)
            self.faults.crashes(f"after {name}")
            return reply

        return call


class CrashingStore(MemoryStore):
    faults = None

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name not in ("put", "put_new", "put_over"):
            return found

        async def call(key, *args, **options):
            self.faults.crashes(f"before {name}")
            done = await found(key, *args, **options)
            self.faults.crashes(f"after {name}")
            return done

        return call


class Run:
    """One job from its first try to its end, drawn from a seed."""

    def __init__(self, seed, folder):
        random.seed(seed)  # for the pauses of the code itself
        self.random = random.Random(seed)
        self.faults = Faults(self.random, 0.0)
        spreadsheets = CrashingSpreadsheets(None)
        self.kit = SheetKit(folder, spreadsheets=spreadsheets, rows=self.random.choice([30, 1000]), columns=8)
        spreadsheets.service = self.kit.service
        spreadsheets.faults = self.faults
        self.kit.store = CrashingStore()
        self.kit.store.faults = self.faults
        # Some runs send their rows in many pieces.
        self.kit.request_bytes = self.random.choice([600, 600, MAX_REQUEST_BYTES])
        self.tab = self.kit.tab()
        if self.random.random() < 0.7:
            header = self.random.sample(["name", "DAY", "Amount ", "Notes", "Id"], self.random.randint(1, 4))
            data = [[f"old {row}" for _ in header] for row in range(self.random.randint(0, 12))]
            self.tab.write([header, *data])
        # Marks of its own, so that rows of this job are counted whatever row they are in.
        self.rows = [[f"row {index} of {seed}", 46_000 + index, index / 4, index % 2 == 0] for index in range(20)]
        self.rows = self.rows[: self.random.randint(1, 20)]
        mode = self.random.choice(["append", "append", "new_tab"])
        self.drop = lambda epoch: self.kit.drop(self.job, epoch=epoch, mode=mode)
        self.job = self.kit.drop().job

    async def go(self):
        before = self.cells()
        self.kit.service.fault = self.faults.at_google
        self.faults.chance = self.random.choice([0.1, 0.3, 0.5])
        tries = self.random.randint(1, 6)
        # A try that was thought dead may go on beside its successor: its worker only lost its claim.
        together = self.random.random() < 0.3
        pending = [self.attempt(epoch) for epoch in range(1, tries + 1)]
        if together:
            await asyncio.gather(*pending)
        else:
            for each in pending:
                await each
        if self.random.random() < 0.15:
            await self.with_faults(lambda: self.kit.sheets().withdraw(self.job, self.kit.book.id))
            self.faults.chance = 0.0
            await self.kit.sheets().withdraw(self.job, self.kit.book.id)
            await self.attempt(tries + 1)
            assert self.count() == [0] * len(self.rows)
        else:
            self.faults.chance, chance = 0.0, self.faults.chance
            answer = await self.kit.deliver(self.drop(tries + 1), COLUMNS, self.rows)
            assert self.count() == [1] * len(self.rows)
            assert answer.sheet.rows == len(self.rows)
            assert not [tab for tab in self.kit.book.tabs if tab.hidden]
            self.faults.chance = chance
            await self.with_faults(lambda: self.kit.undo(self.drop(tries + 1)))
            self.faults.chance = 0.0
            await self.kit.undo(self.drop(tries + 1))
        assert self.cells() == before
        assert self.kit.book.evaluated == []

    async def attempt(self, epoch):
        with contextlib.suppress(Crash, JobError):
            await self.kit.deliver(self.drop(epoch), COLUMNS, self.rows, report=Told())

    async def with_faults(self, taking_back):
        """Some tries to take back, each of which may end anywhere."""
        for _ in range(self.random.randint(0, 3)):
            with contextlib.suppress(Crash, JobError):
                await taking_back()

    def cells(self):
        return {tab.title: tab.cells() for tab in self.kit.book.tabs}

    def count(self):
        """How often each row of the job is in the spreadsheet."""
        cells = [cell for tab in self.kit.book.tabs for row in tab.values() for cell in row]
        return [cells.count(row[0]) for row in self.rows]


@pytest.mark.timeout(1200)
async def test_rows_appear_exactly_once_whatever_goes_wrong(tmp_path, request):
    runs = LONG if request.config.getoption("--long") else SHORT
    met = {}
    for seed in range(runs):
        run = Run(seed, tmp_path)
        try:
            await run.go()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        for name, count in run.faults.met.items():
            met[name] = met.get(name, 0) + count
    for name, count in sorted(met.items()):
        print(f"{count:>8,}  {name}")

    # Every kind of fault was really met.
    assert {
        "LoseReply",
        "Refuse 500",
        "ApplyThen 503",
        "Refuse 429",
        "crash before update",
        "crash after update",
    } <= met.keys()
