"""How a text can be read as a number or a date: whole arrays at once, into one canonical spelling.

What a vote counts and what a cast later converts is the same array, so they cannot disagree.
"""

from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

Style = Literal["point", "comma"]
"""Which character begins the decimals."""
Order = Literal["ymd", "dmy", "mdy"]

SYMBOLS = ("US$", "R$", "C$", "A$", "$", "€", "£", "¥", "₹", "₽", "₩", "₺", "₪", "฿", "₫", "₴")
WORDS = ("Kč", "zł", "kr.", "kr", "Fr.", "Ft", "lei")
# ISO 4217, the currencies that spreadsheets show most.
CODES = (
    "AED", "ARS", "AUD", "BGN", "BRL", "CAD", "CHF", "CLP", "CNY", "COP", "CZK", "DKK", "EGP", "EUR", "GBP", "HKD",
    "HUF", "IDR", "ILS", "INR", "ISK", "JPY", "KES", "KRW", "MXN", "MYR", "NGN", "NOK", "NZD", "PEN", "PHP", "PKR",
    "PLN", "RON", "RUB", "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "UAH", "USD", "VND", "ZAR",
)  # fmt: skip

_UNIT = "|".join(unit.replace("$", r"\$").replace(".", r"\.") for unit in (*SYMBOLS, *WORDS, *CODES))
_SPACES = r"[\x{00A0}\x{202F}\x{2009}\x{2007}]"
_PARTS = (
    rf"^(?P<sign>[-+]?) ?(?P<before>(?:{_UNIT})?) ?(?P<sign2>[-+]?)"
    r"(?P<number>[.,]?[0-9][0-9.,' ]*?)"
    r"(?P<exponent>(?:[eE][-+]?[0-9]{1,3})?)"
    rf" ?(?P<after>(?:{_UNIT}|%)?)$"
)


def _pattern(group: str, decimal: str) -> str:
    """Digits, in groups of three or the Indian two-two-three; "0,123" is no group."""
    separators = (group, "'", " ")
    grouped = "|".join(rf"[1-9][0-9]{{0,2}}(?:{separator}[0-9]{{3}})+" for separator in separators)
    return rf"^(?:[0-9]+|{grouped}|[1-9][0-9]?(?:{group}[0-9]{{2}})+{group}[0-9]{{3}})?(?:{decimal}[0-9]*)?$"


_PATTERNS: dict[Style, str] = {"point": _pattern(",", r"\."), "comma": _pattern(r"\.", ",")}

_DATE_TIME = r"(?:[T ]\s?(?P<time>(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?))?"
_ZONE = r" ?(?P<zone>(?:Z|[+-](?:0[0-9]|1[0-4]):?[0-5][0-9])?)$"
_YEAR_FIRST = r"^(?P<y>[0-9]{4})(?P<s1>[-/.])(?P<b>[0-9]{1,2})(?P<s2>[-/.])(?P<c>[0-9]{1,2})"
_YEAR_LAST = r"^(?P<b>[0-9]{1,2})(?P<s1>[-/.])(?P<c>[0-9]{1,2})(?P<s2>[-/.])(?P<y>[0-9]{4})"
# A day that exists in the Gregorian calendar.
_CALENDAR = (
    r"^(?:[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)"
    r"|(?:0[13578]|1[02])-31)"
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)$"
)


