"""Cells of a worksheet as XML: typed, column by column, and never a formula.

The markup is ECMA-376's, part 1, section 18.3.1.4 (``c``): ``n`` is the type unless told, ``b`` a boolean,
``inlineStr`` a text. No other is written here; a formula would be an element ``f``.
"""

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from consumers.delivery.guest.formulas import armed
from consumers.delivery.guest.json_format import beyond, significant_digits
from consumers.delivery.guest.lines import count, mended, replaced

# Microsoft, "Excel specifications and limits".
MAX_CELL_UNITS = 32_767
MAX_DIGITS = 15
_MAX_EXACT = 10**15 - 1
# Serial numbers of days: before March 1900, Excel counts a 29 February that never was.
_EPOCH_SERIAL = 25_569
_FIRST_SERIAL, _LAST_SERIAL = 61, 2_958_465
_DAY_MICROSECONDS = 86_400_000_000

# ECMA-376, part 1, section 22.9.2.19 (ST_Xstring): what XML cannot hold, and what would read like its escape.
_NOT_XML = r"[\x00-\x08\x0b-\x1f\x{fffe}\x{ffff}]|_x[0-9A-Fa-f]{4}_"
_ESCAPED = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")

_TEXT = '" t="inlineStr"><is><t xml:space="preserve">'
_END_TEXT = "</t></is></c>"
_END_VALUE = "</v></c>"


class Cells:
    """Writes columns, and counts what Excel could not hold as it was."""

    def __init__(self) -> None:
        self._cut = self._long = self._infinite = self._days = 0

    def xml(self, column: Any, letters: str, rows: Any, style: str) -> list[Any]:
        """The cells of one column, as parts for ``lines``: ``rows`` are its row numbers, as texts.

        ``style`` is the number of a cell format; texts have it only where they look like formulas.
        """
        kind = column.type
        if pa.types.is_string(kind):
            opened, inner, closed = self._text(column, style)
        elif pa.types.is_boolean(kind):
            inner = pc.if_else(column, "1", "0")
            opened, closed = '" t="b"><v>', _END_VALUE
        else:
            numbers, odd, texts = self._numbers(column)
            inner, opened, closed = numbers, f'" s="{style}"><v>', _END_VALUE
            if odd is not None:
                inner = pc.if_else(odd, texts, numbers)
                opened, closed = pc.if_else(odd, _TEXT, opened), pc.if_else(odd, _END_TEXT, closed)
        parts = [f'<c r="{letters}', rows, opened, inner, closed]
        return [pc.binary_join_element_wise(*parts, "")] if inner.null_count else parts

    def notes(self) -> list[str]:
        counted = (
            (self._cut, f"texts were cut at Excel's {MAX_CELL_UNITS:,} characters"),
            (self._long, f"numbers of more than {MAX_DIGITS} digits were written as text, to keep every digit"),
            (self._infinite, "infinite numbers were written as text"),
            (self._days, "dates before March 1900 or after 9999 were written as text: Excel does not know them"),
        )
        return [f"{number:,} {what}." for number, what in counted if number]

    def _text(self, texts: Any, style: str) -> tuple[Any, Any, str]:
        # Excel counts UTF-16 units.
        long = mended(texts, pc.greater(pc.utf8_length(texts), MAX_CELL_UNITS // 2), self._shortened)
        harmless = pc.replace_substring(long, "&", "&amp;")
        escaped = replaced(harmless, ("<", "&lt;"), (">", "&gt;"))
        inner = mended(escaped, pc.match_substring_regex(texts, _NOT_XML), escaped_controls)
        inner = pc.if_else(pc.equal(texts, ""), None, inner)
        signs = armed(texts)
        opened = pc.if_else(signs, f'" s="{style}{_TEXT}', _TEXT) if count(signs) else _TEXT
        return opened, inner, _END_TEXT

    def _shortened(self, text: str) -> str:
        shortened = cut(text)
        self._cut += shortened != text
        return shortened

    def _numbers(self, column: Any) -> tuple[Any, Any, Any]:
        """Numbers as texts; where they are none to Excel (or None where all are), and the texts to write there."""
        kind = column.type
        if pa.types.is_floating(kind):
            column = pc.if_else(pc.is_nan(column), None, column)
            spelled, odd = pc.cast(column, pa.string()), pc.is_inf(column)
            self._infinite += count(odd)
            return spelled, odd if count(odd) else None, spelled
        if pa.types.is_temporal(kind):
            serials = _serials(column)
            odd = pc.or_(pc.less(serials, _FIRST_SERIAL), pc.greater_equal(serials, _LAST_SERIAL + 1))
            self._days += count(odd)
            texts = _iso(column) if count(odd) else None
            return pc.cast(serials, pa.string()), None if texts is None else odd, texts
        spelled = pc.cast(column, pa.string())
        odd = pc.greater(pc.utf8_length(significant_digits(spelled)), MAX_DIGITS)
        if pa.types.is_integer(kind):
            odd = beyond(column, _MAX_EXACT) if kind.bit_width > 32 else None
        many = 0 if odd is None else count(odd)
        self._long += many
        return spelled, odd if many else None, spelled


def cut(text: str) -> str:
    """What Excel can hold of a text: 32,767 UTF-16 units, and no half of a pair."""
    return text.encode("utf-16-le")[: 2 * MAX_CELL_UNITS].decode("utf-16-le", "ignore")


def escaped_controls(text: str) -> str:
    """What XML cannot hold as ``_xHHHH_``."""
    return _ESCAPED.sub(lambda match: f"_x{ord(match[0]):04X}_", text)


def _serials(column: Any) -> Any:
    """Days since Excel's day 0, the time as their fraction."""
    if pa.types.is_date(column.type):
        return pc.add(pc.cast(column, pa.int32()), _EPOCH_SERIAL)
    microseconds = pc.cast(pc.cast(column, pa.int64()), pa.float64())
    return pc.add(pc.divide(microseconds, float(_DAY_MICROSECONDS)), float(_EPOCH_SERIAL))


def _iso(column: Any) -> Any:
    if pa.types.is_timestamp(column.type):
        return pc.replace_substring_regex(replaced(pc.cast(column, pa.string()), (" ", "T")), r"\.0+$", "")
    return pc.cast(column, pa.string())
