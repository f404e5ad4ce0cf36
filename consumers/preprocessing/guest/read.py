"""What is called inside the sandbox: one uploaded file becomes Parquet tables and a report."""

import json
import sys
from typing import Any, BinaryIO

from consumers.preprocessing.guest.delimited import read_delimited
from consumers.preprocessing.guest.kinds import check_text, check_workbook
from consumers.preprocessing.guest.notes import note
from consumers.preprocessing.guest.text import HEAD_BYTES, TextSource
from consumers.preprocessing.guest.workbook import read_workbook, staged
from consumers.sandbox.guest.contract import Folders
from consumers.sandbox.guest.lean import stay_lean

# What the host takes is 4 MB.
MAX_REPORT_BYTES = 3 * 1024 * 1024


def read_upload(arguments: dict[str, Any], folders: Folders) -> dict[str, Any]:
    """Read one file: from ``folders.inputs`` where ``arguments["staged"]`` names it, else from standard input.

    ``arguments`` are ``name`` (for people), ``extension``, ``media_type`` and ``staged``. Returns the report
    that ``consumers.preprocessing.profile`` parses; its tables are ``folders.output/<n>.parquet``.

    Raises:
        Refusal: ``file_empty``, ``file_type``, ``file_protected`` or ``file_unreadable``.
    """
    stay_lean()
    return read_file(arguments, folders, sys.stdin.buffer)


def read_file(arguments: dict[str, Any], folders: Folders, stream: BinaryIO) -> dict[str, Any]:
    """As ``read_upload``, with the stream given."""
    name, extension = str(arguments["name"]), str(arguments["extension"])
    if arguments["staged"] is not None:
        path = staged(folders.inputs, str(arguments["staged"]), name)
        with path.open("rb") as file:
            check_workbook(file.read(HEAD_BYTES), name=name, extension=extension)
        return _bounded(read_workbook(path, folders.output, name=name))
    source = TextSource(stream, name=name)
    check_text(source.head, name=name, extension=extension, media_type=str(arguments["media_type"]))
    return _bounded(read_delimited(source, folders.output))


def _bounded(report: dict[str, Any]) -> dict[str, Any]:
    """A report that is short enough to be sent: first without values, then without the last tables."""
    tables = report["tables"]
    if not _is_long(report):
        return report
    for table in tables:
        table["sample"] = []
        for column in table["columns"]:
            column["examples"] = []
    read = len(tables)
    while len(tables) > 1 and _is_long(report):
        tables.pop()
    if len(tables) < read:
        report["notes"].append(note(f"Only the first {len(tables)} of {read} sheets were kept; the rest is too much."))
    return report


def _is_long(report: dict[str, Any]) -> bool:
    return len(json.dumps(report, ensure_ascii=False).encode()) > MAX_REPORT_BYTES
