"""What a column is: every value is asked how it can be read, and a column becomes only what all of them allow."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from consumers.preprocessing.guest.notes import Note, note
from consumers.preprocessing.guest.readings import Numbers, Order, Style, dates

ColumnType = Literal["text", "integer", "decimal", "date", "datetime", "boolean"]
Cell = Literal["number", "date", "boolean", "text"]
"""What a workbook says of a cell; delimited text says nothing."""

MAX_DISTINCT = 10_000
ENOUGH_TO_TELL = 0.5
YES_NO = frozenset({"true", "false", "yes", "no", "y", "n", "ja", "nein", "oui", "non", "si", "sí", "wahr", "falsch"})

STYLES: tuple[Style, ...] = ("point", "comma")
DATE_READINGS: tuple[tuple[Order, bool], ...] = (("ymd", False), ("ymd", True), ("dmy", False), ("mdy", False))
_PLAIN_INTEGER = r"^-?(?:0|[1-9][0-9]{0,14})$"
_PLAIN_DECIMAL = r"^-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{4,}|\.[0-9]{1,2})?$"


@dataclass(slots=True)
class _NumberVotes:
    alive: bool = True
    valid: dict[Style, int] = field(default_factory=lambda: dict.fromkeys(STYLES, 0))
    fractional: dict[Style, bool] = field(default_factory=lambda: dict.fromkeys(STYLES, False))
    differ: bool = False
    leading_zeros: bool = False
    too_long: bool = False
    plain: bool = True
    units: set[str] = field(default_factory=set)
    example: str = ""
    exceptions: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _DateVotes:
    alive: bool = True
    valid: dict[tuple[Order, bool], int] = field(default_factory=lambda: dict.fromkeys(DATE_READINGS, 0))
    timed: bool = False
    differ: bool = False
    example: str = ""
    exceptions: list[str] = field(default_factory=list)


class ColumnFacts:
    """What is known of a column after every one of its values was seen."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows = 0
        self.filled = 0
        self.trimmed = 0
        self.cells: set[Cell] = set()
        self.distinct: Any = pa.array([], pa.string())
        self.numbers = _NumberVotes()
        self.dates = _DateVotes()

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
        if pc.all(pc.match_substring_regex(values, _PLAIN_INTEGER)).as_py():
            votes.units.add("")
            for style in STYLES:
                votes.valid[style] += total
            return
        if pc.all(pc.match_substring_regex(values, _PLAIN_DECIMAL)).as_py():
            votes.units.add("")
            votes.valid["point"] += total
            votes.fractional["point"] = True
            whole = pc.match_substring_regex(values, _PLAIN_INTEGER)
            votes.valid["comma"] += _weight(whole, weights)
            votes.differ = True
        else:
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
            votes.plain &= pc.all(pc.equal(spelled, values)).as_py() is not False
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


@dataclass(frozen=True, slots=True)
class Decision:
    """What a column becomes. ``notes`` say why, where somebody could have decided otherwise."""

    type: ColumnType
    unit: str | None = None
    style: Style = "point"
    order: Order = "ymd"
    zoned: bool = False
    notes: tuple[Note, ...] = ()


def decide(columns: Sequence[ColumnFacts], *, delimiter: str | None) -> list[Decision]:
    """Decide every column; what is ambiguous in one is settled by the others, or by the delimiter.

    In comma-delimited text a decimal comma would need quotes, so the point is taken there.
    """
    evident = {style for facts in columns for style in _styles(facts) if len(_styles(facts)) == 1}
    known: Style | None = next(iter(evident)) if len(evident) == 1 else None
    if known is None and not evident and delimiter == ",":
        known = "point"
    return [_decide(facts, known) for facts in columns]


def _styles(facts: ColumnFacts) -> list[Style]:
    votes = facts.numbers
    if not facts.filled or (facts.cells and "number" not in facts.cells and "text" not in facts.cells):
        return []
    return [style for style in STYLES if votes.valid[style] == facts.filled]


def _decide(facts: ColumnFacts, known: Style | None) -> Decision:
    if not facts.filled:
        return Decision("text", notes=(_about(facts, "has no values"),))
    if facts.cells == {"boolean"}:
        return Decision("boolean")
    if facts.cells == {"number"}:
        return Decision("decimal" if facts.numbers.fractional["point"] or facts.numbers.too_long else "integer")
    if "boolean" not in facts.cells:
        if (decision := _decide_dates(facts)) is not None:
            return decision
        if (decision := _decide_numbers(facts, known)) is not None:
            return decision
    return _decide_text(facts)


