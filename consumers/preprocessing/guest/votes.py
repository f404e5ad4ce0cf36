"""The votes of a column: every value is asked how it can be read, batch by batch."""

from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from consumers.preprocessing.guest.readings import Numbers, Order, Style, dates

Cell = Literal["number", "date", "boolean", "text"]
"""What a workbook says of a cell; delimited text says nothing."""

MAX_DISTINCT = 10_000
ENOUGH_TO_TELL = 0.5
STYLES: tuple[Style, ...] = ("point", "comma")
DATE_READINGS: tuple[tuple[Order, bool], ...] = (("ymd", False), ("ymd", True), ("dmy", False), ("mdy", False))
_PLAIN_INTEGER = r"^-?(?:0|[1-9][0-9]{0,14})$"
_DIGITS = r"^-?[0-9]+$"
_PLAIN_DECIMAL = r"^-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{4,}|\.[0-9]{1,2})?$"


@dataclass(slots=True)
class NumberVotes:
    alive: bool = True
    valid: dict[Style, int] = field(default_factory=lambda: dict.fromkeys(STYLES, 0))
    fractional: dict[Style, bool] = field(default_factory=lambda: dict.fromkeys(STYLES, False))
    differ: bool = False
    """Whether some value means one number with a point and another with a comma."""
    leading_zeros: bool = False
    too_long: bool = False
    plain: bool = True
    """Whether every value is written as a program would write it."""
    odd: bool = False
    """Whether the short way was not enough for some batch."""
    units: set[str] = field(default_factory=set)
    example: str = ""
    exceptions: list[str] = field(default_factory=list)


@dataclass(slots=True)
class DateVotes:
    alive: bool = True
    valid: dict[tuple[Order, bool], int] = field(default_factory=lambda: dict.fromkeys(DATE_READINGS, 0))
    timed: bool = False
    differ: bool = False
    example: str = ""
    exceptions: list[str] = field(default_factory=list)


class ColumnFacts:
    """What is known of a column after every one of its values was seen."""

    def __init__(self, name: str, *, typed: bool = True) -> None:
        self.name = name
        self.rows = 0
        self.filled = 0
        self.trimmed = 0
        self.cells: set[Cell] = set()
        self.distinct: Any = pa.array([], pa.string())
        self.numbers = NumberVotes(alive=typed)
        self.dates = DateVotes(alive=typed)

    def add(self, texts: Any) -> None:
        """Count a batch: a string array, trimmed, null where empty."""
        self.rows += len(texts)
        filled = len(texts) - texts.null_count
        self.filled += filled
        if not filled or not (self.numbers.alive or self.dates.alive or self.distinct is not None):
            return
        counted = pc.value_counts(texts.drop_null() if texts.null_count else texts)
        values, weights = counted.field("values"), counted.field("counts")
        self._add_distinct(values)
        if self.numbers.alive:
            self._vote_numbers(values, weights)
        if self.dates.alive:
            self._vote_dates(values, weights)

    def _add_distinct(self, values: Any) -> None:
        if self.distinct is None:
            return
        self.distinct = pc.unique(pa.concat_arrays([self.distinct, values]))
        if len(self.distinct) > MAX_DISTINCT:
            self.distinct = None

    def _vote_numbers(self, values: Any, weights: Any) -> None:
        votes = self.numbers
        total = pc.sum(weights).as_py()
        if pc.all(pc.match_substring_regex(values, _DIGITS)).as_py():
            votes.units.add("")
            votes.leading_zeros |= _any(pc.match_substring_regex(values, "^-?0[0-9]"))
            votes.too_long |= _any(pc.match_substring_regex(values, "[0-9]{16}"))
            for style in STYLES:
                votes.valid[style] += total
            return
        if not _any(pc.match_substring_regex(values, "[0-9]")):
            # No number without a digit, and telling that is cheap.
            _collect(votes.exceptions, values)
        elif pc.all(pc.match_substring_regex(values, _PLAIN_DECIMAL)).as_py():
            votes.units.add("")
            votes.valid["point"] += total
            votes.fractional["point"] = True
            whole = pc.match_substring_regex(values, _PLAIN_INTEGER)
            votes.valid["comma"] += _weight(whole, weights)
        else:
            votes.odd = True
            self._vote_odd_numbers(values, weights)
        votes.alive = max(votes.valid.values()) >= ENOUGH_TO_TELL * self.filled

    def _vote_odd_numbers(self, values: Any, weights: Any) -> None:
        votes = self.numbers
        numbers = Numbers(values)
        canonical = {style: numbers.canonical(style) for style in STYLES}
        for style, spelled in canonical.items():
            votes.valid[style] += _weight(pc.is_valid(spelled), weights)
            votes.fractional[style] |= _any(pc.match_substring_regex(spelled, "[.eE]"))
            votes.too_long |= _any(pc.match_substring_regex(spelled, "^-?[0-9]{16}"))
        votes.plain &= not _any(pc.not_equal(canonical["point"], values))
        either = pc.coalesce(canonical["point"], canonical["comma"])
        good = pc.is_valid(either)
        differing = pc.fill_null(pc.not_equal(canonical["point"], canonical["comma"]), False)
        if not votes.differ and _any(differing):
            votes.example = values.filter(differing)[0].as_py()
            votes.differ = True
        votes.leading_zeros |= _any(pc.and_(good, numbers.leading_zeros()))
        if len(votes.units) < 4:
            votes.units.update(pc.unique(numbers.units().filter(good)).to_pylist()[:4])
        _collect(votes.exceptions, values.filter(pc.invert(good)))

    def _vote_dates(self, values: Any, weights: Any) -> None:
        votes = self.dates
        if not _any(pc.match_substring_regex(values, r"^[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]")):
            votes.alive = False
            return
        spelled = {reading: dates(values, reading[0], zoned=reading[1]) for reading in DATE_READINGS}
        for reading, found in spelled.items():
            votes.valid[reading] += _weight(pc.is_valid(found), weights)
        day_first, month_first = spelled["dmy", False], spelled["mdy", False]
        differing = pc.fill_null(pc.not_equal(day_first, month_first), False)
        if not votes.differ and _any(differing):
            votes.example = values.filter(differing)[0].as_py()
            votes.differ = True
        either = pc.coalesce(*spelled.values())
        votes.timed |= _any(pc.match_substring(either, "T"))
        _collect(votes.exceptions, values.filter(pc.is_null(either)))
        votes.alive = pc.sum(pc.cast(pc.is_valid(either), pa.int64())).as_py() >= ENOUGH_TO_TELL * len(values)


def _weight(mask: Any, weights: Any) -> int:
    return int(pc.sum(weights.filter(mask)).as_py() or 0)


def _any(mask: Any) -> bool:
    return bool(pc.any(mask).as_py())


def _collect(exceptions: list[str], values: Any) -> None:
    if len(exceptions) < 3:
        exceptions.extend(values[: 3 - len(exceptions)].to_pylist())
