"""JSON, as one array of objects, or as one object on each line: ISO 8601 dates, null for what is missing."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from consumers.delivery.guest.batches import Result
from consumers.delivery.guest.files import BoundedFile, Room
from consumers.delivery.guest.lines import count, lines, mended, replaced

_CONTROLS = r"[\x00-\x1f]"
# RFC 8259, section 6: most readers take every number for a double, which keeps 15 digits of any.
_MAX_DIGITS = 15
_MAX_INTEGER = 2**53 - 1


def write_json(result: Result, path: Path, room: Room) -> int:
    """An array with one object for each row; returns how many numbers became texts, to keep every digit."""
    begin, rows = b"[", _Rows(result, before=",\n", after="")
    with BoundedFile(path, room) as file:
        for batch in result.batches():
            objects = rows.objects(batch)
            file.write(begin + objects[1:] if begin else objects)
            begin = b""
        file.write(begin + b"\n]\n")
    return rows.long


def write_jsonl(result: Result, path: Path, room: Room) -> int:
    """One object on each line, for each row; returns what ``write_json`` does."""
    rows = _Rows(result, before="", after="\n")
    with BoundedFile(path, room) as file:
        for batch in result.batches():
            file.write(rows.objects(batch))
    return rows.long


class _Rows:
    """Spells the rows of a result, each between two texts; ``long`` counts the numbers that became texts."""

    def __init__(self, result: Result, *, before: str, after: str) -> None:
        self._names = [json.dumps(name, ensure_ascii=False) for name in result.names]
        self._before = before
        self._after = after
        self.long = 0

    def objects(self, batch: Any) -> memoryview:
        parts: list[Any] = [self._before + "{"]
        for i, (name, column) in enumerate(zip(self._names, batch.columns, strict=True)):
            parts += [", " if i else "", name, ": ", self._values(column)]
        return lines([*parts, "}" + self._after], null="null")

    def _values(self, column: Any) -> Any:
        kind = column.type
        if pa.types.is_string(kind):
            return _quoted(_escaped(column))
        if pa.types.is_floating(kind):
            return pc.cast(pc.if_else(pc.is_finite(column), column, None), pa.string())
        spelled = pc.cast(column, pa.string())
        if pa.types.is_decimal(kind):
            long = pc.greater(pc.utf8_length(significant_digits(spelled)), _MAX_DIGITS)
            return self._kept(spelled, long)
        if pa.types.is_integer(kind) and kind.bit_width > 32:
            return self._kept(spelled, beyond(column, _MAX_INTEGER))
        if pa.types.is_timestamp(kind):
            whole = pc.ends_with(spelled, ".000000")
            spelled = pc.if_else(whole, pc.utf8_slice_codeunits(spelled, 0, -7), spelled)
            return _quoted(replaced(spelled, (" ", "T")))
        return _quoted(spelled) if pa.types.is_temporal(kind) else spelled

    def _kept(self, spelled: Any, long: Any) -> Any:
        many = count(long)
        self.long += many
        return pc.if_else(long, _quoted(spelled), spelled) if many else spelled


def beyond(integers: Any, limit: int) -> Any:
    """Whether 64-bit integers lie beyond a limit on either side of zero."""
    kind = integers.type
    above = pc.greater(integers, pa.scalar(limit, kind))
    # Arrow compares unsigned with negative ones as signed, which the largest are not.
    return pc.or_(above, pc.less(integers, pa.scalar(-limit, kind))) if pa.types.is_signed_integer(kind) else above


def significant_digits(numbers: Any) -> Any:
    """The digits of spelled numbers from the first that is not zero to the last one."""
    return pc.replace_substring_regex(numbers, r"^[-0.]+|[eE].*$|\.|\.?0+$", "")


def _escaped(texts: Any) -> Any:
    controls = pc.match_substring_regex(texts, _CONTROLS)
    return mended(replaced(texts, ("\\", "\\\\"), ('"', '\\"')), controls, _escape_controls)


def _escape_controls(text: str) -> str:
    return "".join(json.dumps(character)[1:-1] if character < " " else character for character in text)


def _quoted(texts: Any) -> Any:
    return pc.binary_join_element_wise('"', texts, '"', "")
