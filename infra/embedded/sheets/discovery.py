"""Google's discovery document of the Sheets API: which methods there are, and what they take.

Every request is checked against it before anything else looks at it. Stricter than Google, which also takes
numbers as text, and field names in snake case.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Never
from urllib.parse import unquote

from infra.embedded.sheets.errors import ApiError, Json, bad_field, bad_mask
from infra.embedded.sheets.masks import Mask

DOCUMENT = "discovery_cache/documents/sheets.v4.json"

INT32 = range(-(2**31), 2**31)

Check = Callable[[Any], None]


class _Mismatch(Exception):
    """``tell`` makes the message, once the whole place is known; ``place`` grows on the way out."""

    def __init__(self, tell: Callable[[str], str]) -> None:
        super().__init__()
        self.tell = tell
        self.place = ""

    def inside(self, name: str) -> None:
        self.place = f"{name}{self.place}" if self.place.startswith("[") or not self.place else f"{name}.{self.place}"


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the API; ``name`` as in the document, without ``sheets.`` in front."""

    name: str
    verb: str
    pattern: re.Pattern[str]
    parameters: dict[str, Json]
    request: str | None
    response: str


@dataclass(frozen=True, slots=True)
class Route:
    """A method, and what the path holds for it."""

    method: Method
    path: dict[str, str]


@dataclass(slots=True)
class Discovery:
    """The document, ready for checking."""

    methods: list[Method]
    common: dict[str, Json]
    schemas: dict[str, Json]
    _checks: dict[str, dict[str, Check]] = field(default_factory=dict)

    def route(self, verb: str, path: str) -> Route:
        for method in self.methods:
            found = method.pattern.fullmatch(path) if method.verb == verb else None
            if found is not None:
                return Route(method, {name: unquote(part) for name, part in found.groupdict().items()})
        raise ApiError(404, f"Method not found: {verb} {path}")

    def check_query(self, method: Method, query: Iterable[tuple[str, str]]) -> None:
        seen: set[str] = set()
        for name, text in query:
            about = method.parameters.get(name) or self.common.get(name)
            if about is None or about.get("location") == "path":
                raise bad_field(name, _unbound(name))
            if name in seen and not about.get("repeated"):
                raise bad_field(name, f"Invalid value at '{name}', the parameter is not repeated.")
            seen.add(name)
            _check_text(name, text, about)

    def check_path(self, route: Route) -> None:
        for name, text in route.path.items():
            _check_text(name, text, route.method.parameters[name])

    def check_body(self, method: Method, body: Any) -> None:
        """Raise ApiError unless the body fits; drops its nulls, which JSON of protobuf reads as "not set"."""
        if method.request is None:
            if body:
                raise bad_field("", _unknown(next(iter(body)))(""))
            return
        try:
            self._check_message(method.request, body)
        except _Mismatch as mismatch:
            raise bad_field(mismatch.place, mismatch.tell(mismatch.place)) from None

    def check_mask(self, schema: str, mask: Mask, at: str = "") -> None:
        """Raise ApiError where a mask names what the schema does not have."""
        properties = self.schemas[schema].get("properties", {})
        for name, below in mask.items():
            about = properties.get(name)
            if about is None:
                raise bad_mask(f"{at}{name}")
            inner = about.get("items", about).get("$ref")
            if below and inner is None:
                raise bad_mask(f"{at}{name}.{next(iter(below))}")
            if below:
                self.check_mask(inner, below, f"{at}{name}.")

    def _check_message(self, schema: str, value: Any) -> None:
        if not isinstance(value, dict):
            _refuse_value(value, f"type.googleapis.com/google.apps.sheets.v4.{schema}")
        checks = self._checks.get(schema) or self._compile(schema)
        nulls = []
        for name, item in value.items():
            if item is None:
                nulls.append(name)
            check = checks.get(name)
            if check is None:
                raise _Mismatch(_unknown(name))
            if item is None:
                continue
            try:
                check(item)
            except _Mismatch as mismatch:
                mismatch.inside(_snake(name))
                raise
        for name in nulls:
            del value[name]

    def _compile(self, schema: str) -> dict[str, Check]:
        properties = self.schemas[schema].get("properties", {})
        checks = {name: self._check_of(about) for name, about in properties.items()}
        self._checks[schema] = checks
        return checks

    def _check_of(self, about: Json) -> Check:
        if "$ref" in about:
            schema = about["$ref"]
            return lambda value: self._check_message(schema, value)
        if about["type"] == "array":
            inner = self._check_of(about["items"])
            # A cell of a ValueRange may be null: it is skipped.
            nullable = about["items"].get("type") == "any"
            return lambda value: _check_array(value, inner, nullable=nullable)
        if "enum" in about:
            known = frozenset(about["enum"])
            return lambda value: (
                None if isinstance(value, str) and value in known else _refuse_value(value, "TYPE_ENUM")
            )
        return _SCALARS.get(about["type"], _anything)


