"""What is called inside the sandbox for a download: result tables become the files that are delivered."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from consumers.delivery.guest.batches import Result
from consumers.delivery.guest.csv_format import CsvChoices, write_csv
from consumers.delivery.guest.files import Room, described
from consumers.delivery.guest.json_format import write_json, write_jsonl
from consumers.delivery.guest.naming import file_names
from consumers.delivery.guest.parquet_format import write_parquet
from consumers.delivery.guest.xlsx import write_xlsx
from consumers.sandbox.guest.contract import Folders, Refusal
from consumers.sandbox.guest.lean import stay_lean

MEDIA_TYPES = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "json": "application/json",
    "jsonl": "application/jsonl",
}
_JSON: dict[str, Callable[[Result, Path, Room], int]] = {"json": write_json, "jsonl": write_jsonl}


def export_tables(arguments: dict[str, Any], folders: Folders) -> dict[str, Any]:
    """Write ``arguments["tables"]`` (``name``, and ``file`` beneath the inputs: Parquet) to the output.

    ``format`` xlsx is one workbook, ``result.xlsx``; any other is a file for each table: ``result.<format>``
    for one, ``1-<name>.<format>`` and so on for several. ``max_bytes`` is for all files together; ``bom`` and
    ``formula_safe`` are choices of csv.

    Returns ``files`` (``file``, ``media_type``, ``size`` in bytes, ``rows``, and ``columns`` where it holds one
    table) and ``notes``: sentences on what the format could not hold.

    Raises:
        Refusal: ``result_empty`` where no table has a row, or ``result_too_large``.
    """
    stay_lean()
    return write_tables(arguments, folders)


def write_tables(arguments: dict[str, Any], folders: Folders) -> dict[str, Any]:
    """As ``export_tables``, in a process that does other things too."""
    results = _results(arguments["tables"], folders.inputs)
    room = Room(arguments["max_bytes"])
    file_format = arguments["format"]
    if file_format == "xlsx":
        return _book(results, folders.output, room)
    several = len(results) > 1
    names = file_names([result.name for result in results], file_format) if several else [f"result.{file_format}"]
    paths = [folders.output / name for name in names]
    notes: list[str] = []
    if file_format == "csv":
        choices = CsvChoices(bom=arguments["bom"], formula_safe=arguments["formula_safe"])
        changed = sum(write_csv(result, path, room, choices) for result, path in zip(results, paths, strict=True))
        notes = _disarmed(changed)
    elif file_format == "parquet":
        for result, path in zip(results, paths, strict=True):
            write_parquet(result, path, room)
    else:
        write = _JSON[file_format]
        notes = _kept(sum(write(result, path, room) for result, path in zip(results, paths, strict=True)))
    files = [
        described(path, MEDIA_TYPES[file_format]) | {"rows": result.rows, "columns": len(result.names)}
        for result, path in zip(results, paths, strict=True)
    ]
    return {"files": files, "notes": notes}


def _results(entries: Sequence[dict[str, str]], inputs: Path) -> list[Result]:
    """One empty table among others is an answer too; nothing but empty ones is none."""
    several = len(entries) > 1
    results = [Result(inputs / entry["file"], entry["name"], may_be_empty=several) for entry in entries]
    filled = [result for result in results if result.names]
    if not any(result.rows for result in filled):
        raise Refusal("result_empty", "The result has no rows. Ask in another way, or for more of the data.")
    return filled


def _book(results: Sequence[Result], output: Path, room: Room) -> dict[str, Any]:
    path = output / "result.xlsx"
    notes = write_xlsx(results, path, room)
    file = described(path, MEDIA_TYPES["xlsx"]) | {"rows": sum(result.rows for result in results)}
    if len(results) == 1:
        file["columns"] = len(results[0].names)
    return {"files": [file], "notes": notes}


def _disarmed(changed: int) -> list[str]:
    told = (
        f"{changed:,} texts that a spreadsheet would run as formulas got an apostrophe. "
        "To have them as they are, ask for the csv with formula_safe off."
    )
    return [told] if changed else []


def _kept(long: int) -> list[str]:
    told = f"{long:,} numbers that most readers of JSON would round were written as text, to keep every digit."
    return [told] if long else []
