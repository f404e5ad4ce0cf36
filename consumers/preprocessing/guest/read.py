"""What is called inside the sandbox: one uploaded file becomes Parquet tables and a report."""

import sys
from typing import Any, BinaryIO

from consumers.preprocessing.guest.delimited import read_delimited
from consumers.preprocessing.guest.kinds import check_text, check_workbook
from consumers.preprocessing.guest.text import HEAD_BYTES, TextSource
from consumers.preprocessing.guest.workbook import read_workbook, staged
from consumers.sandbox.guest.contract import Folders
from consumers.sandbox.guest.lean import stay_lean


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
        return read_workbook(path, folders.output, name=name)
    source = TextSource(stream, name=name)
    check_text(source.head, name=name, extension=extension, media_type=str(arguments["media_type"]))
    return read_delimited(source, folders.output)
