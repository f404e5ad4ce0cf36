"""The table of faults: what was done to the workers, and what was lost, doubled, stuck or left behind by it.

Printed once, when all tests have run, also where they ran in several processes.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

_ROWS = pytest.StashKey[list["_Row"]]()
_HANDED_OVER = "fault_rows"


@dataclass(frozen=True)
class _Row:
    fault: str
    runs: int
    drops: int
    lost: int
    doubled: int
    stuck: int
    left_behind: int
    seconds: float


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


@pytest.fixture(scope="session")
def fault_table(pytestconfig: pytest.Config) -> Callable[..., None]:
    """Adds one row: ``fault_table(fault, runs=, drops=, lost=, doubled=, stuck=, left_behind=, seconds=)``."""

    def add(fault: str, **counted: Any) -> None:
        pytestconfig.stash[_ROWS].append(_Row(fault, **counted))

    return add


def pytest_sessionfinish(session: pytest.Session) -> None:
    # There in the processes of pytest-xdist only.
    workeroutput = getattr(session.config, "workeroutput", None)
    if workeroutput is not None:
        workeroutput[_HANDED_OVER] = [astuple(row) for row in session.config.stash[_ROWS]]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # A process that crashed hands nothing over.
    handed_over = getattr(node, "workeroutput", {}).get(_HANDED_OVER, [])
    node.config.stash[_ROWS] += [_Row(*row) for row in handed_over]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if rows := config.stash[_ROWS]:
        terminalreporter.section("faults")
        Console(file=terminalreporter._tw._file, width=120).print(_table(rows))


def _table(rows: list[_Row]) -> Table:
    table = Table("fault", box=None)
    for name in ("runs", "drops", "lost", "doubled", "stuck", "left behind", "seconds"):
        table.add_column(name, justify="right")
    for row in rows:
        fault, *counts, seconds = astuple(row)
        table.add_row(fault, *(f"{count:,}" for count in counts), f"{seconds:.0f}")
    return table
