"""The template: read strictly, its intrinsics resolved, its resources in the order they depend on each other.

Only what infra/template.yaml uses is understood; anything else raises, so that nothing is dropped in silence.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from importlib.resources import files
from typing import Any

import yaml

SECTIONS = {"AWSTemplateFormatVersion", "Description", "Parameters", "Resources", "Outputs"}
PARAMETER_FIELDS = {"Type", "Default", "AllowedPattern", "Description"}
RESOURCE_FIELDS = {"Type", "DependsOn", "Properties"}

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")


class TemplateError(Exception):
    """The template holds something that provisioning does not know."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource as it stands in the template: its intrinsics are not resolved."""

    logical_id: str
    type: str
    properties: Mapping[str, Any]
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean: ``values`` for parameters and pseudo parameters, ``attribute`` for resources.

    ``attribute(logical_id, name)`` answers ``Fn::GetAtt``, and ``Ref`` under the name ``"Ref"``.
    """

    values: Mapping[str, Any]
    attribute: Callable[[str, str], Any]

    def ref(self, name: str) -> Any:
        return self.values[name] if name in self.values else self.attribute(name, "Ref")


class Template:
    """A parsed template; raises TemplateError on anything unknown in its outline."""

    def __init__(self, text: str) -> None:
        document = _parse(text)
        _refuse_unknown(document, SECTIONS, "the template")
        self._parameters: Mapping[str, Any] = document.get("Parameters", {})
        resources = [_resource(logical_id, entry) for logical_id, entry in document.get("Resources", {}).items()]
        self.resources = {resource.logical_id: resource for resource in resources}

    @classmethod
    def shipped(cls) -> "Template":
        """The project's own, infra/template.yaml."""
        return cls(files("infra").joinpath("template.yaml").read_text("utf-8"))

    def parameters(self, given: Mapping[str, str | Sequence[str]]) -> dict[str, Any]:
        """Every parameter's value, the given one or its default; raises TemplateError if one is not allowed."""
        _refuse_unknown(given, self._parameters, "the template's parameters")
        return {name: _parameter(name, entry, given) for name, entry in self._parameters.items()}

    def of_type(self, kind: str) -> Iterator[Resource]:
        return (resource for resource in self.resources.values() if resource.type == kind)

    def in_order(self) -> list[Resource]:
        """Every resource after those it needs; raises TemplateError on a circle."""
        graph = {logical_id: self._needs(resource) for logical_id, resource in self.resources.items()}
        try:
            return [self.resources[logical_id] for logical_id in TopologicalSorter(graph).static_order()]
        except CycleError as error:
            raise TemplateError(f"The resources depend on each other in a circle: {error.args[1]}.") from error

    def _needs(self, resource: Resource) -> set[str]:
        for logical_id in resource.depends_on:
            if logical_id not in self.resources:
                raise TemplateError(f"{resource.logical_id} depends on {logical_id}, which is not in the template.")
        mentioned = {*_mentioned(resource.properties), *resource.depends_on}
        return mentioned & self.resources.keys()


def resolve(value: Any, scope: Scope) -> Any:
    """A property with its intrinsics replaced by what they stand for; raises TemplateError on an unknown one."""
    match value:
        case {"Ref": str(name), **rest} if not rest:
            return scope.ref(name)
        case {"Fn::GetAtt": [str(logical_id), str(name)], **rest} if not rest:
            return scope.attribute(logical_id, name)
        case {"Fn::Sub": str(text), **rest} if not rest:
            return _PLACEHOLDER.sub(lambda match: _substitute(match[1], scope), text)
        case dict():
            for key in value:
                if key == "Ref" or key.startswith("Fn::"):
                    raise TemplateError(f"The intrinsic {key} is not known in this form: {value!r}.")
            return {key: resolve(inner, scope) for key, inner in value.items()}
        case list():
            return [resolve(inner, scope) for inner in value]
        case _:
            return value


def _substitute(name: str, scope: Scope) -> str:
    logical_id, dot, attribute = name.partition(".")
    value = scope.attribute(logical_id, attribute) if dot else scope.ref(name)
    if not isinstance(value, str):
        raise TemplateError(f"${{{name}}} stands for {value!r}, which is no text.")
    return value


def _mentioned(value: Any) -> Iterator[str]:
    """Every name that intrinsics within a value refer to."""
    match value:
        case {"Ref": str(name)}:
            yield name
        case {"Fn::GetAtt": [str(logical_id), *_]}:
            yield logical_id
        case {"Fn::Sub": str(text)}:
            yield from (name.partition(".")[0] for name in _PLACEHOLDER.findall(text))
        case dict():
            for inner in value.values():
                yield from _mentioned(inner)
        case list():
            for inner in value:
                yield from _mentioned(inner)


def _resource(logical_id: str, entry: Mapping[str, Any]) -> Resource:
    _refuse_unknown(entry, RESOURCE_FIELDS, logical_id)
    depends_on = entry.get("DependsOn", [])
    return Resource(
        logical_id=logical_id,
        type=entry["Type"],
        properties=entry.get("Properties", {}),
        depends_on=tuple([depends_on] if isinstance(depends_on, str) else depends_on),
    )


def _parameter(name: str, entry: Mapping[str, Any], given: Mapping[str, str | Sequence[str]]) -> Any:
    _refuse_unknown(entry, PARAMETER_FIELDS, f"the parameter {name}")
    if name not in given and "Default" not in entry:
        raise TemplateError(f"The parameter {name} needs a value.")
    value: Any = given[name] if name in given else entry["Default"]
    match entry["Type"]:
        case "String":
            pass
        case "CommaDelimitedList":
            value = value.split(",") if isinstance(value, str) else list(value)
        case unknown:
            raise TemplateError(f"The parameter {name} has the unknown type {unknown}.")
    for each in [value] if isinstance(value, str) else value:
        if not re.fullmatch(entry.get("AllowedPattern", ".*"), each):
            raise TemplateError(f"The parameter {name} may not be {each!r}: it must match {entry['AllowedPattern']}.")
    return value


def _refuse_unknown(given: Mapping[str, Any], known: set[str] | Mapping[str, Any], where: str) -> None:
    for name in given:
        if name not in known:
            raise TemplateError(f"{name} is not known in {where}.")


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms; any other tag is an error."""

    def ref(self, node: yaml.ScalarNode) -> dict[str, Any]:
        return {"Ref": self.construct_scalar(node)}

    def sub(self, node: yaml.ScalarNode) -> dict[str, Any]:
        return {"Fn::Sub": self.construct_scalar(node)}

    def get_att(self, node: yaml.ScalarNode) -> dict[str, Any]:
        return {"Fn::GetAtt": self.construct_scalar(node).split(".", 1)}


_Loader.add_constructor("!Ref", _Loader.ref)
_Loader.add_constructor("!Sub", _Loader.sub)
_Loader.add_constructor("!GetAtt", _Loader.get_att)


def _parse(text: str) -> dict[str, Any]:
    try:
        # A subclass of the safe loader, with three constructors that return plain dictionaries.
        document = yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.YAMLError as error:
        raise TemplateError(f"The template cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise TemplateError("The template is no mapping.")
    return document
