"""Writes the JSON Schemas beside this file from the models: ``python -m events.schema.generate [--check]``.

With ``--check`` nothing is written: it exits with 1 and names each file that is not what the models say.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema

from events.manifest import Manifest
from events.results import JobEvent
from events.status import JobStatus

FOLDER = Path(__file__).parent
COMMAND = "python -m events.schema.generate"

# A manifest is what others write, the other two are what they read: there, defaults are always written.
_CONTRACTS: tuple[tuple[str, TypeAdapter[Any], JsonSchemaMode], ...] = (
    ("manifest", TypeAdapter(Manifest), "validation"),
    ("job-event", TypeAdapter(JobEvent), "serialization"),
    ("job-status", TypeAdapter(JobStatus), "serialization"),
)
_VERSION = 1


class _ContractSchema(GenerateJsonSchema):
    def generate(self, schema: core_schema.CoreSchema, mode: JsonSchemaMode = "validation") -> dict[str, Any]:
        return {"$schema": self.schema_dialect, **super().generate(schema, mode=mode)}

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        inner = field["schema"]
        if inner["type"] != "default":
            return True
        if inner["schema"]["type"] == "literal" and len(inner["schema"]["expected"]) == 1:
            # It tells the members of a union apart.
            return True
        return self.mode == "serialization" and inner.get("default", ...) is not None

    def field_title_should_be_set(self, schema: Any) -> bool:
        # A title that repeats the field's name says nothing, and becomes a type of its own in TypeScript.
        return False


def schemas() -> dict[str, str]:
    """The text of every schema, by file name."""
    return {f"{name}.schema.json": _text(_schema(name, adapter, mode)) for name, adapter, mode in _CONTRACTS}


def _schema(name: str, adapter: TypeAdapter[Any], mode: JsonSchemaMode) -> dict[str, Any]:
    schema = adapter.json_schema(schema_generator=_ContractSchema, mode=mode)
    # The head first: it is what a reader looks for.
    head = {"$schema": "", "$id": f"urn:dropchute:schema:{name}:{_VERSION}", "title": "", "description": ""}
    return head | schema


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def stale(folder: Path) -> list[str]:
    """The files of the folder that are missing, or not what the models say."""
    return [name for name, text in schemas().items() if not _holds(folder / name, text)]


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def main(arguments: Sequence[str] | None = None, *, folder: Path = FOLDER) -> int:
    """Write the schemas, or check them; returns the exit code."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the JSON Schemas of the contract.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    if not parser.parse_args(arguments).check:
        for name, text in schemas().items():
            (folder / name).write_text(text, encoding="utf-8")
        return 0
    found = stale(folder)
    for name in found:
        sys.stderr.write(f"{folder / name} is not what the models say. Mend it with: {COMMAND}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
