"""Containers of workbooks (ZIP, OLE): what is inside, and whether it is safe to hand to a parser.

The caps on ZIP files stop bombs before anything is inflated; the sandbox's memory limit stops the rest.
"""

import mmap
import struct
import zipfile
import zlib
from pathlib import Path

from consumers.preprocessing.guest.kinds import HOW_TO, OLE
from consumers.sandbox.guest.contract import Refusal

MAX_ENTRIES = 10_000
MAX_ENTRY_BYTES = 512 * 1024**2
MAX_TOTAL_BYTES = 2 * 1024**3
MAX_RATIO = 200
SMALL_ENTRY_BYTES = 1024**2
MAX_DIRECTORY_BYTES = 4 * 1024**2

# APPNOTE.TXT 6.3.10: 4.3.16 (end of central directory), 4.4.4 (general purpose bit flag).
_END_SIGNATURE = b"PK\x05\x06"
_END_RECORD = struct.Struct("<4s4H2LH")
_MAX_COMMENT = 65_535
_ENCRYPTED = 0x1


def workbook_kind(path: Path, name: str) -> str:
    """``xlsx``, ``xlsb``, ``ods`` or ``xls``.

    Raises:
        Refusal: ``file_type`` (another kind of archive), ``file_protected`` or ``file_unreadable``.
    """
    with path.open("rb") as file:
        if file.read(len(OLE)) == OLE:
            return _ole_kind(path, name)
    try:
        return _zip_kind(path, name)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError, struct.error) as error:
        raise damaged(name) from error


def damaged(name: str) -> Refusal:
    return Refusal(
        "file_unreadable",
        f'"{name}" is damaged or was cut off on its way. Open it in your spreadsheet program, save it again and '
        "upload the new file.",
    )


def protected(name: str) -> Refusal:
    return Refusal(
        "file_protected",
        f'"{name}" is protected by a password. Save it without a password, then upload it again.',
    )


def _zip_kind(path: Path, name: str) -> str:
    _check_directory(path, name)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.flag_bits & _ENCRYPTED for entry in entries):
            raise protected(name)
        _check_entries(entries, name)
        names = {entry.filename.lower().replace("\\", "/").removeprefix("/") for entry in entries}
        kind = _package_kind(names)
        if kind is None and "mimetype" in names:
            with archive.open("mimetype") as file:
                media_type = file.read(256).strip()
            kind = "ods" if media_type.startswith(b"application/vnd.oasis.opendocument.spreadsheet") else None
    if kind in ("xlsx", "xlsb", "ods"):
        return kind
    raise Refusal("file_type", f'"{name}" is {kind or "a ZIP archive"}, not a workbook. {HOW_TO}')


def _package_kind(names: set[str]) -> str | None:
    for member, kind in (
        ("xl/workbook.xml", "xlsx"),
        ("xl/workbook.bin", "xlsb"),
        ("word/document.xml", "a Word document"),
        ("ppt/presentation.xml", "a PowerPoint presentation"),
    ):
        if member in names:
            return kind
    # Some writers put the workbook elsewhere; the content types say that the package is one.
    return "xlsx" if "[content_types].xml" in names and any(n.startswith("xl/") for n in names) else None


def _check_directory(path: Path, name: str) -> None:
    """Before zipfile reads the directory into memory: is it of a sane size?"""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END_RECORD.size - _MAX_COMMENT))
        tail = file.read()
    at = tail.rfind(_END_SIGNATURE)
    if at < 0 or len(tail) - at < _END_RECORD.size:
        raise damaged(name)
    _, _, _, _, entries, directory_bytes, _, _ = _END_RECORD.unpack_from(tail, at)
    # ZIP64 writes 0xFFFF and 0xFFFFFFFF here: only archives beyond the caps need it.
    if entries > MAX_ENTRIES or directory_bytes > MAX_DIRECTORY_BYTES:
        raise _bomb(name)


def _check_entries(entries: list[zipfile.ZipInfo], name: str) -> None:
    if len(entries) > MAX_ENTRIES or sum(entry.file_size for entry in entries) > MAX_TOTAL_BYTES:
        raise _bomb(name)
    for entry in entries:
        if ".." in entry.filename.replace("\\", "/").split("/"):
            raise damaged(name)
        if entry.file_size > MAX_ENTRY_BYTES:
            raise _bomb(name)
        if entry.file_size > SMALL_ENTRY_BYTES and entry.file_size > MAX_RATIO * entry.compress_size:
            raise _bomb(name)


def _bomb(name: str) -> Refusal:
    return Refusal(
        "file_unreadable",
        f'"{name}" unpacks to far more than a workbook should. Save the sheet you need as CSV and upload that.',
    )


def _ole_kind(path: Path, name: str) -> str:
    # Names of streams stand in the directory as UTF-16; [MS-CFB] 2.6, [MS-OFFCRYPTO] 2.3.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:

        def has(stream: str) -> bool:
            return content.find(stream.encode("utf-16-le")) >= 0

        if has("EncryptedPackage"):
            raise protected(name)
        if has("Workbook") or has("Book"):
            return "xls"
        kind = "a Word document" if has("WordDocument") else "no workbook"
    raise Refusal("file_type", f'"{name}" is {kind}. {HOW_TO}')
