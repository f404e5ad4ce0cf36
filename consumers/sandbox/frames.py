"""Frames: JSON objects of bounded size on a private descriptor, the only words across the wall.

One frame is a 4-byte big-endian length and so many bytes of UTF-8 JSON. No pickle in either direction.
"""

import json
import struct
from typing import Any

HEADER = struct.Struct(">I")
MAX_FRAME_BYTES = 4 * 1024 * 1024


MAX_NESTED = 100_000
"""Lists and objects in a frame: a million small ones would keep the reader busy for a second."""


class FrameError(ValueError):
    """What came is no frame."""


def encode(value: dict[str, Any]) -> bytes:
    """One frame; raises FrameError where it would be too long."""
    body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    check_length(len(body))
    return HEADER.pack(len(body)) + body


def decode(body: bytes) -> dict[str, Any]:
    """The object of a frame's body; raises FrameError."""
    if body.count(b"[") + body.count(b"{") > MAX_NESTED:
        raise FrameError("too many lists and objects")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FrameError("not a JSON object")
    return value


def check_length(length: int) -> int:
    if length > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {length:,} bytes; {MAX_FRAME_BYTES:,} are allowed")
    return length
