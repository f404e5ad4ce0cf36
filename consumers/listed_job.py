"""Jobs as a listing of the bucket tells of them: one after the other, in constant memory."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from consumers.ports import ObjectSummary
from events.keys import Flow, JobRef, parse_control_key, parse_job_key, parse_manifest_key

LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class ListedJob:
    """What a listing tells of one job; ``controls`` are the keys of its control objects, with their times."""

    ref: JobRef
    last_active: datetime = LONG_AGO
    has_files: bool = False
    has_status: bool = False
    has_results: bool = False
    manifests: dict[Flow, datetime] = field(default_factory=dict)
    controls: dict[str, datetime] = field(default_factory=dict)

    @property
    def manifest_at(self) -> datetime | None:
        """When a manifest was last written."""
        return max(self.manifests.values(), default=None)

    def add(self, found: ObjectSummary) -> None:
        self.last_active = max(self.last_active, found.last_modified)
        self.has_files |= found.key.startswith(self.ref.files_prefix)
        self.has_status |= found.key == self.ref.status_key
        self.has_results |= found.key.startswith(self.ref.results_prefix)
        manifest = parse_manifest_key(found.key)
        if manifest is not None:
            self.manifests[manifest.flow] = found.last_modified
        elif parse_control_key(found.key) is not None:
            self.controls[found.key] = found.last_modified


async def listed_jobs(listing: AsyncIterator[ObjectSummary]) -> AsyncIterator[ListedJob]:
    """One job after the other: S3 lists keys in their order, so that those of a job follow each other."""
    job: ListedJob | None = None
    async for found in listing:
        parsed = parse_job_key(found.key)
        if parsed is None:
            continue
        if job is None or job.ref != parsed[0]:
            if job is not None:
                yield job
            job = ListedJob(parsed[0])
        job.add(found)
    if job is not None:
        yield job


async def counted(
    listing: AsyncIterator[ObjectSummary], on_listed: Callable[[int], None]
) -> AsyncIterator[ObjectSummary]:
    """The same listing; ``on_listed`` is told how many keys have come."""
    keys = 0
    async for found in listing:
        keys += 1
        on_listed(keys)
        yield found