def _decide_dates(facts: ColumnFacts) -> Decision | None:
    votes = facts.dates
    full = [reading for reading, count in votes.valid.items() if count == facts.filled]
    if not full:
        return None
    order, zoned = full[0]
    if len(full) > 1 and votes.differ:
        reason = "kept as text because day and month cannot be told apart (no part is above 12)"
        return Decision("text", notes=(_about(facts, reason, [votes.example]),))
    notes = []
    if order != "ymd":
        notes.append(_about(facts, f"read as dates, {'day' if order == 'dmy' else 'month'} first"))
    if zoned:
        notes.append(_about(facts, "times with a zone were converted to UTC"))
    return Decision("datetime" if votes.timed else "date", order=order, zoned=zoned, notes=tuple(notes))


def _decide_numbers(facts: ColumnFacts, known: Style | None) -> Decision | None:
    votes, styles = facts.numbers, _styles(facts)
    if "number" in facts.cells:
        styles = [style for style in styles if style == "point"]  # cells that are numbers were spelled with a point
    if not styles:
        return None
    if reason := _why_text(votes):
        return Decision("text", notes=(_about(facts, f"kept as text because {reason}"),))
    style = styles[0]
    if len(styles) > 1 and votes.differ:
        if known is None:
            reason = "kept as text because its separator can mean decimals or thousands, and nothing else tells which"
            return Decision("text", notes=(_about(facts, reason, [votes.example]),))
        style = known
    unit = next(iter(votes.units)) or None
    return Decision(
        "decimal" if votes.fractional[style] else "integer",
        unit=unit,
        style=style,
        notes=_number_notes(facts, style, unit),
    )


def _why_text(votes: _NumberVotes) -> str | None:
    if votes.leading_zeros:
        return "values have leading zeros"
    if votes.too_long:
        return "values have more than 15 digits"
    if len(votes.units) > 1:
        units = ", ".join(sorted(unit or "none" for unit in votes.units))
        return f"its numbers have different units ({units})"
    return None


def _number_notes(facts: ColumnFacts, style: Style, unit: str | None) -> tuple[Note, ...]:
    notes = []
    if facts.numbers.differ and style == "comma":
        notes.append(_about(facts, "read as numbers with a decimal comma"))
    elif facts.numbers.differ and not facts.numbers.plain and facts.numbers.example:
        notes.append(_about(facts, "read as numbers with a decimal point"))
    if unit == "%":
        notes.append(_about(facts, "percent: the number is kept as written, 12 % is 12"))
    elif unit:
        notes.append(_about(facts, f"amounts in {unit}; the sign is left out of the numbers"))
    return tuple(notes)


def _decide_text(facts: ColumnFacts) -> Decision:
    for votes, what in ((facts.numbers, "numbers"), (facts.dates, "dates")):
        share = max(votes.valid.values()) / facts.filled
        if votes.alive and ENOUGH_TO_TELL <= share < 1 and votes.exceptions:
            reason = f"kept as text because only {share:.1%} of its values are {what}"
            return Decision("text", notes=(_about(facts, reason, votes.exceptions),))
        if votes.alive and ENOUGH_TO_TELL <= share < 1:
            return Decision("text", notes=(_about(facts, f"kept as text because its {what} are written in two ways"),))
    words = {value.lower() for value in facts.distinct.to_pylist()} if _few(facts) else set()
    if words and words <= YES_NO:
        return Decision("text", notes=(_about(facts, "yes/no values, kept as text"),))
    return Decision("text")


def _few(facts: ColumnFacts) -> bool:
    return facts.distinct is not None and len(facts.distinct) <= 4


def convert(texts: Any, decision: Decision) -> Any:
    """The typed array of a batch: int64, double, date32, timestamp[us] (UTC where zoned), bool or string."""
    if decision.type == "text":
        return texts
    coded = texts.dictionary_encode()
    return _convert_values(coded.dictionary, decision).take(coded.indices)


def _convert_values(values: Any, decision: Decision) -> Any:
    match decision.type:
        case "integer":
            return pc.cast(Numbers(values).canonical(decision.style), pa.int64())
        case "decimal":
            return pc.cast(Numbers(values).canonical(decision.style), pa.float64())
        case "date":
            return pc.cast(dates(values, decision.order, zoned=False), pa.date32())
        case "datetime":
            found = dates(values, decision.order, zoned=decision.zoned)
            moment = pc.cast(found, pa.timestamp("us", "UTC" if decision.zoned else None))
            return pc.cast(moment, pa.timestamp("us"))
        case _:
            return pc.cast(values, pa.bool_())


def _about(facts: ColumnFacts, text: str, values: Iterable[str] = ()) -> Note:
    return note(f"{facts.name}: {text}.", values)


def _weight(mask: Any, weights: Any) -> int:
    return int(pc.sum(weights.filter(mask)).as_py() or 0)


def _any(mask: Any) -> bool:
    return bool(pc.any(mask).as_py())


def _collect(exceptions: list[str], values: Any) -> None:
    if len(exceptions) < 3:
        exceptions.extend(values[: 3 - len(exceptions)].to_pylist())
