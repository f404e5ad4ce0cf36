"""One table of an answer, on its way from the analyst to where it is delivered."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ResultTable:
    """``name`` is a display name: any text at all; ``file`` is Parquet from a sandbox, never parsed out here."""

    name: str
    file: Path
    rows: int
    columns: int
