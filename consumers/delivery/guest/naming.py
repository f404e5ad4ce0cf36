"""Names of tables as names of tabs and files: a display name is any text at all."""

import re
import unicodedata
from collections.abc import Sequence

# Microsoft, "Rename a worksheet".
MAX_TAB_UNITS = 31
_NOT_IN_TABS = re.compile(r"[\[\]:*?/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]+")
_MAX_SLUG = 40


def tab_names(names: Sequence[str]) -> list[str]:
    """For each name a tab's: at most 31 UTF-16 units, none of ``[]:*?/\\``, unique whatever the case."""
    unique: list[str] = []
    taken: set[str] = set()
    for place, name in enumerate(names, start=1):
        base = chosen = _tab(name, place)
        number = 2
        while chosen.casefold() in taken:
            ending = f" ({number})"
            chosen, number = _cut(base, MAX_TAB_UNITS - len(ending)) + ending, number + 1
        taken.add(chosen.casefold())
        unique.append(chosen)
    return unique


def file_names(names: Sequence[str], suffix: str) -> list[str]:
    """For each name a file's: its place, a slug of ASCII letters, digits and hyphens, and the suffix.

    The place keeps them apart from each other, and from what systems reserve (``con``, ``nul``).
    """
    return [f"{number}-{_slug(name) or 'table'}.{suffix}" for number, name in enumerate(names, start=1)]


def _tab(name: str, number: int) -> str:
    plain = " ".join(_NOT_IN_TABS.sub(" ", name).split())
    plain = _cut(plain.strip("' "), MAX_TAB_UNITS).strip("' ")
    if plain.casefold() == "history":
        # Excel keeps this one for itself.
        return f"{plain} table"
    return plain or f"Table {number}"


def _slug(name: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:_MAX_SLUG].strip("-")


def _cut(text: str, units: int) -> str:
    """At most so many UTF-16 units, and no half of a pair."""
    return text.encode("utf-16-le")[: 2 * units].decode("utf-16-le", "ignore")
