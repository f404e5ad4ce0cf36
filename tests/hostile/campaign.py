"""A campaign: one attacked worker, asked for one attack after the other, and started again if one kills it."""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import shelter
from runsc import runsc

SECONDS_FOR_AN_ATTACK = 150
_ROOT = Path(__file__).parents[2]
_WORKER = Path(__file__).with_name("attacked_worker.py")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attack: ``got`` through, ``tried`` in vain, ``broken`` if it was no attack at all."""

    got: list[str]
    tried: list[str]
    broken: list[str]
    ended: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Column:
    """Which worker: its tier, and whether it runs in a shelter, as an ordinary user."""

    tier: str
    sheltered: bool = False

    @property
    def name(self) -> str:
        # Without walls, it is nowhere but in a shelter.
        return f"{self.tier}, no root" if self.sheltered and self.tier != "process" else self.tier


class Campaign:
    """The attacked worker of one column. ``lacks`` says why there is none on this machine."""

    def __init__(self, column: Column, folder: Path) -> None:
        self._column = column
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._starts = 0
        self.lacks = ""

    def attack(self, number: int) -> Outcome:
        if self._process is None:
            self._start()
        if self.lacks:
            return Outcome([], [], [], "", 0)
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        told = self._listen(SECONDS_FOR_AN_ATTACK)
        if told is None:
            self.close()
            return Outcome(["the worker did not survive it"], [], [], "died", 0)
        return Outcome(**told)

    def _start(self) -> None:
        self._starts += 1
        home = self._folder / f"home-{self._starts}"
        inside = Path("/tmp/home") if self._column.sheltered else home
        environment = {
            "PATH": f"{runsc().parent}:{os.environ['PATH']}" if self._column.tier == "gvisor" else os.environ["PATH"],
            "HOME": str(inside),
            "AWS_SECRET_ACCESS_KEY": f"canary-{os.urandom(8).hex()}",
            "PYTHONPATH": ":".join(map(str, (_ROOT, _ROOT / "tests", _WORKER.parent))),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        arguments = [sys.executable, str(_WORKER), self._column.tier]
        if self._column.sheltered:
            arguments = shelter.command(arguments, environment)
        else:
            home.mkdir()
        with (self._folder / f"log-{self._starts}").open("wb") as log:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                cwd=_ROOT,
            )
        told = self._listen(60)
        if told is None:
            raise AssertionError(f"the worker did not start: {self.log()[-3000:]}")
        self.lacks = told.get("lacks", "")

    def log(self) -> str:
        return (self._folder / f"log-{self._starts}").read_text(errors="replace")

    def _listen(self, seconds: float) -> dict | None:
        assert self._process is not None
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with process:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def campaign(column: Column) -> Iterator[Campaign]:
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        begun = Campaign(column, Path(folder))
        try:
            yield begun
        finally:
            begun.close()
