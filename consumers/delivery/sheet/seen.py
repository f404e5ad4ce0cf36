"""Seen: what an undo keeps in mind of the rows and columns that stand in a tab now, without their cells."""

from collections.abc import Iterator, Sequence

from consumers.delivery.sheet import marks
from consumers.delivery.sheet.book import Cell, Metadata, Row
from consumers.delivery.sheet.rows import digest_of, spelled_as_entered, spelled_out

_FILLED, _DATA, _HEADER = 1, 2, 4


class SeenRows:
    """Of each of ``rows`` a digest and three flags; ``places`` and ``names`` are those of the job's columns."""

    def __init__(self, rows: range, places: Sequence[int], names: Sequence[str]) -> None:
        self.rows = rows
        self.digests: list[bytes | None] = []
        """None: somebody wrote into another cell of the row, or put a note on any."""
        self._flags = bytearray()
        self._places = places
        self._own = frozenset(places)
        self._names = [spelled_out(name) for name in names]

    def see(self, _: int, row: Row) -> None:
        """The next one of the rows."""
        entered = [spelled_as_entered(cell) for cell in row.values]
        values = [entered[place] if place < len(entered) else "" for place in self._places]
        noted = any(cell.note for cell in row.values)
        more = noted or any(text and place not in self._own for place, text in enumerate(entered))
        self.digests.append(None if more else digest_of(values))
        header = not noted and values == self._names and sum(map(bool, entered)) == len(self._names)
        self._flags.append(_FILLED * (noted or any(entered)) | _DATA * row.has_data | _HEADER * header)

    def part(self, rows: range) -> "SeenRows":
        part = SeenRows(rows, self._places, ())
        start = rows.start - self.rows.start
        part.digests = self.digests[start : start + len(rows)]
        part._flags = self._flags[start : start + len(rows)]
        return part

    def is_filled(self, index: int) -> bool:
        return bool(self._flags[index - self.rows.start] & _FILLED)

    def is_header(self, index: int) -> bool:
        """Whether the row is the header as the job wrote it, and nothing more."""
        return bool(self._flags[index - self.rows.start] & _HEADER)

    def with_data(self) -> Iterator[int]:
        return (index for index, flags in zip(self.rows, self._flags, strict=True) if flags & _DATA)


def content_of(cell: Cell) -> str:
    return spelled_as_entered(cell) + cell.note


def column_of(anchor: Metadata) -> int:
    """The index of the column that an anchor is on by now, -1 if it is on none."""
    where = anchor.location.dimension_range
    return where.start_index if where and where.dimension == "COLUMNS" else -1


def added_columns(anchors: Sequence[Metadata]) -> list[int]:
    """Where the columns that a job added may be, rising; where only the ends have anchors, all between them."""
    now = {anchor.metadata_value: column_of(anchor) for anchor in anchors}
    ends = now.get(marks.FIRST_COLUMN, 0), now.get(marks.LAST_COLUMN, -1)
    return sorted({place for place in [*now.values(), *range(ends[0], ends[1] + 1)] if place >= 0})
