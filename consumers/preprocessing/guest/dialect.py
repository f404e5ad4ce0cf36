"""The dialect of delimited text, and where in a sheet its table begins: told from the first rows."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

DELIMITERS = (",", ";", "\t", "|")
NO_DELIMITER = "\x1f"
"""For a single column, whose cells may hold all of the others: ASCII's unit separator, which nobody types."""
MAX_PREAMBLE_ROWS = 60
MAX_BODY_ROWS = 300

_SEP_LINE = re.compile(r"sep=(.)(?:\r\n|\r|\n)$", re.IGNORECASE)
_NUMBER = re.compile(r"\(?[-+−]?\s*([$€£¥]|[A-Z]{3})?\s*[-+]?[\d.,][\d., '’\u00a0\u202f]*\s*(%|[$€£¥]|[A-Z]{3})?[-)]?$")
_EXPONENT = re.compile(r"[-+]?\d+([.,]\d+)?[eE][-+]?\d+$")
_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}([T ]\d{1,2}:\d{2}.*)?$")
_TIME = re.compile(r"\d{1,2}:\d{2}(:\d{2})?$")
_YEAR = re.compile(r"(19|20)\d\d$")


@dataclass(frozen=True, slots=True)
class Dialect:
    """``explicit`` says that the first line was Excel's ``sep=`` and no row."""

    delimiter: str
    skip_spaces: bool
    explicit: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the table is among the first rows.

    ``start`` counts the rows above it; ``names`` is None where no row gives names (then ``start`` is
    the first row of data); ``width`` counts columns. ``sure`` is False where names were only assumed.
    """

    start: int
    names: list[str] | None
    width: int
    sure: bool


def detect(text: str, *, complete: bool) -> Dialect:
    """The dialect that splits the head of a file most evenly into clean cells."""
    lines = io.StringIO(text, newline="").readlines()
    if lines and (match := _SEP_LINE.match(lines[0])):
        return Dialect(match[1], skip_spaces=False, explicit=True)
    scores = {d: _score(lines, d, csv.QUOTE_MINIMAL, complete=complete) for d in DELIMITERS}
    if not any(scores.values()):
        # A quote that stays open hides the rows behind it.
        scores = {d: _score(lines, d, csv.QUOTE_NONE, complete=complete) for d in DELIMITERS}
    best = max(DELIMITERS, key=lambda d: scores[d])
    delimiter = best if scores[best] > 0 else NO_DELIMITER
    skip_spaces = f'{delimiter} "' in text and delimiter != "\t"
    return Dialect(delimiter, skip_spaces=skip_spaces, explicit=False)


def _score(lines: list[str], delimiter: str, quoting: Literal[0, 3], *, complete: bool) -> float:
    """Evenness times cleanness, after CleverCSV (van den Burg et al. 2019): 0 for a single column."""
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, quoting=quoting) if any(row)]
    except csv.Error:
        return 0
    if not complete and len(rows) > 2:
        rows.pop()  # a quote may be open where the head was cut
    best = 0.0
    for width, count in Counter(map(len, rows)).items():
        start = next(i for i, row in enumerate(rows) if len(row) == width)
        share = count / (len(rows) - start)
        # Prose has commas too: below one half, lines of equal width are a coincidence.
        if width >= 2 and share >= 0.5 and (count >= 2 or len(rows) == 1):
            body = [row for row in rows[start:] if len(row) == width][:MAX_BODY_ROWS]
            # A table begun later explains fewer rows.
            best = max(best, share * (width - 1) / width * _cleanness(body, delimiter) * (count / len(rows)) ** 0.5)
    return best


def _cleanness(rows: list[list[str]], delimiter: str) -> float:
    others = [d for d in DELIMITERS[1:] if d != delimiter]
    cells = [cell for row in rows for cell in row]
    clean = sum(not any(d in cell for d in others) or is_typed(cell.strip()) for cell in cells)
    stray = sum(cell.count('"') == 1 for cell in cells)
    return max(0.01, (clean - stray) / len(cells))


def is_typed(cell: str) -> bool:
    """Whether a cell looks like a number, a date or a time: as data does and names seldom do."""
    return any(pattern.match(cell) for pattern in (_NUMBER, _DATE, _TIME, _EXPONENT)) and any(map(str.isdigit, cell))


def locate(found: Sequence[Sequence[str]]) -> Layout:
    """Find the table in the first rows of a file or sheet; blank rows are already left out."""
    rows = [[cell.strip() for cell in row] for row in found]
    filled = [sum(map(bool, row)) for row in rows]
    typical = median(filled[len(filled) // 2 :])
    enough = max(1, -(-typical * 6 // 10), 2 if typical >= 2 else 1)
    start = next((i for i, count in enumerate(filled[: MAX_PREAMBLE_ROWS + 1]) if count >= enough), 0)
    first, body = rows[start], rows[start + 1 : start + 1 + MAX_BODY_ROWS]
    named, sure = _names_vote(first, body)
    if not named:
        if any(len(row) == len(first) for row in rows[:start]):
            start = 0  # a first row with many gaps, and no title
        return Layout(start, None, max(_usual_width([first, *body]), len(first)), sure)
    width = max(len(first), _usual_width(body)) if body else len(first)
    return Layout(start, _shifted(first, body), width, sure)


def _usual_width(rows: list[list[str]]) -> int:
    widths = Counter(len(row) for row in rows)
    return max(widths, key=lambda width: (widths[width], width))


def _shifted(names: list[str], body: list[list[str]]) -> list[str]:
    """R's ``write.table`` leaves out the name of the row names: the names then stand one column too far left."""
    if body and _usual_width(body) == len(names) + 1 and sum(bool(row[-1]) for row in body) > len(body) / 2:
        return ["", *names]
    return names


def _names_vote(first: list[str], body: list[list[str]]) -> tuple[bool, bool]:
    """Whether ``first`` holds names, and whether anything spoke for or against it."""
    if not body:
        return not any(is_typed(cell) for cell in first), True
    typed_names = typed_data = repeated = 0
    for index, cell in enumerate(first):
        column = [row[index] for row in body if index < len(row) and row[index]]
        if not cell or not column:
            continue
        if sum(map(is_typed, column)) >= 0.8 * len(column):
            typed_names += not is_typed(cell)
            typed_data += is_typed(cell) and not (_YEAR.match(cell) and not all(map(_YEAR.match, column)))
        elif is_typed(cell):
            typed_data += not _YEAR.match(cell)
        elif len(column) >= 3 and first not in body:
            repeated += cell in column
    if typed_names or typed_data:
        return typed_names >= typed_data, True
    return not repeated, bool(repeated)
