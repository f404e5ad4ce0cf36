"""Field masks: ``a,b(c,d/e)`` as a tree, for choosing from a reply and for updating a resource.

A tree maps names to trees; the empty tree stands for everything below. Source: Google APIs, "Partial responses",
and protobuf's FieldMask.
"""

from typing import Any

from infra.embedded.sheets.errors import Json, bad_mask

Mask = dict[str, "Mask"]

EVERYTHING: Mask = {}


def parse(text: str) -> Mask:
    """Read a mask; raises ApiError where it is none."""
    parser = _Parser(text)
    mask = parser.paths()
    if parser.at != len(text):
        raise bad_mask(text)
    return EVERYTHING if "*" in mask else mask


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def paths(self) -> Mask:
        found: Mask = {}
        while True:
            self._path(found)
            if not self._skip(","):
                return found

    def _path(self, into: Mask) -> None:
        start = self.at
        while self.at < len(self._text) and self._text[self.at] not in ",()./":
            self.at += 1
        name = self._text[start : self.at].strip()
        if not name:
            raise bad_mask(self._text)
        known = into.get(name)
        if self._skip("(") or self._skip(".") or self._skip("/"):
            below = self._below()
            into[name] = EVERYTHING if known == EVERYTHING else _union(known or {}, below)
        else:
            into[name] = EVERYTHING

    def _below(self) -> Mask:
        below: Mask = {}
        if self._text[self.at - 1] != "(":
            self._path(below)
        else:
            below = self.paths()
            if not self._skip(")"):
                raise bad_mask(self._text)
        return EVERYTHING if "*" in below else below

    def _skip(self, sign: str) -> bool:
        if self._text.startswith(sign, self.at):
            self.at += 1
            return True
        return False


def _union(one: Mask, other: Mask) -> Mask:
    if not other:
        return EVERYTHING
    both = dict(one)
    for name, below in other.items():
        both[name] = _union(both[name], below) if both.get(name) else (EVERYTHING if name in both else below)
    return both


def select(value: Any, mask: Mask) -> Any:
    """What of a JSON value the mask asks for."""
    if not mask:
        return value
    if isinstance(value, list):
        return [select(item, mask) for item in value]
    if isinstance(value, dict):
        return {name: select(value[name], below) for name, below in mask.items() if name in value}
    return value


def below(mask: Mask | None, name: str) -> Mask | None:
    """The part of a mask below a name, None where the mask leaves the name out."""
    if mask is None:
        return None
    return mask.get(name) if mask else EVERYTHING


def merge(target: Json, source: Json, mask: Mask) -> Json:
    """A new resource: ``target`` with the masked fields of ``source``; what ``source`` lacks is cleared."""
    if not mask:
        return dict(source)
    merged = dict(target)
    for name, part in mask.items():
        value = source.get(name)
        if part:
            value = merge(merged.get(name) or {}, value or {}, part)
        if value is None or value == {}:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged
