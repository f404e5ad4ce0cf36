"""The answer as files to fetch: converted inside the sandbox, streamed to ``result/{epoch}/``."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from consumers.drop import Drop
from consumers.errors import Permanent
from consumers.ports import (
    GuestRefusal,
    JsonObject,
    Limits,
    ObjectStore,
    Sandbox,
    SandboxError,
    SandboxMemory,
    SandboxOutput,
    SandboxTask,
    SandboxTimeout,
)
from consumers.result_tables import ResultTable
from consumers.sandbox.outputs import UnsafeOutput, open_output, output_path
from events.manifest import DownloadDestination
from events.results import FailureCode, ResultFile

# vl-convert 1.9 aborts at 64 GiB and works from 80 on; what it writes to stays within memory_bytes.
V8_ADDRESS_BYTES = 128 * 1024**3
# Files take whole blocks of the disk.
_ROUNDING_BYTES = 1024**2
_CHUNK_BYTES = 1024 * 1024
_MAX_FILES = 20
_EXPORT_TABLES = "consumers.delivery.guest.export:export_tables"
_EXPORT_CHART = "consumers.delivery.guest.charts:export_chart"
_WRITER_CODES = frozenset({FailureCode.RESULT_EMPTY, FailureCode.RESULT_TOO_LARGE, FailureCode.CODE_FAILED})

log = structlog.get_logger(__name__)


class _Written(BaseModel):
    """One file that the writer says it wrote."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    file: str
    media_type: Annotated[str, StringConstraints(pattern=r"^[\w.+-]+/[\w.+-]+$", max_length=100)]
    rows: int | None = Field(default=None, ge=0)
    columns: int | None = Field(default=None, ge=0)


class _Report(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    files: tuple[_Written, ...] = Field(min_length=1, max_length=_MAX_FILES)
    notes: tuple[Annotated[str, StringConstraints(max_length=1000)], ...] = Field(default=(), max_length=100)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was delivered, and what had to be changed for the format."""

    files: tuple[ResultFile, ...]
    notes: tuple[str, ...]


class Downloads:
    """Delivers results as downloads."""

    def __init__(self, store: ObjectStore, sandbox: Sandbox, *, limits: Limits, max_bytes: int) -> None:
        self._store = store
        self._sandbox = sandbox
        self._limits = limits
        self._max_bytes = max_bytes

    async def table(
        self, drop: Drop, tables: Sequence[ResultTable], *, destination: DownloadDestination, scratch: Path
    ) -> Delivered:
        """Deliver tables in the format that was asked for.

        A workbook holds them all, ``result.xlsx``; any other format is a file for each: ``result.{format}`` for
        one, ``1-{name}.{format}`` and so on for several.

        Raises:
            Permanent: result_empty or result_too_large, with a sentence.
        """
        inputs = {f"{number}.parquet": table.file for number, table in enumerate(tables, start=1)}
        arguments: JsonObject = {
            "format": destination.format,
            "bom": destination.bom,
            "formula_safe": destination.formula_safe,
            "max_bytes": self._max_bytes,
            "tables": [{"name": table.name, "file": file} for file, table in zip(inputs, tables, strict=True)],
        }
        # What the guest promises to keep, the host holds it to.
        limits = replace(self._limits, scratch_bytes=self._max_bytes + _ROUNDING_BYTES)
        return await self._deliver(drop, _EXPORT_TABLES, arguments, inputs, scratch, limits=limits)

    async def chart(self, drop: Drop, spec: Path, *, scratch: Path) -> Delivered:
        """Deliver a Vega-Lite specification as PNG, SVG and JSON."""
        limits = replace(self._limits, address_bytes=V8_ADDRESS_BYTES)
        return await self._deliver(drop, _EXPORT_CHART, {}, {"chart.vl.json": spec}, scratch, limits=limits)

    async def _deliver(
        self,
        drop: Drop,
        call: str,
        arguments: JsonObject,
        inputs: dict[str, Path],
        scratch: Path,
        *,
        limits: Limits,
    ) -> Delivered:
        output = scratch / "deliver"
        output.mkdir()
        report = await self._convert(SandboxTask(call, arguments, inputs, output, limits))
        delivered = []
        for written in report.files:
            try:
                # Checked before it becomes part of a key.
                name = output_path(output, written.file).name
                key = drop.job.result_key(drop.epoch, name)
                size = await self._store.upload(key, _chunks(output, name), media_type=written.media_type)
            except UnsafeOutput as error:
                raise _failed() from error
            delivered.append(
                ResultFile(
                    key=key,
                    name=name,
                    media_type=written.media_type,
                    size=size,
                    rows=written.rows,
                    columns=written.columns,
                )
            )
        return Delivered(tuple(delivered), report.notes)

    async def _convert(self, task: SandboxTask) -> _Report:
        try:
            report = await self._sandbox.run(task)
            return _Report.model_validate(report.value)
        except GuestRefusal as refusal:
            if refusal.code not in _WRITER_CODES:
                raise _failed() from refusal
            raise Permanent(FailureCode(refusal.code), refusal.message[:500]) from refusal
        except (SandboxTimeout, SandboxMemory, SandboxOutput) as error:
            raise Permanent(
                FailureCode.RESULT_TOO_LARGE,
                "The result is too large for this format. Ask for less at once, or choose csv or parquet.",
            ) from error
        except (SandboxError, ValidationError) as error:
            log.warning("deliver.failed", call=task.call, reason=str(error)[:2000])
            raise _failed() from error


async def _chunks(folder: Path, name: str) -> AsyncIterator[bytes]:
    with open_output(folder, name) as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk


def _failed() -> Permanent:
    return Permanent(
        FailureCode.INTERNAL,
        "The result could not be written, and our team has been told. Choose another format, or ask in other words.",
    )
