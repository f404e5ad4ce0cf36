"""The appended record: what a job added to a sheet, kept beside the job for its retry and its undo."""

import base64
from typing import Annotated

from pydantic import BaseModel, ConfigDict, ValidationError

from consumers.delivery.sheet.rows import DIGEST_BYTES
from consumers.errors import ObjectMissing
from consumers.ports import ObjectStore
from events.fields import Prose
from events.keys import JobRef
from events.results import SheetRows

# 14 bytes for each of the 10 million rows that a spreadsheet of one column can have.
MAX_BYTES = 150_000_000


class Appended(BaseModel):
    """``digests`` are the rows' own, one after another, in base64."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    answer: Prose | None
    notes: tuple[Prose, ...]
    sheet: SheetRows
    names: tuple[str, ...]
    digests: Annotated[str, "base64"]

    @property
    def row_digests(self) -> list[bytes]:
        whole = base64.b64decode(self.digests)
        return [whole[start : start + DIGEST_BYTES] for start in range(0, len(whole), DIGEST_BYTES)]


async def keep(store: ObjectStore, job: JobRef, epoch: int, appended: Appended) -> None:
    await store.put(job.appended_key(epoch), appended.model_dump_json().encode(), media_type="application/json")


async def kept(store: ObjectStore, job: JobRef, epoch: int) -> Appended | None:
    """What was kept, or None if it is gone."""
    try:
        stored = await store.get(job.appended_key(epoch), max_bytes=MAX_BYTES)
        return Appended.model_validate_json(stored.body)
    except (ObjectMissing, ValidationError):
        return None
