"""Formulas: which texts a spreadsheet would run, and how they are disarmed.

OWASP, "CSV Injection": a cell that begins with ``= + - @``, a tab or a line end is one; spreadsheets for East
Asia take the full-width forms too. Excel and its kin let spaces stand before the sign.

Excel splits at semicolons where its language writes decimal commas, and then heeds no quote that does not begin
a cell: so a sign after a semicolon or a line end begins a cell there, wherever in the text it stands.
"""

from typing import Any

import pyarrow.compute as pc

_SIGNS = r"[=+\-@\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}]"
# No line ends: after the last of them, not the first, a cell begins.
_BLANKS = r"[\t\v\f\p{Z}\x{200b}\x{feff}\"]*"
_BEGINS = rf"^(?:[\t\r\n]|{_BLANKS}{_SIGNS})"
_WITHIN = rf"([;\r\n])({_BLANKS}{_SIGNS})"
# A signed number is what it looks like: no formula.
_NUMBER = r"^[+-](?:[0-9][0-9.,]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?%?$"


def armed(texts: Any) -> Any:
    """A mask of the texts that begin like a formula, and are no number."""
    begins = pc.match_substring_regex(texts, _BEGINS)
    return pc.and_not(begins, pc.match_substring_regex(texts, _NUMBER))


def disarmed(texts: Any) -> tuple[Any, int]:
    """The texts with an apostrophe before each sign, and how many of them were changed."""
    begins = armed(texts)
    within = pc.match_substring_regex(texts, _WITHIN)
    changed = pc.sum(pc.or_(begins, within)).as_py() or 0
    if changed:
        texts = pc.if_else(within, pc.replace_substring_regex(texts, _WITHIN, r"\1'\2"), texts)
        texts = pc.if_else(begins, pc.binary_join_element_wise("'", texts, ""), texts)
    return texts, changed
