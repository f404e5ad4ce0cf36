"""The words: what the model is told of an error in its code, with or without what the error quotes."""

import ast
import builtins
import re
import traceback
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

CODE_NAME = "answer.py"
MAX_PROBLEM_CHARS = 2_000
MAX_HINT_CHARS = 1_500

Columns = Mapping[str, Sequence[object]]


class Words:
    """Problems of one program over ``tables``, in words for the model; made before the program runs.

    Unless ``show_values``, they hold of an error's text only what speaks of code, columns or types alone:
    never of a cell.
    """

    def __init__(self, code: str, tables: Mapping[str, pd.DataFrame], *, show_values: bool) -> None:
        self._code = code
        self._tables = tables
        self._show_values = show_values
        # Remembered, because a program may make headings out of cells.
        self._columns = _columns(tables)

    def raised(self, error: BaseException) -> str:
        """The traceback through the program, the error's text, and a hint."""
        if isinstance(error, SystemExit):
            return "The code ended itself with exit(). Run to the last line instead."
        if self._show_values:
            return full(error) + _hint(error, _columns(self._tables))
        lines = _of_program(traceback.TracebackException.from_exception(error).stack).format()
        told = ["Traceback (most recent call last):\n", *lines, self.sentence(error)]
        return bounded("".join(told)) + _hint(error, self._columns)

    def sentence(self, error: BaseException) -> str:
        """``KeyError: 'Revenue'``, or ``ValueError`` alone where the text could quote a cell."""
        if self._show_values:
            return f"{type(error).__name__}: {error}"
        kind = self.kind(error)
        if isinstance(error, KeyError) and len(error.args) == 1 and type(error.args[0]) in (str, int):
            key = error.args[0]
            return f"{kind}: {key!r}" if self._is_name(str(key)) or self._is_known(str(key)) else kind
        text = str(error)
        return f"{kind}: {text}" if self._is_known(text) else kind

    def kind(self, value: object) -> str:
        """The name of its class, unless the program may have made that out of a cell."""
        name = type(value).__name__
        made_here = type(value).__module__ == "__main__" and name not in self._words()
        return "object" if made_here and not self._show_values else name

    def _is_known(self, text: str) -> bool:
        """Whether it is a sentence that we know, about names that are known."""
        matches = (sentence.fullmatch(text) for sentence in _SENTENCES)
        return any(match is not None and all(map(self._may_stand, match.groups(""))) for match in matches)

    def _may_stand(self, blank: str) -> bool:
        items = re.findall(r"'([^']*)'", blank)
        listed = bool(items) and ", ".join(f"'{item}'" for item in items) == blank
        return blank == "" or self._is_name(blank) or (listed and all(map(self._is_name, items)))

    def _is_name(self, text: str) -> bool:
        """Whether the program, the tables or the types of Python and pandas have it."""
        literals = (str(node.value) for node in ast.walk(ast.parse(self._code)) if isinstance(node, ast.Constant))
        headings = (str(heading) for headings in self._columns.values() for heading in headings)
        types = (builtins, np, pd)
        return text in {*self._words(), *literals, *headings, *self._columns, *_MORE_TYPES} or any(
            hasattr(module, text) for module in types
        )

    def _words(self) -> set[str]:
        return set(re.findall(r"\w+", self._code))


def full(error: BaseException) -> str:
    """The traceback through the program, and the error's text whatever it quotes."""
    told = traceback.TracebackException.from_exception(error)
    told.stack = _of_program(told.stack)
    told.__cause__ = told.__context__ = None
    return bounded("".join(told.format()))


def _of_program(stack: traceback.StackSummary) -> traceback.StackSummary:
    return traceback.StackSummary.from_list([frame for frame in stack if frame.filename == CODE_NAME])


def _columns(tables: Mapping[str, pd.DataFrame]) -> Columns:
    # The program may have put anything into `tables`.
    return {name: list(getattr(frame, "columns", [])) for name, frame in tables.items()}


