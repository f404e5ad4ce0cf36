"""The siege: which attacks run against which column, and how the outcome is compared with what is expected."""

from collections.abc import Callable, Sequence

import pytest
from all_attacks import ATTACKS
from attack import Attack
from campaign import Campaign, Column, Outcome
from expected import not_stopped


def attacks_on(*columns: Column, all_quick: bool) -> list[object]:
    """Parameters (column, attack); what is not quick runs with ``--long`` only."""
    return [
        pytest.param(
            column,
            attack,
            id=f"{column.name}-{attack.number}",
            marks=() if all_quick or attack.quick else (pytest.mark.long,),
        )
        for column in columns
        for attack in ATTACKS
    ]


def besiege(
    campaigns: Callable[[Column], Campaign], column: Column, attack: Attack, table: Callable[..., None]
) -> tuple[Outcome, str]:
    """Run one attack; returns what came of it, and why it was not expected to be stopped, if so."""
    begun = campaigns(column)
    outcome = begun.attack(attack.number)
    reason = not_stopped(column.tier, attack.number)
    table(attack.number, attack.name, column.name, _told(begun.lacks, outcome.got, reason))
    return outcome, "" if begun.lacks else reason


def _told(lacks: str, got: Sequence[str], reason: str) -> str:
    if lacks:
        return "not on this machine"
    return f"not stopped: {reason or got[0][:60]}" if got else "stopped"
