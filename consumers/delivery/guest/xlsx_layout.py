"""How a table looks in a workbook: the number format and the width of each column."""

import unicodedata
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from consumers.delivery.guest.batches import Result

MAX_DECIMALS = 6
GENERAL = "General"
TEXT = "text"
# Microsoft, "Number format codes": a General cell shows 11 digits at the most.
_GENERAL_CHARS = 11
_LARGEST = 1e15
_SAMPLE_ROWS = 200
_MIN_WIDTH, _MAX_WIDTH, _MAX_HEADING_WIDTH = 8, 60, 30


@dataclass(frozen=True, slots=True)
class Column:
    """``format`` is Excel's, or TEXT; ``width`` counts characters."""

    name: str
    format: str
    width: int


def columns_of(result: Result) -> list[Column]:
    """How each column of a result looks; reads the floating-point ones once, to know their decimals."""
    decimals = _decimals(result)
    formats = [_format(result, i, decimals) for i in range(len(result.names))]
    head = next(result.batches(), None)
    samples = [[] for _ in formats] if head is None else [c.slice(0, _SAMPLE_ROWS).to_pylist() for c in head.columns]
    return [
        Column(name, form, _width(name, [_shown(value, form) for value in values if value is not None]))
        for name, form, values in zip(result.names, formats, samples, strict=True)
    ]


def _format(result: Result, i: int, decimals: dict[int, int | None]) -> str:
    kind = result.types[i]
    if pa.types.is_date(kind):
        return "yyyy-mm-dd"
    if pa.types.is_timestamp(kind):
        return "yyyy-mm-dd hh:mm:ss" if i in result.whole_seconds else "yyyy-mm-dd hh:mm:ss.000"
    if pa.types.is_integer(kind):
        return _fixed(0)
    if pa.types.is_decimal(kind):
        return _fixed(max(0, kind.scale)) if kind.scale <= MAX_DECIMALS else GENERAL
    if not pa.types.is_floating(kind):
        return TEXT
    shown = decimals[i]
    return GENERAL if shown is None else _fixed(shown)


def _fixed(decimals: int) -> str:
    return "0." + "0" * decimals if decimals else "0"


def _decimals(result: Result) -> dict[int, int | None]:
    """How many decimals show every value of a floating-point column as it is; None where too many."""
    found: dict[int, int | None] = {i: 0 for i, kind in enumerate(result.types) if pa.types.is_floating(kind)}
    for batch in result.batches() if found else ():
        for i, known in found.items():
            if known is not None:
                found[i] = _enough(batch.column(i), known)
    return found


def _enough(column: Any, decimals: int) -> int | None:
    finite = pc.if_else(pc.is_finite(column), column, 0.0)
    if pc.any(pc.greater_equal(pc.abs(finite), _LARGEST)).as_py():
        return None
    needed = range(decimals, MAX_DECIMALS + 1)
    return next((n for n in needed if pc.all(pc.equal(pc.round(finite, n), finite)).as_py() is not False), None)


def _shown(value: Any, form: str) -> str:
    if form == GENERAL and isinstance(value, float):
        return f"{value:.{_GENERAL_CHARS - 2}g}"
    return f"{value:.{len(form) - 2}f}" if form.startswith("0.") else str(value)


def _width(name: str, texts: list[str]) -> int:
    widest = max((_columns_taken(line) for text in texts for line in text.split("\n")), default=0)
    # Some room for the filter's button.
    return min(_MAX_WIDTH, max(_MIN_WIDTH, widest + 2, min(_MAX_HEADING_WIDTH, _columns_taken(name) + 4)))


def _columns_taken(text: str) -> int:
    shown = text[:_MAX_WIDTH]
    return len(shown) + sum(unicodedata.east_asian_width(character) in "WF" for character in shown)