_MORE_TYPES = {"NoneType", "string", "integer", "floating", "DataFrameGroupBy", "SeriesGroupBy", "function"}

# The commonest errors of Python and pandas that quote no cell. A program can raise the same words itself, and fill
# them with cells: so each blank must hold a name that is known.
_ITEMS = r"\[((?:'[^']*'(?:, )?)+)\]"
_SENTENCES = [
    re.compile(pattern)
    for pattern in (
        r"name '(.+)' is not defined",
        r"cannot access local variable '(.+)' where it is not associated with a value",
        r"No module named '(.+)'",
        r"'(\w+)' object has no attribute '(.+)'",
        r"module '([\w.]+)' has no attribute '(\w+)'",
        r"'(\w+)' object is not (?:callable|subscriptable|iterable)",
        r"object of type '(\w+)' has no len\(\)",
        r"(?:(?:NDFrame|DataFrame|Series|GroupBy)\.)?(\w+)\(\) got an unexpected keyword argument '(\w+)'",
        r"unsupported operand type\(s\) for \S{1,3}: '(\w+)' and '(\w+)'",
        r"operation 'r?(?:add|sub|mul|truediv|floordiv|mod|pow)' not supported for dtype '(\w+)' with dtype '(\w+)'",
        r"Cannot perform reduction '(\w+)' with (\w+) dtype",
        r"Can only use \.(\w+) accessor with (?:datetimelike|string) values(?:, not (\w+))?!?",
        r"The truth value of a (\w+) is ambiguous\. Use a\.empty, a\.item\(\), a\.any\(\) or a\.all\(\)\.",
        (
            r"You are trying to merge on (\w+) and (\w+) columns for key '(.+)'\. If you wish to proceed you should "
            r"use pd\.concat"
        ),
        (
            r"No common columns to perform merge on\. Merge options: left_on=None, right_on=None, left_index=False, "
            r"right_index=False"
        ),
        r"single positional indexer is out-of-bounds",
        r"Columns? not found: (.+)",
        rf"{_ITEMS} not (?:in index|found in axis)",
        rf"None of \[Index\({_ITEMS}, dtype='(\w+)'\)\] are in the \[columns\]",
        rf"Label\(s\) {_ITEMS} do not exist",
        (
            r'Unable to determine data type for the field "(.+)"; verify that the field name is not misspelled\. If '
            r"you are referencing a field from a transform, also confirm that the data type is specified correctly\."
        ),
    )
]


def _hint(error: BaseException, columns: Columns) -> str:
    """What a reader of the bare message could not know."""
    if isinstance(error, NameError) and error.name == "df":
        return f"\nThere are several tables and no `df`. Take them from `tables`: {', '.join(map(repr, columns))}."
    if isinstance(error, FileNotFoundError):
        return f"\nThere are no files. The data is in `tables`: {', '.join(map(repr, columns))}."
    if isinstance(error, PermissionError):
        return "\nThe code is one process without network: no subprocess and no pool of processes. Threads work."
    if isinstance(error, KeyError):
        return _column_hint(str(error), columns)[:MAX_HINT_CHARS]
    return ""


def _column_hint(message: str, columns: Columns) -> str:
    """Where the missing column is, when it is in some table, and which columns there are."""
    owners = [
        f"{column!r} is a column of {name!r}: merge the tables first."
        for name, heads in columns.items()
        for column in heads
        if len(columns) > 1 and repr(column) in message
    ]
    known = [f"{name!r} has the columns {', '.join(map(repr, heads))}." for name, heads in columns.items()]
    return "\n" + "\n".join(owners[:3] + known)


def bounded(text: str) -> str:
    """The end of a long text, where Python says what went wrong."""
    return text.strip("\n") if len(text) <= MAX_PROBLEM_CHARS else "…" + text[-MAX_PROBLEM_CHARS:].rstrip("\n")
