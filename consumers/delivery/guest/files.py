"""The files of a delivery: the room that they have on disk, and what is told of them."""

import io
from pathlib import Path
from typing import Any

from consumers.sandbox.guest.contract import Refusal


class Room:
    """``max_bytes`` for all files of one delivery together."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._left = max_bytes

    def take(self, size: int) -> None:
        """Raises Refusal: ``result_too_large``."""
        self._left -= size
        if self._left < 0:
            raise Refusal(
                "result_too_large",
                f"The result is larger than {self._max_bytes / 1e6:,.0f} MB in this format. Ask for fewer rows or "
                "columns, or choose parquet.",
            )


class BoundedFile(io.FileIO):
    """A new file that takes its bytes from a Room before it writes them."""

    def __init__(self, path: Path, room: Room) -> None:
        super().__init__(path, "x+")
        self._room = room

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._room.take(len(view))
        # The system may take a part only (2 GiB at once on Linux).
        done = 0
        while done < len(view):
            done += super().write(view[done:]) or 0
        return done


def described(path: Path, media_type: str) -> dict[str, Any]:
    """What the host is told of a file; ``size`` in bytes."""
    return {"file": path.name, "media_type": media_type, "size": path.stat().st_size}
