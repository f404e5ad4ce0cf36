"""What a function that runs inside is given, and how it refuses."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Folders:
    """``inputs`` is read-only; what is to be kept goes to ``output``, as plain files, no folders."""

    inputs: Path
    output: Path


class Refusal(Exception):
    """The input cannot be used: a failure code of the contract, and a sentence for the uploader."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