def _check_array(value: Any, inner: Check, *, nullable: bool) -> None:
    if not isinstance(value, list):
        _refuse_value(value, "repeated")
    for index, item in enumerate(value):
        if item is None and nullable:
            continue
        try:
            inner(item)
        except _Mismatch as mismatch:
            mismatch.inside(f"[{index}]")
            raise


def _anything(_: Any) -> None:
    return None


def _string(value: Any) -> None:
    if not isinstance(value, str):
        _refuse_value(value, "TYPE_STRING")


def _boolean(value: Any) -> None:
    if not isinstance(value, bool):
        _refuse_value(value, "TYPE_BOOL")


def _integer(value: Any) -> None:
    if type(value) is not int or value not in INT32:
        _refuse_value(value, "TYPE_INT32")


def _number(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse_value(value, "TYPE_DOUBLE")


_SCALARS: dict[str, Check] = {"string": _string, "boolean": _boolean, "integer": _integer, "number": _number}


def _refuse_value(value: Any, kind: str) -> Never:
    shown = json.dumps(value)[:200]
    raise _Mismatch(lambda place: f"Invalid value at '{place}' ({kind}), {shown}")


def _unknown(name: str) -> Callable[[str], str]:
    def tell(place: str) -> str:
        at = f" at '{place}'" if place else ""
        return f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.'

    return tell


def _unbound(name: str) -> str:
    return (
        f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. '
        f"Field '{name}' could not be found in request message."
    )


def _check_text(name: str, text: str, about: Json) -> None:
    fits = True
    if "enum" in about:
        fits = text in about["enum"]
    elif about.get("type") == "boolean":
        fits = text in ("true", "false", "True", "False", "1", "0")
    elif about.get("type") == "integer":
        fits = re.fullmatch(r"-?[0-9]{1,10}", text, re.ASCII) is not None and int(text) in INT32
    if not fits:
        kind = {"boolean": "TYPE_BOOL", "integer": "TYPE_INT32"}.get(about.get("type", ""), "TYPE_ENUM")
        raise bad_field(name, f"Invalid value at '{_snake(name)}' ({kind}), {json.dumps(text)}")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: f"_{found[1].lower()}", name)


def _methods(resource: Json) -> Iterable[Json]:
    yield from resource.get("methods", {}).values()
    for inner in resource.get("resources", {}).values():
        yield from _methods(inner)


def _method(about: Json) -> Method:
    parts = re.split(r"\{(\w+)\}", about["path"])
    pattern = "".join(f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    return Method(
        name=about["id"].removeprefix("sheets."),
        verb=about["httpMethod"],
        pattern=re.compile(f"/{pattern}"),
        parameters=about["parameters"],
        request=about.get("request", {}).get("$ref"),
        response=about["response"]["$ref"],
    )


@cache
def discovery() -> Discovery:
    """The document that google-api-python-client ships."""
    document = json.loads(files("googleapiclient").joinpath(DOCUMENT).read_bytes())
    found = [_method(about) for about in _methods(document)]
    # ``values/{range}`` also fits ``values/A1:append``: the longer template comes first.
    found.sort(key=lambda method: -len(method.pattern.pattern))
    return Discovery(found, document["parameters"], document["schemas"])
