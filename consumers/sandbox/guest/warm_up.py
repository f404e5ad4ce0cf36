"""Warming up: what tasks touch is imported and used once before there is one, for the first use of much is slow."""

import importlib
import io
from pathlib import Path
from typing import Any

from consumers.sandbox.guest.contract import Folders
from consumers.sandbox.guest.one_process import share_locks_between_threads

# What most tasks need. What starts threads when imported, or holds much memory that few tasks use, is not here.
PRELOADED = (
    "consumers.sandbox.guest.run_code",
    "consumers.preprocessing.guest.read",
    "consumers.delivery.guest.export",
    "consumers.delivery.guest.rows",
)
_NAME = "warm-up.parquet"
_CODE = "result = df.groupby('group', as_index=False)['value'].sum().sort_values('value')"


def without_threads() -> None:
    """In the process that forks: import, and use what starts no thread, for a fork copies one only."""
    share_locks_between_threads()
    for module in PRELOADED:
        importlib.import_module(module)
    import pyarrow as pa  # noqa: PLC0415 - one of the above has imported it by now
    import pyarrow.parquet as pq  # noqa: PLC0415

    buffer = io.BytesIO()
    pq.write_table(_table(), buffer)
    table = pq.ParquetFile(pa.BufferReader(buffer.getvalue())).read(use_threads=False)
    table.to_pandas(date_as_object=False, use_threads=False).groupby("group", as_index=False)["value"].sum()


def as_a_task() -> None:
    """In a guest that waits: run a query as a task would, so that what it writes to is copied by then."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - it is there already

    from consumers.sandbox.guest.run_code import run_query  # noqa: PLC0415

    folder = Path.cwd()
    try:
        pq.write_table(_table(), folder / _NAME)
        run_query({"code": _CODE, "tables": [{"name": "t", "file": _NAME}]}, Folders(folder, folder))
    finally:
        for name in (_NAME, "result.parquet"):
            (folder / name).unlink(missing_ok=True)


def _table() -> Any:
    import pyarrow as pa  # noqa: PLC0415

    return pa.table({"group": ["a", "b", "a"], "value": [1, 2, 3]})
