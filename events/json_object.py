"""A JSON object from outside: read by the letter of RFC 8259, or refused in words.

Python's own reader also takes NaN, other encodings and a name that occurs twice, of which the next
reader might take the other value.
"""

import json
from typing import Any, Never

MAX_INTEGER_DIGITS = 20


class JsonError(ValueError):
    """The text holds no JSON object; says what is wrong, to be put after "it is not JSON: "."""


def load_object(text: str | bytes) -> dict[str, Any]:
    """Read one JSON object; raises JsonError."""
    try:
        payload = json.loads(
            text if isinstance(text, str) else text.decode("utf-8-sig"),
            parse_int=_integer,
            parse_constant=_no_constant,
            object_pairs_hook=_unique_names,
        )
    except JsonError:
        raise
    except json.JSONDecodeError as error:
        raise JsonError(f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise JsonError(f"byte {error.start} is not UTF-8") from error
    except RecursionError as error:
        raise JsonError("it is nested too deeply") from error
    if not isinstance(payload, dict):
        raise JsonError(f"it is {in_words(payload)}, where an object is needed")
    return payload


def in_words(value: Any) -> str:
    """A short, harmless name of a JSON value: a small number as it is, otherwise its type, or its beginning."""
    match value:
        case None | bool() | int() | float():
            return json.dumps(value)
        case str():
            return json.dumps(value[:40])
        case list():
            return "an array"
        case _:
            return "an object"


def _integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise JsonError(f"a number has {len(digits):,} digits")
    return int(digits)


def _no_constant(name: str) -> Never:
    raise JsonError(f"{name} is no JSON number")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise JsonError(f"the name {in_words(name)} occurs twice in one object")
        found[name] = value
    return found
