"""A lean start: what a guest must not import, because the second it takes is somebody's waiting."""

import gc
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _NoPandas(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ImportError("pandas stays out of this process")
        return None


def stay_lean() -> None:
    """For a process that moves tables and ends: no pandas, no collection of cycles.

    pyarrow imports pandas, where it finds it, at the first array it makes (its ``pandas-shim``). And
    millions of small lists hold no cycles; the collector would walk them over and over.
    """
    sys.meta_path.insert(0, _NoPandas())
    gc.disable()
