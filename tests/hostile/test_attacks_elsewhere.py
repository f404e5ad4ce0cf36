"""Attacks against a kernel in user space, against no walls at all, and all of it without root, in a shelter.

Of gVisor, which starts slowly, a few only without ``--long``.
"""

import os

import pytest
from campaign import Column
from siege import attacks_on, besiege

COLUMNS = [Column("process", sheltered=True)]
if os.getuid() == 0:
    COLUMNS += [Column("namespaces", sheltered=True), Column("landlock", sheltered=True)]


OF_GVISOR = frozenset({27, 31, 35, 56})
ATTACKS = [*attacks_on(*COLUMNS), *attacks_on(Column("gvisor"), quick=OF_GVISOR)]


@pytest.mark.parametrize(("column", "attack"), ATTACKS)
def test_an_attack_achieves_what_the_table_says(column, attack, campaigns, attack_table):
    outcome, reason = besiege(campaigns, column, attack, attack_table)

    assert outcome.broken == []
    assert bool(outcome.got) is bool(reason), (outcome, reason)
