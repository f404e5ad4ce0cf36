"""Rows as bytes: columns of texts become the lines of a file, without a Python object for each cell.

Arrow joins the cells of a whole batch at once, some ten times faster than a loop over them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def lines(parts: Sequence[Any], *, null: str) -> memoryview:
    """For each row its parts one after the other, all rows in one piece.

    A part is a string array, or a text for every row; ``null`` is what stands for what is missing.
    """
    joined = pc.binary_join_element_wise(*_merged(parts), "", null_handling="replace", null_replacement=null)
    _, offsets, data = joined.buffers()
    ends = memoryview(offsets).cast("i")
    begin, end = ends[joined.offset], ends[joined.offset + len(joined)]
    return memoryview(data)[begin:end] if data is not None else memoryview(b"")


def _merged(parts: Sequence[Any]) -> list[Any]:
    """Texts that follow each other are one text."""
    merged: list[Any] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def mended(texts: Any, mask: Any, mend: Callable[[str], str]) -> Any:
    """The texts where ``mask`` is true through a function, one by one: for what is rare."""
    mask = pc.fill_null(mask, False)
    if not pc.any(mask).as_py():
        return texts
    replaced = [mend(text) for text in texts.filter(mask).to_pylist()]
    return pc.replace_with_mask(texts, mask, pa.array(replaced, pa.string()))


def count(mask: Any) -> int:
    """How many are true."""
    return pc.sum(mask).as_py() or 0


def replaced(texts: Any, *pairs: tuple[str, str]) -> Any:
    """Each first text replaced by its second, in order."""
    for old, new in pairs:
        texts = pc.replace_substring(texts, old, new)
    return texts
