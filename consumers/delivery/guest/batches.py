"""The result, batch by batch, in the few types that every format can hold."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumers.sandbox.guest.contract import Refusal

BATCH_ROWS = 10_000


class Result:
    """A Parquet file, read in constant memory.

    Columns come as bool, integers, double, decimal128, date32, timestamp[us] without a zone (the zone's
    own wall clock), or string; everything else is spelled as text. Timestamps that are all midnight are dates.
    """

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        schema = self._file.schema_arrow
        self.rows = self._file.metadata.num_rows
        self.names: list[str] = schema.names
        if not self.rows or not self.names:
            raise Refusal("result_empty", "The result has no rows. Ask in another way, or for more of the data.")
        self.types = [_plain(field.type) for field in schema]
        for i in self._midnight():
            self.types[i] = pa.date32()

    def batches(self) -> Iterator[Any]:
        """Record batches of ``types``."""
        schema = pa.schema(list(zip(map(str, range(len(self.types))), self.types, strict=True)))
        for batch in self._file.iter_batches(BATCH_ROWS):
            columns = [_as(column, kind) for column, kind in zip(batch.columns, self.types, strict=True)]
            yield pa.record_batch(columns, schema=schema)

    def _midnight(self) -> set[int]:
        moments = {i for i, kind in enumerate(self.types) if pa.types.is_timestamp(kind)}
        if not moments:
            return moments
        for batch in self._file.iter_batches(BATCH_ROWS):
            for i in sorted(moments):
                moment = _as(batch.column(i), self.types[i])
                if pc.any(pc.not_equal(moment, pc.floor_temporal(moment, unit="day"))).as_py():
                    moments.remove(i)
        return moments


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
