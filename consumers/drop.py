"""A drop and its answer: what a flow is given, and what it returns."""

from dataclasses import dataclass

from events.keys import JobRef
from events.manifest import Manifest
from events.results import ResultFile, SheetRows


@dataclass(frozen=True, slots=True)
class Drop:
    """What a flow works on: a checked manifest, and where its results go."""

    job: JobRef
    epoch: int
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Answer:
    """What a flow returns: what was delivered, a text, and every decision taken on the way."""

    files: tuple[ResultFile, ...]
    text: str | None = None
    sheet: SheetRows | None = None
    notes: tuple[str, ...] = ()
