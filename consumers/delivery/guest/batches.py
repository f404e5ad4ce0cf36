"""One result table, batch by batch, in the few types that every format can hold."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumers.sandbox.guest.contract import Refusal

BATCH_ROWS = 5_000
# As text a cell takes some ten times its own bytes for a moment.
BATCH_CELLS = 100_000
BATCH_BYTES = 2 * 1024 * 1024
# Read piece by piece: a reader that fetches ahead holds whole row groups.
_READ_BYTES = 256 * 1024


class Result:
    """A Parquet file, read in constant memory; ``name`` is a display name: any text at all.

    Columns come as bool, integers, double, decimal128, date32, timestamp[us] without a zone (the zone's
    own wall clock), or string; everything else is spelled as text. Timestamps that are all midnight are dates.
    ``names`` are unique and not empty. ``whole_seconds`` are the timestamps without fractions of a second.

    Raises:
        Refusal: ``result_empty``, unless it ``may_be_empty``.
    """

    def __init__(self, path: Path, name: str = "Result", *, may_be_empty: bool = False) -> None:
        self.name = name
        self._file = pq.ParquetFile(path, buffer_size=_READ_BYTES, pre_buffer=False)
        schema = self._file.schema_arrow
        self.rows = self._file.metadata.num_rows
        self.names = _unique(schema.names)
        if not may_be_empty and not (self.rows and self.names):
            raise Refusal("result_empty", "The result has no rows. Ask in another way, or for more of the data.")
        self.types = [_plain(field.type) for field in schema]
        midnight, self.whole_seconds = self._moments()
        for i in midnight:
            self.types[i] = pa.date32()

    def batches(self) -> Iterator[Any]:
        """Record batches of ``types``, each small in memory.

        Raises:
            pyarrow.ArrowInvalid: the file is not what its types say.
        """
        schema = pa.schema(list(zip(map(str, range(len(self.types))), self.types, strict=True)))
        for batch in self._read():
            columns = [_as(column, kind) for column, kind in zip(batch.columns, self.types, strict=True)]
            yield pa.record_batch(columns, schema=schema)

    def _read(self) -> Iterator[Any]:
        facts = self._file.metadata
        size = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
        by_bytes = BATCH_BYTES * self.rows // max(1, size)
        rows = max(1, min(BATCH_ROWS, BATCH_CELLS // max(1, len(self.types)), by_bytes))
        for batch in self._file.iter_batches(rows):
            # Texts reach the formats as they are: what is no UTF-8 would break the file, or Arrow itself.
            batch.validate(full=True)
            # Repeated texts are stored once, so the sizes in the file may say too little.
            parts = min(batch.num_rows, 1 + batch.nbytes // (4 * BATCH_BYTES))
            step = -(-batch.num_rows // max(1, parts))
            for start in range(0, batch.num_rows, max(1, step)):
                yield batch.slice(start, step)

    def _moments(self) -> tuple[set[int], set[int]]:
        """The timestamps that are all midnight, and those that are all whole seconds."""
        moments = [i for i, kind in enumerate(self.types) if pa.types.is_timestamp(kind)]
        whole = {"day": set(moments), "second": set(moments)}
        for batch in self._read() if moments else ():
            for unit, columns in whole.items():
                columns -= {i for i in columns if not _is_whole(_as(batch.column(i), self.types[i]), unit)}
        return whole["day"], whole["second"] - whole["day"]


def _is_whole(moments: Any, unit: str) -> bool:
    return not pc.any(pc.not_equal(moments, pc.floor_temporal(moments, unit=unit))).as_py()


def _unique(names: Sequence[str]) -> list[str]:
    """Each name once, in order: no format but csv can hold the same name twice."""
    unique: dict[str, None] = {}
    for position, name in enumerate(names, start=1):
        base = name if name.strip() else f"column {position}"
        chosen, number = base, 2
        while chosen in unique:
            chosen, number = f"{base} ({number})", number + 1
        unique[chosen] = None
    return list(unique)


def _plain(kind: Any) -> Any:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_decimal128(kind):
        return kind
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_date(kind):
        return pa.date32()
    return pa.timestamp("us") if pa.types.is_timestamp(kind) else pa.string()


def _as(column: Any, kind: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == kind:
        return column
    if pa.types.is_timestamp(column.type):
        if column.type.tz is not None:
            column = pc.local_timestamp(column)
        column = pc.cast(column, pa.timestamp("us"), safe=False)
    try:
        return pc.cast(column, kind, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], kind)
