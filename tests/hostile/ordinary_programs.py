"""All ordinary programs by family; several in one run, and what of it differs from the right result."""

import base64
import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import ordinary_drawings
import ordinary_learning
import ordinary_standard
import ordinary_statistics
import ordinary_tables
import pyarrow as pa
from ordinary_program import ORDERS, Order, Picture, Program
from PIL import Image

FAMILIES: dict[str, Sequence[Program]] = {
    "tables": ordinary_tables.PROGRAMS,
    "standard library": ordinary_standard.PROGRAMS,
    "scipy": ordinary_statistics.SCIPY,
    "statsmodels": ordinary_statistics.STATSMODELS,
    "scikit-learn": ordinary_learning.PROGRAMS,
    "matplotlib": ordinary_drawings.PROGRAMS,
}

_PNG = base64.b64encode(b"\x89PNG\r\n").decode()

# Each as the analyst's code is run, in a folder of its own; what it prints is told apart from the others'.
_TOGETHER = """
import contextlib, io, json, tempfile, traceback, warnings
from pathlib import Path

import pyarrow.parquet as pq
from consumers.sandbox.guest.contract import Folders
from consumers.sandbox.guest.run_code import run_query

outcomes = []
for code in PROGRAMS:
    folder, printed, columns, failed = Path(tempfile.mkdtemp()), io.StringIO(), {}, ""
    tables["orders"].to_parquet(folder / "0.parquet")
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), warnings.catch_warnings():
            arguments = {"code": code, "tables": [{"name": "orders", "file": "0.parquet"}]}
            report = run_query(arguments, Folders(folder, folder))
        columns = pq.read_table(folder / report["tables"][0]["file"]).to_pydict()
    except Exception:
        failed = traceback.format_exc()
    outcomes.append(json.dumps({"columns": columns, "printed": printed.getvalue(), "failed": failed}, default=str))
result = pd.DataFrame({"outcome": outcomes})
"""


def orders() -> pa.Table:
    return pa.table({name: [getattr(order, name) for order in ORDERS] for name in Order._fields})


def together(programs: Sequence[Program]) -> str:
    """One program that runs all of these; its column ``outcome`` has a JSON object for each."""
    return f"PROGRAMS = {[program.code for program in programs]!r}\n{_TOGETHER}"


def faults(program: Program, outcome: Mapping[str, Any]) -> list[str]:
    """How the outcome of a run differs from what is right, in words."""
    if outcome["failed"]:
        return [outcome["failed"]]
    found, right = outcome["columns"], program.result
    if outcome["printed"] != program.printed:
        return [f"printed {outcome['printed']!r}"]
    if list(found) != list(right):
        return [f"columns {list(found)}, not {list(right)}"]
    return [
        f"{name}: {_told(found[name])}, not {list(right[name])}"
        for name in right
        if not _same(found[name], right[name], program.within)
    ]


def _same(found: Sequence[Any], right: Sequence[Any], within: float) -> bool:
    return len(found) == len(right) and all(_equal(a, b, within) for a, b in zip(found, right, strict=True))


def _equal(found: Any, right: Any, within: float) -> bool:
    if isinstance(right, Picture):
        return shows(picture(base64.b64decode(found)), right)
    if isinstance(right, float) and isinstance(found, (int, float)):
        return math.isclose(found, right, rel_tol=within, abs_tol=within)
    return bool(found == (right if isinstance(right, (str, int, type(None))) else str(right)))


def _told(found: Sequence[Any]) -> str:
    pictures = [str(each).startswith(_PNG) for each in found]
    return str([picture(base64.b64decode(each)) for each in found] if all(pictures) else found)[:500]


def picture(png: bytes) -> Picture:
    """Its size and its ten commonest colours."""
    with Image.open(BytesIO(png)) as image:
        pixels = image.convert("RGB")
    counts = sorted(pixels.getcolors(maxcolors=2**24) or [], reverse=True)[:10]
    size = pixels.width * pixels.height
    return Picture(*pixels.size, {colour: count / size for count, colour in counts if isinstance(colour, tuple)})


def shows(found: Picture, right: Picture) -> bool:
    same_size = (found.width, found.height) == (right.width, right.height)
    return same_size and all(found.shares.get(colour, 0) >= share for colour, share in right.shares.items())
