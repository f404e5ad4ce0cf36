"""What is called inside the sandbox: a result becomes the files that are delivered."""

from pathlib import Path
from typing import Any

from consumers.sandbox.guest.contract import Folders, Refusal
from consumers.sandbox.guest.lean import stay_lean

MEDIA_TYPES = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "json": "application/json",
}


def export_table(arguments: dict[str, Any], folders: Folders) -> dict[str, Any]:
    """Write ``inputs/result.parquet`` as ``output/result.<format>``, of at most ``max_bytes``.

    Returns ``files`` (one, with ``file``, ``media_type``, ``size`` in bytes, ``rows``, ``columns``) and
    ``notes``: sentences on what the format could not hold.

    Raises:
        Refusal: ``result_empty`` or ``result_too_large``.
    """
    stay_lean()
    return write_table(str(arguments["format"]), int(arguments["max_bytes"]), folders)


def write_table(file_format: str, max_bytes: int, folders: Folders) -> dict[str, Any]:
    """As ``export_table``, in a process that does other things too."""
    # A chart needs none of these, and they take most of its start.
    from consumers.delivery.guest import plain_formats, xlsx  # noqa: PLC0415
    from consumers.delivery.guest.batches import Result  # noqa: PLC0415

    media_type = MEDIA_TYPES[file_format]
    result = Result(folders.inputs / "result.parquet")
    path = folders.output / f"result.{file_format}"
    notes: list[str] = []
    match file_format:
        case "xlsx":
            notes = xlsx.write_xlsx(result, path)
        case "csv":
            plain_formats.write_csv(result, path, max_bytes)
        case "json":
            plain_formats.write_json(result, path, max_bytes)
        case _:
            plain_formats.write_parquet(result, path, max_bytes)
    plain_formats.check_size(path.stat().st_size, max_bytes)
    return {"files": [_file(path, media_type) | {"rows": result.rows, "columns": len(result.names)}], "notes": notes}


def export_chart(arguments: dict[str, Any], folders: Folders) -> dict[str, Any]:
    """Draw ``inputs/chart.vl.json``; ``arguments`` are none. Returns ``files`` as ``export_table`` does.

    Raises:
        Refusal: ``code_failed``: the specification is not valid, or loads something from outside.
    """
    from consumers.delivery.guest.charts import write_charts  # noqa: PLC0415

    try:
        text = (folders.inputs / "chart.vl.json").read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Refusal("code_failed", "The chart is no JSON. Assign an Altair chart to `chart`.") from error
    written = write_charts(text, folders.output)
    return {"files": [_file(folders.output / name, media_type) for name, media_type in written], "notes": []}


def _file(path: Path, media_type: str) -> dict[str, Any]:
    return {"file": path.name, "media_type": media_type, "size": path.stat().st_size}
