"""What a file is: told by its first bytes, and held against what its name and type say.

Light on purpose: the host imports it too, to know what must be staged.
"""

import re

from consumers.sandbox.guest.contract import Refusal

TEXT_EXTENSIONS = frozenset({"csv", "tsv", "tab", "psv", "txt"})
WORKBOOK_EXTENSIONS = frozenset({"xlsx", "xlsm", "xltx", "xls", "xlsb", "ods"})
TEXT_TYPES = frozenset({"text/csv", "text/tab-separated-values", "text/plain", "application/csv"})
WORKBOOK_TYPES = frozenset(
    {
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.ms-excel.sheet.macroenabled.12",
        "application/vnd.ms-excel.sheet.binary.macroenabled.12",
        "application/vnd.ms-excel",
        "application/vnd.oasis.opendocument.spreadsheet",
    }
)
OTHER_EXTENSIONS = {
    "pdf": "a PDF document", "png": "an image", "jpg": "an image", "jpeg": "an image", "gif": "an image",
    "doc": "a Word document", "docx": "a Word document", "json": "a JSON file", "xml": "an XML file",
    "html": "a web page", "htm": "a web page", "parquet": "a Parquet file", "zip": "a ZIP archive",
    "gz": "a gzip archive",
}  # fmt: skip

ZIP = b"PK\x03\x04"
EMPTY_ZIP = b"PK\x05\x06"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Signatures: the "List of file signatures" that libmagic and the formats' own specifications give.
SIGNATURES = (
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"{\\rtf", "an RTF document"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
)
_MARKUP = (
    (re.compile(rb"<(!doctype html|html|head|body|table)\b", re.IGNORECASE), "a web page (HTML)"),
    (re.compile(rb"<\?xml\b"), "an XML file"),
    (re.compile(rb'(\{\s*"|\[\s*[\[{])'), "a JSON file"),
)
_BOM = b"\xef\xbb\xbf"
HOW_TO = "Export the table as CSV or as an Excel workbook (.xlsx), then upload that."


def needs_staging(extension: str, media_type: str) -> bool:
    """Whether the format needs seeking, and so a file on scratch; everything else is read as one stream."""
    return _expects_workbook(extension, media_type)


def check_text(head: bytes, *, name: str, extension: str, media_type: str) -> None:
    """Refuse (``file_type``) a stream that is no text, or that says it is something else than a table."""
    shown = _shown(extension)
    if (content := _content(head)) is not None:
        hint = (
            "If it is a workbook, rename it to .xlsx; otherwise save the table as CSV."
            if content == _WORKBOOK
            else HOW_TO
        )
        raise Refusal("file_type", f'"{name}" {_called(shown)} {content}. {hint}')
    other = OTHER_EXTENSIONS.get(shown)
    if other is not None:
        raise Refusal("file_type", f'"{name}" is called {other} (.{shown}) but holds plain text. {HOW_TO}')


def check_workbook(head: bytes, *, name: str, extension: str) -> None:
    """Refuse (``file_type``) a staged file that is neither a ZIP nor an OLE container."""
    if head.startswith((ZIP, EMPTY_ZIP, OLE)):
        return
    content = _content(head) or ("binary data of an unknown kind" if b"\0" in head else "plain text")
    shown = _shown(extension)
    hint = "Rename it to .csv, or save it as a real workbook." if content == "plain text" else HOW_TO
    raise Refusal("file_type", f'"{name}" {_called(shown)} {content}, not a workbook. {hint}')


_WORKBOOK = "an Excel workbook or another archive"


def _expects_workbook(extension: str, media_type: str) -> bool:
    shown = _shown(extension)
    if shown in WORKBOOK_EXTENSIONS:
        return True
    # Browsers on Windows call .csv "application/vnd.ms-excel": a known extension outweighs the type.
    known = shown in TEXT_EXTENSIONS or shown in OTHER_EXTENSIONS
    return not known and media_type.lower().partition(";")[0].strip() in WORKBOOK_TYPES


def _content(head: bytes) -> str | None:
    """What these bytes are, where they are certainly no delimited text."""
    if head.startswith((ZIP, EMPTY_ZIP, OLE)):
        return _WORKBOOK
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "a WebP image"
    for signature, content in SIGNATURES:
        if head.startswith(signature):
            return content
    start = head.removeprefix(_BOM).lstrip()[:512]
    for pattern, content in _MARKUP:
        if pattern.match(start):
            return content
    return None


def _shown(extension: str) -> str:
    return extension.strip().lower().lstrip(".")


def _called(shown: str) -> str:
    return f"is called .{shown} but is" if shown else "is"
