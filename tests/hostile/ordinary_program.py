"""One program of ordinary analysis: what a model would write, and the right result, worked out another way."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Order(NamedTuple):
    number: int
    region: str
    product: str
    units: int
    price: float
    day: dt.date


ORDERS = [
    Order(1, "North", "Tea", 3, 2.50, dt.date(2025, 1, 3)),
    Order(2, "South", "Coffee", 1, 8.00, dt.date(2025, 1, 9)),
    Order(3, "North", "Coffee", 2, 8.50, dt.date(2025, 1, 31)),
    Order(4, "East", "Tea", 10, 2.25, dt.date(2025, 2, 1)),
    Order(5, "South", "Tea", 4, 2.75, dt.date(2025, 2, 14)),
    Order(6, "East", "Mugs", 2, 12.00, dt.date(2025, 2, 28)),
    Order(7, "North", "Mugs", 1, 11.50, dt.date(2025, 3, 2)),
    Order(8, "West", "Coffee", 6, 7.75, dt.date(2025, 3, 2)),
    Order(9, "West", "Tea", 5, 2.40, dt.date(2025, 3, 17)),
    Order(10, "South", "Mugs", 3, 12.50, dt.date(2025, 3, 30)),
    Order(11, "East", "Coffee", 2, 8.25, dt.date(2025, 4, 1)),
    Order(12, "North", "Tea", 8, 2.60, dt.date(2025, 4, 22)),
]
"""The table that every program finds as ``df`` (and as ``tables["orders"]``)."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG in base64: its size in pixels, and colours (0 to 255) with the least share of all pixels of each."""

    width: int
    height: int
    shares: Mapping[tuple[int, int, int], float]


@dataclass(frozen=True, slots=True)
class Program:
    """``result`` has the columns of the table that must come out; ``printed`` is all that may be printed.

    ``within`` is the tolerance of numbers, relative and absolute.
    """

    name: str
    code: str
    result: Mapping[str, Sequence[Any]]
    printed: str = ""
    within: float = 1e-9


def totals(key: str) -> dict[Any, float]:
    """Revenue by a column of the orders, sorted by it."""
    sums: dict[Any, float] = {}
    for order in ORDERS:
        value = getattr(order, key)
        sums[value] = sums.get(value, 0) + order.units * order.price
    return dict(sorted(sums.items()))
