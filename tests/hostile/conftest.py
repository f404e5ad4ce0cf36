"""The campaigns of the siege, each begun when it is first asked for."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from campaign import Campaign, Column, campaign


@pytest.fixture(scope="module")
def campaigns() -> Iterator[Callable[[Column], Campaign]]:
    begun: dict[Column, Campaign] = {}
    with ExitStack() as exits:

        def on(column: Column) -> Campaign:
            if column not in begun:
                begun[column] = exits.enter_context(campaign(column))
            return begun[column]

        yield on
