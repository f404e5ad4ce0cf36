"""The profile: what is known of the tables, parsed from the sandbox's report and told to a language model."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

MAX_TABLES = 64
MAX_COLUMNS = 4200
MAX_NOTES = 300
PROMPT_CHARACTERS = 9_000
"""About 3,000 tokens: a small model with 8,192 has to hold instructions, code and its reply too."""


def _one_line(text: str) -> str:
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text):
        raise ValueError("control characters")
    return text


Line = Annotated[str, StringConstraints(max_length=400), AfterValidator(_one_line)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=120), AfterValidator(_one_line)]
Shown = Annotated[str, StringConstraints(max_length=100), AfterValidator(_one_line)]
Count = Annotated[int, Field(ge=0, le=2**53)]


class _FromGuest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Note(_FromGuest):
    """One decision, for people. ``values`` come from the file, ``text`` does not (but for names of columns)."""

    text: Line
    values: Annotated[tuple[Shown, ...], Field(max_length=5, strict=False)] = ()

    def __str__(self) -> str:
        return f"{self.text} ({'; '.join(self.values)})" if self.values else self.text


class ColumnProfile(_FromGuest):
    """One column. ``distinct`` is None above 10,000; ``min`` and ``max`` are given for numbers and dates."""

    name: Name
    type: Literal["text", "integer", "decimal", "date", "datetime", "boolean"]
    unit: Shown | None
    empty: Count
    distinct: Count | None
    min: Shown | None
    max: Shown | None
    examples: Annotated[tuple[Shown, ...], Field(max_length=5, strict=False)]


class TableProfile(_FromGuest):
    """One table: ``file`` is its Parquet file in the output folder, ``sample`` its first rows."""

    file: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}\.parquet$")]
    sheet: Name | None
    rows: Count
    columns: Annotated[tuple[ColumnProfile, ...], Field(min_length=1, max_length=MAX_COLUMNS, strict=False)]
    sample: Annotated[
        tuple[Annotated[tuple[Shown, ...], Field(max_length=200, strict=False)], ...],
        Field(max_length=10, strict=False),
    ]
    notes: Annotated[tuple[Note, ...], Field(max_length=MAX_NOTES, strict=False)]


class FileReport(_FromGuest):
    """What the reader inside the sandbox says of one file."""

    kind: Annotated[str, StringConstraints(pattern=r"^[a-z]{1,16}$")]
    encoding: Shown | None
    tables: Annotated[tuple[TableProfile, ...], Field(min_length=1, max_length=MAX_TABLES, strict=False)]
    notes: Annotated[tuple[Note, ...], Field(max_length=MAX_NOTES, strict=False)]

    @classmethod
    def parse(cls, value: object) -> Self:
        """Check a report, which is hostile until then; raises pydantic's ValidationError."""
        return cls.model_validate(value)


@dataclass(frozen=True, slots=True)
class _Detail:
    """How much is told: ``values`` of columns, ``sample`` rows, and how many columns have a line of their own."""

    values: bool
    sample: int
    lines: int


def describe_tables(tables: Sequence[tuple[str, TableProfile]], sample_rows: int) -> str:
    """The tables in few words, the same for the same tables, at most about ``PROMPT_CHARACTERS`` long.

    Each table comes with the name that code must use. With ``sample_rows`` 0 no value of a cell is in
    the text: no example, no bound, no row. What does not fit is cut, names of columns last, and said.
    """
    values = sample_rows > 0
    details = [
        _Detail(values, sample_rows, 60),
        _Detail(values, min(sample_rows, 1), 60),
        _Detail(values, 0, 60),
        _Detail(values=False, sample=0, lines=60),
        _Detail(values=False, sample=0, lines=0),
    ]
    for detail in details:
        text = "\n\n".join(_table(name, table, detail, PROMPT_CHARACTERS) for name, table in tables)
        if len(text) <= PROMPT_CHARACTERS:
            return text
    share = PROMPT_CHARACTERS // max(1, len(tables))
    return "\n\n".join(_table(name, table, details[-1], share) for name, table in tables)


def _table(name: str, table: TableProfile, detail: _Detail, characters: int) -> str:
    lines = [f"Table {_quoted(name)}: {table.rows:,} rows, {len(table.columns)} columns"]
    lines += [_column(column, detail) for column in table.columns[: detail.lines]]
    if rest := table.columns[detail.lines :]:
        lines.append(_names(rest, characters - sum(map(len, lines))))
    if detail.lines:
        lines += [f"Note: {note if detail.values else note.text}" for note in table.notes[:12]]
    if detail.sample and table.sample:
        lines.append("First rows:")
        lines += [" | ".join(row[: detail.lines]) for row in table.sample[: detail.sample]]
    return "\n".join(lines)


def _column(column: ColumnProfile, detail: _Detail) -> str:
    facts: list[str] = [column.type]
    if column.unit:
        facts.append(f"in {column.unit}")
    if column.empty:
        facts.append(f"{column.empty:,} empty")
    if column.distinct is not None and column.type == "text":
        facts.append(f"{column.distinct:,} different")
    if detail.values and column.min is not None and column.max is not None:
        facts.append(f"from {column.min} to {column.max}")
    elif detail.values and column.examples:
        facts.append("e.g. " + ", ".join(map(_quoted, column.examples[:3])))
    return f"- {_quoted(column.name)}: {', '.join(facts)}"


def _names(columns: Sequence[ColumnProfile], characters: int) -> str:
    shown: list[str] = []
    room = max(200, characters - 60)
    for column in columns:
        text = f"{_quoted(column.name)} {column.type}"
        room -= len(text) + 2
        if room < 0:
            break
        shown.append(text)
    left = len(columns) - len(shown)
    return "- " + ", ".join(shown) + (f", and {left} more columns that are not listed here" if left else "")


def _quoted(text: str) -> str:
    """As a Python string literal: that is how code must write it."""
    return repr(text)
