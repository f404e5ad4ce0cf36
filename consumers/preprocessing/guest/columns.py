"""What a column becomes: only what every one of its values allows, and text where that leaves a doubt."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from consumers.preprocessing.guest.notes import Note, note
from consumers.preprocessing.guest.readings import Numbers, Order, Style, dates
from consumers.preprocessing.guest.votes import ENOUGH_TO_TELL, STYLES, ColumnFacts, NumberVotes

ColumnType = Literal["text", "integer", "decimal", "date", "datetime", "boolean"]

YES_NO = frozenset({"true", "false", "yes", "no", "y", "n", "ja", "nein", "oui", "non", "si", "sí", "wahr", "falsch"})


@dataclass(frozen=True, slots=True)
class Decision:
    """What a column becomes. ``notes`` say why, where somebody could have decided otherwise.

    ``plain`` numbers are spelled canonically in every batch.
    """

    type: ColumnType
    unit: str | None = None
    style: Style = "point"
    order: Order = "ymd"
    zoned: bool = False
    plain: bool = False
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
        plain=not votes.odd,
        notes=_number_notes(facts, style, unit),
    )


def _why_text(votes: NumberVotes) -> str | None:
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
    votes = facts.numbers
    if style == "comma" and (votes.differ or votes.fractional["comma"]):
        notes.append(_about(facts, "read as numbers with a decimal comma"))
    elif not unit and not votes.plain:
        notes.append(_about(facts, "read as numbers with a decimal point; separators and accounting signs are dropped"))
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
    if decision.plain:
        return pc.cast(texts, pa.int64() if decision.type == "integer" else pa.float64())
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
