"""The table of attacks: each class, and what it achieved against each kind of sandbox.

Printed once, when all tests have run, also where they ran in several processes.
"""

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

_CELLS = pytest.StashKey[list[list[Any]]]()
_HANDED_OVER = "attack_cells"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_CELLS] = []


@pytest.fixture(scope="session")
def attack_table(pytestconfig: pytest.Config) -> Callable[..., None]:
    """Adds one cell: ``attack_table(number, name, column, text)``."""

    def add(number: int, name: str, column: str, text: str) -> None:
        pytestconfig.stash[_CELLS].append([number, name, column, text])

    return add


def pytest_sessionfinish(session: pytest.Session) -> None:
    # There in the processes of pytest-xdist only.
    workeroutput = getattr(session.config, "workeroutput", None)
    if workeroutput is not None:
        workeroutput[_HANDED_OVER] = session.config.stash[_CELLS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # A process that crashed hands nothing over.
    node.config.stash[_CELLS] += getattr(node, "workeroutput", {}).get(_HANDED_OVER, [])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.getoption("long") and (cells := config.stash[_CELLS]):
        terminalreporter.section("attacks")
        Console(file=terminalreporter._tw._file, width=200).print(_table(cells))


def _table(cells: list[list[Any]]) -> Table:
    columns = list(dict.fromkeys(column for _, _, column, _ in cells))
    table = Table("", "attack", *columns, box=None)
    texts = {(number, column): text for number, _, column, text in cells}
    for number, name in sorted({(number, name) for number, name, _, _ in cells}):
        table.add_row(str(number), name, *(texts.get((number, column), "") for column in columns))
    return table
