"""Bytes to text: one pass over a stream, in blocks of whole lines, whatever the encoding."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from consumers.preprocessing.guest.notes import Note, counted, note
from consumers.sandbox.guest.contract import Refusal

HEAD_BYTES = 64 * 1024
BLOCK_BYTES = 2 * 1024 * 1024
MAX_LINE_BYTES = 16 * 1024 * 1024

_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1b"))


def _as_cp1252(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    wrong = error.object[error.start : error.end]
    return wrong.decode("cp1252", "replace"), error.end


codecs.register_error("cp1252-bytes", _as_cp1252)


class TextSource:
    """A stream of bytes as text. ``head`` is its beginning, before anything was decided."""

    def __init__(self, stream: BinaryIO, *, name: str) -> None:
        self.head = stream.read(HEAD_BYTES)
        self.name = name
        self.encoding, self._bom = _encoding(self.head)
        self._stream = stream
        self._odd_lines = 0
        self._nuls = 0

    def blocks(self) -> Iterator[str]:
        """The text, in blocks that end where a line ends; at most ``MAX_LINE_BYTES`` and a block are held."""
        rest = b""
        for chunk in self._utf8():
            data = rest + chunk
            cut = _line_end(data)
            if cut == 0 and len(data) > MAX_LINE_BYTES:
                raise Refusal(
                    "file_unreadable",
                    f'"{self.name}" holds a line of more than {MAX_LINE_BYTES >> 20} MB: it is no table of rows. '
                    "Save it again with one row in each line.",
                )
            if cut:
                yield self._decode(data[:cut])
            rest = data[cut:]
        if rest:
            yield self._decode(rest)

    def notes(self) -> list[Note]:
        """What had to be decided; complete once the blocks are read."""
        found = []
        if self._odd_lines:
            found.append(
                note(f"Not UTF-8 in {counted(self._odd_lines, 'line')}: odd bytes were read as Windows-1252 (cp1252).")
            )
        if self._nuls:
            found.append(note(f"{counted(self._nuls, 'NUL character')} left out."))
        return found

    def _utf8(self) -> Iterator[bytes]:
        head = self.head[self._bom :]
        self.head = b""
        if self.encoding == "utf-8":
            _refuse_binary(head, self.name)
            yield head
            while chunk := self._stream.read(BLOCK_BYTES):
                yield chunk
            return
        decoder = codecs.getincrementaldecoder(self.encoding)("replace")
        first = decoder.decode(head).encode()
        _refuse_binary(first, self.name)
        yield first
        while chunk := self._stream.read(BLOCK_BYTES):
            yield decoder.decode(chunk).encode()
        yield decoder.decode(b"", final=True).encode()

    def _decode(self, data: bytes) -> str:
        if b"\0" in data:
            self._nuls += data.count(b"\0")
            data = data.replace(b"\0", b"")
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "".join(map(self._decode_line, data.splitlines(keepends=True)))

    def _decode_line(self, line: bytes) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError:
            self._odd_lines += 1
            if self.encoding == "utf-8":
                self.encoding = "utf-8, cp1252"
            return line.decode("utf-8", "cp1252-bytes")


def _encoding(head: bytes) -> tuple[str, int]:
    """The encoding and the length of its byte order mark."""
    for bom, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if head.startswith(bom):
            return encoding, len(bom)
    return "utf-8", 0


def _line_end(data: bytes) -> int:
    return (data.rfind(b"\n") + 1) or (data.rfind(b"\r") + 1)


def _refuse_binary(head: bytes, name: str) -> None:
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls > 3 and controls * 100 > len(head):
        raise Refusal(
            "file_type",
            f'"{name}" holds binary data, not text. Export the table as CSV or as an Excel workbook (.xlsx), '
            "then upload that.",
        )
