"""The siege: which attacks run against which column, and how the outcome is compared with what is expected."""

from collections.abc import Callable, Sequence

import pytest
from all_attacks import ATTACKS
from attack import Attack
from campaign import Campaign, Column, Outcome
from expected import not_stopped

ALL = frozenset(attack.number for attack in ATTACKS)
QUICK = frozenset(attack.number for attack in ATTACKS if attack.quick)


def attacks_on(*columns: Column, quick: frozenset[int] = QUICK) -> list[object]:
    """Parameters (column, attack); what is not quick runs with ``--long`` only."""
    return [
        pytest.param(
            column,
            attack,
            id=f"{column.name}-{attack.number}",
            marks=() if attack.number in quick else (pytest.mark.long,),
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
    if begun.lacks:
        table(attack.number, attack.name, column.name, "not on this machine")
        # The other tiers are what this machine must have to be worked on.
        assert column.tier == "gvisor", begun.lacks
        pytest.skip(begun.lacks)
    reason = not_stopped(column.tier, attack.number)
    table(attack.number, attack.name, column.name, _told(outcome.got, reason))
    return outcome, reason


def _told(got: Sequence[str], reason: str) -> str:
    return f"not stopped: {reason or got[0][:60]}" if got else "stopped"
