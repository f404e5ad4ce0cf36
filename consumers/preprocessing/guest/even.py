"""The short way for text that is in order: a block whose every line is one row becomes columns at once."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv


def even_columns(block: str, *, width: int, delimiter: str) -> Any | None:
    """A record batch of ``width`` string columns; None where a line is blank, ragged or opens a lasting quote.

    Then the csv module, which can be told what to do about it, has to read the block. Both read quotes
    alike: a quote at the start of a cell opens it, a doubled one is a quote, any other is a character.
    """
    lines = block.count("\n") + (not block.endswith("\n"))
    if block.count("\r") != block.count("\r\n") or not delimiter.isascii():
        return None
    try:
        batch = csv.read_csv(
            io.BytesIO(block.encode()),
            read_options=csv.ReadOptions(use_threads=False, column_names=_NAMES[width], block_size=_WHOLE),
            parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(_NAMES[width], pa.string()), check_utf8=False, strings_can_be_null=False
            ),
        ).combine_chunks()
    except pa.ArrowInvalid:
        return None
    if batch.num_rows != lines or _has_blank_row(batch):
        return None
    return batch


class _ColumnNames(dict[int, list[str]]):
    def __missing__(self, width: int) -> list[str]:
        self[width] = [str(i) for i in range(width)]
        return self[width]


_NAMES = _ColumnNames()
# One chunk: a block of text is bounded already.
_WHOLE = 64 * 1024 * 1024


def _has_blank_row(batch: Any) -> bool:
    blank = pc.match_substring_regex(batch.column(0), r"^\s*$")
    for column in batch.columns[1:]:
        if not pc.any(blank).as_py():
            return False
        blank = pc.and_(blank, pc.match_substring_regex(column, r"^\s*$"))
    return bool(pc.any(blank).as_py())
