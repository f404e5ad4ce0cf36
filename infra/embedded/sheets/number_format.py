"""How a cell's value reads: numbers, percents and dates by their number format, as the en_US locale shows them.

Source: Sheets API guide, "Date and number formats". Conditions, colours, fractions and text sections are not shown.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from infra.embedded.sheets.cell import SERIAL_ZERO, effective, is_number
from infra.embedded.sheets.errors import Json

DEFAULT_PATTERNS = {
    "NUMBER": "#,##0.00",
    "PERCENT": "0.00%",
    "CURRENCY": "$#,##0.00",
    "DATE": "m/d/yyyy",
    "TIME": "h:mm:ss am/pm",
    "DATE_TIME": "m/d/yyyy h:mm:ss",
    "SCIENTIFIC": "0.00E+00",
}
MOMENTS = frozenset({"DATE", "TIME", "DATE_TIME"})

_TOKEN = re.compile(
    r'"[^"]*"|\\.|\[h+\]|am/pm|a/p|y+|d+|h+|s+|m+|\.0+|.',
    re.IGNORECASE | re.DOTALL,
)
_DIGITS = re.compile(r"[#0?][#0?,]*(?:\.[#0?]*)?|\.[#0?]+")
_LITERAL = re.compile(r'"([^"]*)"|\\(.)|_.|\*.|\[[^\]]*\]', re.DOTALL)


def formatted(value: Json | None, style: Json | None) -> str:
    """What a cell with this ExtendedValue and CellFormat shows."""
    if value is None:
        return ""
    shown = effective(value)
    if "errorValue" in shown:
        return "#N/A"
    content = next(iter(shown.values()))
    if isinstance(content, bool):
        return str(content).upper()
    return _number(content, (style or {}).get("numberFormat") or {}) if is_number(content) else str(content)


def is_moment(style: Json | None) -> bool:
    return ((style or {}).get("numberFormat") or {}).get("type") in MOMENTS


def _number(content: float, number_format: Json) -> str:
    kind = number_format.get("type", "")
    pattern = number_format.get("pattern") or DEFAULT_PATTERNS.get(kind, "")
    if kind in MOMENTS:
        return _moment(content, pattern)
    if not pattern or kind == "TEXT":
        return general(content)
    sections = pattern.split(";")
    if content < 0 and len(sections) > 1:
        return _by_digits(-content, sections[1])
    if content == 0 and len(sections) > 2:
        return _by_digits(content, sections[2])
    return _by_digits(content, sections[0])


def general(content: float) -> str:
    """A number without a format."""
    if content == int(content) and abs(content) < 1e15:
        return str(int(content))
    return f"{content:.15g}".replace("e+", "E+").replace("e-", "E-")


def _by_digits(content: float, pattern: str) -> str:
    plain = _LITERAL.sub(lambda found: found[1] or found[2] or "", pattern)
    found = _DIGITS.search(plain)
    if found is None:
        return plain
    before, digits, after = plain[: found.start()], found[0], plain[found.end() :]
    if "%" in plain:
        content *= 100
    whole, _, fraction = digits.partition(".")
    least, most = fraction.count("0"), len(fraction)
    if after[:2].upper() in ("E+", "E-"):
        mantissa, _, exponent = f"{content:.{most}E}".partition("E")
        return f"{before}{mantissa}E{int(exponent):+03d}{after.lstrip('Ee+-0')}"
    text = f"{abs(content):{',' if ',' in whole else ''}.{most}f}"
    for _ in range(most - least):
        text = text.removesuffix("0")
    text = text.removesuffix(".")
    integer, dot, rest = text.partition(".")
    text = integer.rjust(whole.count("0"), "0") + dot + rest
    negative = content < 0 and any(digit in "123456789" for digit in text)
    return ("-" if negative else "") + before + text + after


def _moment(serial: float, pattern: str) -> str:
    start = datetime(SERIAL_ZERO.year, SERIAL_ZERO.month, SERIAL_ZERO.day)  # noqa: DTZ001 - serials have no zone
    try:
        moment = start + timedelta(milliseconds=round(serial * 86_400_000))
    except OverflowError:
        return general(serial)
    tokens = _TOKEN.findall(pattern)
    twelve = any(token.lower() in ("am/pm", "a/p") for token in tokens)
    elapsed = int(serial * 24)
    return "".join(_token(tokens, index, moment, twelve=twelve, elapsed_hours=elapsed) for index in range(len(tokens)))


def _token(tokens: Sequence[str], index: int, moment: datetime, *, twelve: bool, elapsed_hours: int) -> str:
    token = tokens[index]
    low = token.lower()
    if token[0] in '"\\':
        return token[1:].removesuffix('"') if token[0] == '"' else token[1:]
    if low.startswith("[h"):
        return f"{elapsed_hours:0{len(low) - 2}d}"
    if low in ("am/pm", "a/p"):
        return f"{moment:%p}"[: 2 if low == "am/pm" else 1]
    if low.startswith(".0"):
        return f".{moment.microsecond:06d}"[: len(low)]
    minutes = low[0] == "m" and _is_minute(tokens, index)
    return _part(moment, "n" if minutes else low[0], len(low), twelve=twelve) or token


def _part(moment: datetime, letter: str, count: int, *, twelve: bool) -> str:
    """One part of a moment, by its letter (``n`` for minutes); empty for any other."""
    hour = (moment.hour % 12 or 12) if twelve else moment.hour
    digits = min(count, 2)
    parts = {
        "y": f"{moment.year:04d}" if count > 2 else f"{moment.year % 100:02d}",
        "m": _named(moment.month, f"{moment:%b}", f"{moment:%B}", count),
        "d": _named(moment.day, f"{moment:%a}", f"{moment:%A}", count),
        "h": f"{hour:0{digits}d}",
        "n": f"{moment.minute:0{digits}d}",
        "s": f"{moment.second:0{digits}d}",
    }
    return parts.get(letter, "")


def _named(number: int, short: str, full: str, letters: int) -> str:
    if letters <= 2:
        return f"{number:0{letters}d}"
    return {3: short, 4: full}.get(letters, short[0])


def _is_minute(tokens: Sequence[str], index: int) -> bool:
    """An m is minutes after hours and before seconds, months otherwise."""
    letters = [
        (at, token.lower().lstrip("[")[0]) for at, token in enumerate(tokens) if token[0].isalpha() or "[" in token
    ]
    letters = [(at, letter) for at, letter in letters if letter in "ymdhs"]
    here = [at for at, _ in letters].index(index)
    before = letters[here - 1][1] if here else ""
    after = letters[here + 1][1] if here + 1 < len(letters) else ""
    return before == "h" or after == "s"
