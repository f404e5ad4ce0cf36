"""Attacks against a kernel in user space, against no walls at all, and all of it without root, in a shelter."""

import os

import pytest
from campaign import Column
from siege import attacks_on, besiege

COLUMNS = [Column("gvisor"), Column("process", sheltered=True)]
if os.getuid() == 0:
    COLUMNS += [Column("namespaces", sheltered=True), Column("landlock", sheltered=True)]


@pytest.mark.parametrize(("column", "attack"), attacks_on(*COLUMNS, all_quick=False))
def test_an_attack_achieves_what_the_table_says(column, attack, campaigns, attack_table):
    outcome, reason = besiege(campaigns, column, attack, attack_table)

    assert outcome.broken == []
    assert bool(outcome.got) is bool(reason), (outcome, reason)