class Numbers:
    """The parts of texts that look like numbers; a text that does not is null in every part."""

    def __init__(self, texts: Any) -> None:
        plain = pc.replace_substring_regex(texts, _SPACES, " ")
        plain = pc.replace_substring_regex(plain, "[\u2212]", "-")
        plain = pc.replace_substring_regex(plain, "[\u2019\u02bc]", "'")
        # Accountants' negatives: (100) and 100-.
        plain = pc.replace_substring_regex(plain, r"^\(([^()]*)\)$", r"-\1")
        plain = pc.replace_substring_regex(plain, r"^([^-]*[^- ]) ?-$", r"-\1")
        parts = pc.extract_regex(plain, _PARTS)
        self._found = pc.is_valid(parts)
        self._sign = pc.binary_join_element_wise(pc.struct_field(parts, "sign"), pc.struct_field(parts, "sign2"), "")
        self._number = pc.struct_field(parts, "number")
        self._exponent = pc.struct_field(parts, "exponent")
        self._before = pc.struct_field(parts, "before")
        self._after = pc.struct_field(parts, "after")
        # "12E3" is an article number; 1.2E3 and 1E+3 are numbers.
        exponent_is_clear = pc.or_(
            pc.equal(self._exponent, ""),
            pc.or_(pc.match_substring_regex(self._exponent, "[-+]"), pc.match_substring_regex(self._number, "[.,]")),
        )
        one_unit = pc.or_(pc.equal(self._before, ""), pc.equal(self._after, ""))
        one_sign = pc.less(pc.binary_length(self._sign), 2)
        self._sane = pc.and_(self._found, pc.and_(exponent_is_clear, pc.and_(one_unit, one_sign)))

    def canonical(self, style: Style) -> Any:
        """Spelled as ``-1234.5``; null where it is no number of this style."""
        fits = pc.match_substring_regex(self._number, _PATTERNS[style])
        digits = pc.replace_substring_regex(self._number, "[,' ]" if style == "point" else "[.' ]", "")
        digits = pc.replace_substring(digits, ",", ".")
        digits = pc.binary_join_element_wise(pc.replace_substring(self._sign, "+", ""), digits, self._exponent, "")
        nothing = pa.scalar(None, pa.string())
        spelled = pc.if_else(pc.and_(self._sane, fits), digits, nothing)
        if pc.any(pc.match_substring_regex(self._exponent, "[0-9]{3}$")).as_py():
            spelled = pc.if_else(pc.is_finite(pc.cast(spelled, pa.float64())), spelled, nothing)
        return spelled

    def units(self) -> Any:
        return pc.binary_join_element_wise(self._before, self._after, "")

    def leading_zeros(self) -> Any:
        return pc.match_substring_regex(self._number, r"^0[0-9]")


def dates(texts: Any, order: Order, *, zoned: bool) -> Any:
    """ISO 8601 spelling of texts that are a day, or a day and a time, in this order; null elsewhere."""
    parts = pc.extract_regex(texts, (_YEAR_FIRST if order == "ymd" else _YEAR_LAST) + _DATE_TIME + _ZONE)
    month, day = ("c", "b") if order == "dmy" else ("b", "c")
    separator = pc.struct_field(parts, "s1")
    fits = pc.equal(separator, pc.struct_field(parts, "s2"))
    if order == "mdy":
        fits = pc.and_(fits, pc.not_equal(separator, "."))  # nobody writes the month first with dots
    two = {p: pc.utf8_lpad(pc.struct_field(parts, p), 2, "0") for p in (month, day)}
    date = pc.binary_join_element_wise(pc.struct_field(parts, "y"), two[month], two[day], "-")
    fits = pc.and_(fits, pc.match_substring_regex(date, _CALENDAR))
    zone, time = pc.struct_field(parts, "zone"), pc.struct_field(parts, "time")
    # Only a time can have a zone: "2024-01-02-0500" is something else.
    has_zone = pc.not_equal(zone, "")
    fits = pc.and_(fits, pc.and_(has_zone, pc.not_equal(time, "")) if zoned else pc.invert(has_zone))
    time = pc.replace_substring_regex(time, r"^([0-9]):", r"0\1:")
    time = pc.replace_substring_regex(time, r"(\.[0-9]{6})[0-9]+", r"\1")
    time = pc.replace_substring_regex(time, r"^(.)", r"T\1")
    return pc.if_else(fits, pc.binary_join_element_wise(date, time, zone, ""), pa.scalar(None, pa.string()))
