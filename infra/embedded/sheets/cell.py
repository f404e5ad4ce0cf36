"""One cell: what somebody entered, its format and its note; values that are never changed, only replaced."""

import math
import re
from collections.abc import Callable
from datetime import date
from typing import Any, NamedTuple

from infra.embedded.sheets.errors import Json, invalid, not_emulated
from infra.embedded.sheets.masks import Mask, merge

MAX_CHARS = 50_000
"""Source: Google Drive help, "Files you can store in Google Drive"."""

SERIAL_ZERO = date(1899, 12, 30)
"""Day 0 of a serial number. Source: Sheets API guide, "Date & time serial numbers"."""

Scalar = str | int | float | bool | None

# A client that writes back what it has read sends these along; Google ignores them.
READ_ONLY = frozenset({"effectiveValue", "effectiveFormat", "formattedValue", "hyperlink"})

_NUMBER = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+)?(\.\d*)?([eE][+-]?\d{1,3})?%?", re.ASCII)
_DAY = re.compile(r"(\d{4})-(\d\d?)-(\d\d?)", re.ASCII)


class Cell(NamedTuple):
    """``value`` is an ExtendedValue, ``format`` a CellFormat; a cell that has nothing is None instead."""

    value: Json | None = None
    format: Json | None = None
    note: str | None = None

    def or_none(self) -> "Cell | None":
        return None if self.value is None and not self.format and not self.note else self


EMPTY = Cell()


def extended(value: Json) -> Json | None:
    """The value of a cell as it is kept, None for the empty string; raises ApiError where it is none."""
    if len(value) != 1:
        raise invalid("A cell's value must be exactly one of numberValue, stringValue, boolValue and formulaValue.")
    ((kind, content),) = value.items()
    if kind == "errorValue":
        raise invalid("errorValue is read-only.")
    if kind == "numberValue":
        return {kind: number(content)}
    if kind in ("stringValue", "formulaValue"):
        if len(content) > MAX_CHARS:
            raise invalid(f"Your input contains more than the maximum of {MAX_CHARS} characters in a single cell.")
        if kind == "formulaValue" and not content.startswith("="):
            raise invalid("A formula must begin with '='.")
        return value if content else None
    return value


def number(value: float) -> float:
    """As JSON keeps it: a whole number without its ``.0``; raises ApiError unless it is finite."""
    if not math.isfinite(value):
        raise invalid("A number must be finite.")
    return int(value) if value == int(value) and abs(value) < 2**53 else value


def effective(value: Json) -> Json:
    """What a cell shows: nothing is ever evaluated, a formula is an error value, ``=""`` an empty text."""
    formula = value.get("formulaValue")
    if formula is None:
        return value
    if formula.replace(" ", "") == '=""':
        return {"stringValue": ""}
    return {"errorValue": {"type": "N_A", "message": "The emulator evaluates no formula."}}


def scalar(value: Json | None) -> Scalar:
    """What a cell shows, as a Python value; ``"#N/A"`` for a formula."""
    if value is None:
        return None
    shown = effective(value)
    if "errorValue" in shown:
        return "#N/A"
    content: Scalar = next(iter(shown.values()))
    return content


def from_scalar(value: Scalar) -> Json | None:
    """A value that stays what it is: a text is a text, whatever it begins with."""
    match value:
        case None:
            return None
        case bool():
            return {"boolValue": value}
        case int() | float():
            return {"numberValue": number(value)}
        case str():
            return extended({"stringValue": value})


def typed_in(text: str) -> Cell:
    """What a text becomes that somebody types into a cell (USER_ENTERED): formula, number, day, truth or text."""
    if text.startswith("'"):
        return Cell(extended({"stringValue": text[1:]}))
    plain = text.strip()
    if plain.startswith("=") and len(plain) > 1:
        return Cell(extended({"formulaValue": plain}))
    if plain.upper() in ("TRUE", "FALSE"):
        return Cell({"boolValue": plain.upper() == "TRUE"})
    found = _typed_number(plain) or _typed_day(plain)
    if found is None and plain.startswith("+") and len(plain) > 1:
        return Cell(extended({"formulaValue": f"={plain}"}))
    return found or Cell(extended({"stringValue": text}))


def _typed_number(plain: str) -> Cell | None:
    if not _NUMBER.fullmatch(plain) or not any(sign.isdigit() for sign in plain):
        return None
    digits = plain.replace(",", "")
    if digits.endswith("%"):
        return Cell({"numberValue": number(float(digits[:-1]) / 100)}, {"numberFormat": {"type": "PERCENT"}})
    return Cell({"numberValue": number(float(digits))})


def _typed_day(plain: str) -> Cell | None:
    found = _DAY.fullmatch(plain)
    if found is None:
        return None
    try:
        day = date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return None
    pattern = {"type": "DATE", "pattern": "yyyy-mm-dd"}
    return Cell({"numberValue": (day - SERIAL_ZERO).days}, {"numberFormat": pattern})


Change = Callable[[Cell | None, Json], Cell | None]


def change_by(mask: Mask) -> Change:
    """How CellData changes a cell under a checked mask of updateCells, appendCells or repeatCell."""
    everything = not mask
    unknown = set(mask) - {"userEnteredValue", "userEnteredFormat", "note"} - READ_ONLY
    if unknown:
        raise not_emulated(f"the field {min(unknown)} of a cell")
    # ``userEnteredValue.stringValue`` and the like set the whole value: it is one of several.
    values = everything or "userEnteredValue" in mask
    formats = mask.get("userEnteredFormat") if mask else {}
    notes = everything or "note" in mask

    def change(old: Cell | None, data: Json) -> Cell | None:
        value, style, note = old or EMPTY
        if everything:
            _refuse_the_rest(data)
        if values:
            entered = data.get("userEnteredValue")
            value = extended(entered) if entered else None
        if formats is not None:
            style = merge(style or {}, data.get("userEnteredFormat") or {}, formats) or None
        if notes:
            note = data.get("note") or None
        return Cell(value, style, note).or_none()

    return change


def _refuse_the_rest(data: Json) -> None:
    for name, content in data.items():
        if content and name not in READ_ONLY and name not in ("userEnteredValue", "userEnteredFormat", "note"):
            raise not_emulated(f"the field {name} of a cell")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
