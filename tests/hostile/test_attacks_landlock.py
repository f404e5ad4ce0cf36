"""Every class of attack against tier ``landlock``, as whoever runs the tests."""

import pytest
from campaign import Column
from siege import ALL, attacks_on, besiege


@pytest.mark.parametrize(("column", "attack"), attacks_on(Column("landlock"), quick=ALL))
def test_an_attack_achieves_what_the_table_says(column, attack, campaigns, attack_table):
    outcome, reason = besiege(campaigns, column, attack, attack_table)

    assert outcome.broken == []
    assert bool(outcome.got) is bool(reason), (outcome, reason)
