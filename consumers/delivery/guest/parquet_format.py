"""Parquet again: the types kept, without the metadata that pandas adds."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from consumers.delivery.guest.batches import Result
from consumers.delivery.guest.files import BoundedFile, Room

# What is gathered for one row group: large ones read faster, and all of one is held while it is written.
GROUP_BYTES = 8 * 1024 * 1024


def write_parquet(result: Result, path: Path, room: Room) -> None:
    """Write one table, compressed by zstd."""
    schema = pa.schema(list(zip(result.names, result.types, strict=True)))
    with BoundedFile(path, room) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        gathered: list[Any] = []
        for batch in result.batches():
            gathered.append(pa.record_batch(batch.columns, schema=schema))
            if sum(part.nbytes for part in gathered) >= GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(gathered))
                gathered = []
        if gathered:
            writer.write_table(pa.Table.from_batches(gathered))
