"""What must hold in a world once it is quiet: every drop ended once, and nothing is left that should not be."""

from collections import defaultdict

from world import CLAIM_SECONDS

from events.keys import ManifestKey, parse_control_key, parse_job_key, parse_manifest_key
from events.results import CompletedEvent, FailedEvent, FailureCode, parse_event
from events.status import CompletedOutcome, FailedOutcome, JobStatus

# How a drop may end where too much went wrong for it.
GIVEN_UP = {
    FailureCode.INTERNAL,
    FailureCode.CODE_TIMEOUT,
    FailureCode.STORAGE_UNAVAILABLE,
    FailureCode.SHEETS_UNAVAILABLE,
}
OWN_ENDS = {
    "answer": {None},
    "upload": {None},
    "sheet": {None},
    "refuse": {FailureCode.FILE_EMPTY},
    "hiccup": {None, FailureCode.MODEL_UNREACHABLE},
    "bug": {FailureCode.INTERNAL},
    "hang": {FailureCode.CODE_TIMEOUT},
}


def broken_rules(world):
    """Every breach, in words."""
    told = list(world.broken)
    statuses = {job: _status(world, job) for job in world.plans}
    events = _terminal_events(world)
    for job, plan in world.plans.items():
        told += _histories(world, job, plan)
        told += _end(job, plan, statuses[job], events[job])
    told += _nothing_in_queues(world)
    told += _nothing_left(world, statuses)
    told += _sheet(world, statuses)
    return told


def _status(world, job):
    found = world.store.objects.get(job.status_key)
    return None if found is None else JobStatus.model_validate_json(found[0])


def _terminal_events(world):
    """What the results queue holds, by job; FIFO has dropped what came twice within five minutes."""
    events = defaultdict(list)
    for stored in world.queue("results").stored:
        event = parse_event(stored.body)
        if isinstance(event, CompletedEvent | FailedEvent):
            events[event.data.ref].append(event)
    return events


def _histories(world, job, plan):
    """Terminal states never change; the epoch never falls while there is a ledger."""
    before = None
    for body in world.history[job.status_key]:
        if body is None:
            before = None
            continue
        status = JobStatus.model_validate_json(body)
        if before is not None:
            if status.epoch < before.epoch:
                yield f"{job}: the epoch fell from {before.epoch} to {status.epoch}"
            if before.is_terminal and (status.outcome, status.ended_at, status.epoch) != (
                before.outcome,
                before.ended_at,
                before.epoch,
            ):
                yield f"{job}: its end changed from {before} to {status}"
        before = status
    if not plan.closed and None in world.history[job.status_key]:
        yield f"{job}: its ledger was removed"


def _end(job, plan, status, events):
    ids = {event.id for event in events}
    if len(ids) != 1:
        yield f"{job}: {len(ids)} terminal events"
    if plan.closed:
        # The event of a request that was closed comes once; a late notification says so again under the same id.
        if status is not None:
            yield f"{job}: closed, but its ledger is there: {status.state}"
        return
    if status is None or not status.is_terminal:
        yield f"{job} ({plan.kind}): has not ended: {status}"
        return
    if not status.published:
        yield f"{job}: its event is not marked published"
    for event in events:
        if _without_links(event) != status.end_event():
            yield f"{job}: an event differs from its ledger: {event} / {status}"
    code = status.outcome.data.code if isinstance(status.outcome, FailedOutcome) else None
    if code not in OWN_ENDS[plan.kind] | GIVEN_UP | ({FailureCode.CANCELLED} if plan.cancelled else set()):
        yield f"{job} ({plan.kind}): ended with {code}"


def _without_links(event):
    if not isinstance(event, CompletedEvent):
        return event
    files = tuple(file.model_copy(update={"url": None, "url_expires_at": None}) for file in event.data.files)
    return event.model_copy(update={"data": event.data.model_copy(update={"files": files})})


def _nothing_in_queues(world):
    for name in ("queries", "controls"):
        queue = world.queue(name)
        for receives, seconds in queue.hidden:
            # A retry is meant to wait, longer each time; nothing else hides a message for more than a minute.
            if seconds > max(CLAIM_SECONDS + 2, min(900, 30 * 2 ** (receives - 1))):
                yield f"{name}: a message was hidden for {seconds} s at its receive {receives}"
        if queue.stored:
            yield f"{name}: {len(queue.stored)} messages are left"
        if queue.redriven or queue.expired:
            yield f"{name}: messages went without an outcome: {queue.redriven} {queue.expired}"


def _nothing_left(world, statuses):
    for upload in world.store.open_uploads.values():
        yield f"an upload is left open: {upload.key}"
    for key in world.store.objects:
        parsed = parse_job_key(key)
        if parse_control_key(key) is not None:
            yield f"a control is left: {key}"
        elif parsed is None or parsed[0] not in statuses:
            yield f"what is {key}?"
        elif not _may_stay(key, *parsed, statuses):
            yield f"left behind: {key} of {world.plans[parsed[0]]}"


def _may_stay(key, job, rest, statuses):
    status = statuses[job]
    if status is None:
        return False
    if rest == "status.json":
        return True
    if parse_manifest_key(key) == ManifestKey(job, status.flow):
        return True
    completed = isinstance(status.outcome, CompletedOutcome)
    return completed and key in {file.key for file in status.outcome.data.files}


def _sheet(world, statuses):
    for job, plan in world.plans.items():
        status, has_rows = statuses[job], job in world.sheet.rows
        completed = status is not None and isinstance(status.outcome, CompletedOutcome)
        if has_rows and not completed and not plan.closed:
            yield f"{job}: rows are left of what has not completed"
        if completed and plan.kind == "sheet" and not has_rows and not plan.undone:
            yield f"{job}: completed without its rows"
