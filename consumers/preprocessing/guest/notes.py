"""A note: one sentence for people about a decision, with the values of the file kept apart from it.

They are kept apart so that a sentence can be shown to a model that must not see values.
"""

from collections.abc import Iterable
from typing import Any

CELL_CHARACTERS = 80
NOTE_CHARACTERS = 400
NAME_CHARACTERS = 100

Note = dict[str, Any]


def note(text: str, values: Iterable[str] = ()) -> Note:
    return {"text": clean(text, NOTE_CHARACTERS), "values": [clean(value) for value in list(values)[:5]]}


def clean(text: str, length: int = CELL_CHARACTERS) -> str:
    """One printable line of at most ``length`` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * length]).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def counted(count: int, noun: str) -> str:
    """ "1 line", "3 lines"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


class Tally:
    """How often something happened, and in which lines first."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[int] = []

    def add(self, line: int) -> None:
        self.count += 1
        if len(self._first) < 3:
            self._first.append(line)

    def __str__(self) -> str:
        lines = ", ".join(map(str, self._first))
        more = ", …" if self.count > len(self._first) else ""
        return f"{counted(self.count, 'line')} ({lines}{more})"
