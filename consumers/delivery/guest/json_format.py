"""JSON, as one array of objects, or as one object on each line: ISO 8601 dates, null for what is missing."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from consumers.delivery.guest.batches import Result
from consumers.delivery.guest.files import BoundedFile, Room
from consumers.delivery.guest.lines import lines, mended, replaced

_CONTROLS = r"[\x00-\x1f]"
# RFC 8259, section 6: most readers take every number for a double, which keeps 15 digits of any.
_MAX_DIGITS = 15


def write_json(result: Result, path: Path, room: Room) -> None:
    """An array with one object for each row."""
    begin = b"["
    with BoundedFile(path, room) as file:
        for batch in result.batches():
            objects = _objects(result, batch, before=",\n", after="")
            file.write(begin + objects[1:] if begin else objects)
            begin = b""
        file.write(begin + b"\n]\n")


def write_jsonl(result: Result, path: Path, room: Room) -> None:
    """One object on each line, for each row."""
    with BoundedFile(path, room) as file:
        for batch in result.batches():
            file.write(_objects(result, batch, before="", after="\n"))


def _objects(result: Result, batch: Any, *, before: str, after: str) -> memoryview:
    parts: list[Any] = [before + "{"]
    for i, (name, column) in enumerate(zip(result.names, batch.columns, strict=True)):
        parts += [", " if i else "", json.dumps(name, ensure_ascii=False), ": ", _values(column)]
    return lines([*parts, "}" + after], null="null")


def _values(column: Any) -> Any:
    kind = column.type
    if pa.types.is_string(kind):
        return _quoted(_escaped(column))
    if pa.types.is_floating(kind):
        return pc.cast(pc.if_else(pc.is_finite(column), column, None), pa.string())
    spelled = pc.cast(column, pa.string())
    if pa.types.is_decimal(kind):
        digits = pc.utf8_length(significant_digits(spelled))
        return pc.if_else(pc.greater(digits, _MAX_DIGITS), _quoted(spelled), spelled)
    if pa.types.is_timestamp(kind):
        whole = pc.ends_with(spelled, ".000000")
        spelled = pc.if_else(whole, pc.utf8_slice_codeunits(spelled, 0, -7), spelled)
        return _quoted(replaced(spelled, (" ", "T")))
    return _quoted(spelled) if pa.types.is_temporal(kind) else spelled


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
