"""The object-key layout, both ways: from ids to keys, and from a key to what it is.

    sessions/{session_id}/jobs/{job_id}/files/{index}
    sessions/{session_id}/jobs/{job_id}/{query|visualization}.manifest.json
    sessions/{session_id}/jobs/{job_id}/status.json
    sessions/{session_id}/jobs/{job_id}/result/{epoch}/{name}
    sessions/{session_id}/jobs/{job_id}/appended/{epoch}
    sessions/{session_id}/jobs/{job_id}/{cancel|undo}.control.json
    sessions/{session_id}/close.control.json
    shared/{what}/{name}.json                                   what the workers share among themselves

A key never holds text that a user typed: display names live in the manifest.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated
from urllib.parse import unquote

from pydantic import StringConstraints

_ID = r"[A-Za-z0-9_-]{8,64}"
ID_PATTERN = f"^{_ID}$"
Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]

ROOT = "sessions/"
SHARED = "shared/"


class Flow(StrEnum):
    """What a manifest asks for; each flow has a queue of its own."""

    QUERY = "query"
    VISUALIZATION = "visualization"


class Control(StrEnum):
    """What a control object asks for."""

    CLOSE = "close"
    CANCEL = "cancel"
    UNDO = "undo"


MANIFEST_SUFFIXES = {flow: f"{flow}.manifest.json" for flow in Flow}
CONTROL_SUFFIX = ".control.json"


@dataclass(frozen=True, slots=True, order=True)
class JobRef:
    """One job of one session: everything of it is found from these two ids."""

    session_id: str
    job_id: str

    @property
    def prefix(self) -> str:
        return f"{jobs_prefix(self.session_id)}{self.job_id}/"

    @property
    def status_key(self) -> str:
        return f"{self.prefix}status.json"

    @property
    def files_prefix(self) -> str:
        return f"{self.prefix}files/"

    @property
    def results_prefix(self) -> str:
        return f"{self.prefix}result/"

    @property
    def appended_prefix(self) -> str:
        return f"{self.prefix}appended/"

    @property
    def cancel_key(self) -> str:
        return f"{self.prefix}{Control.CANCEL}{CONTROL_SUFFIX}"

    @property
    def undo_key(self) -> str:
        return f"{self.prefix}{Control.UNDO}{CONTROL_SUFFIX}"

    def appended_key(self, epoch: int) -> str:
        """What one epoch appended to a sheet, as digests: an undo knows its rows by them."""
        return f"{self.appended_prefix}{epoch}"

    def file_key(self, index: int) -> str:
        return f"{self.files_prefix}{index}"

    def manifest_key(self, flow: Flow) -> str:
        return f"{self.prefix}{MANIFEST_SUFFIXES[flow]}"

    def result_prefix(self, epoch: int) -> str:
        return f"{self.results_prefix}{epoch}/"

    def result_key(self, epoch: int, name: str) -> str:
        return f"{self.result_prefix(epoch)}{name}"

    def __str__(self) -> str:
        return f"{self.session_id}/{self.job_id}"


@dataclass(frozen=True, slots=True)
class ManifestKey:
    """The key of a manifest: a job, and the flow it goes to."""

    job: JobRef
    flow: Flow


@dataclass(frozen=True, slots=True)
class ControlKey:
    """The key of a control: a whole session (``job`` is None), or one job of it."""

    session_id: str
    control: Control
    job: JobRef | None


def session_prefix(session_id: str) -> str:
    return f"{ROOT}{session_id}/"


def jobs_prefix(session_id: str) -> str:
    return f"{session_prefix(session_id)}jobs/"


def close_key(session_id: str) -> str:
    return f"{session_prefix(session_id)}{Control.CLOSE}{CONTROL_SUFFIX}"


_OF_A_JOB = (Control.CANCEL, Control.UNDO)
_JOB = re.compile(rf"sessions/(?P<session>{_ID})/jobs/(?P<job>{_ID})/(?P<rest>.+)", re.ASCII)
_CLOSE = re.compile(rf"sessions/(?P<session>{_ID})/close\.control\.json", re.ASCII)
_FOLDABLE = re.compile(r"(^|[/\\])\.{0,2}([/\\]|$)|[\x00-\x1f\x7f-\x9f]")


def _is_plain(key: str) -> bool:
    # HTTP libraries, proxies and some stores fold "..", "." and "//" in a path: such a key could leave its session.
    return all(_FOLDABLE.search(form) is None for form in (key, unquote(key)))


def parse_job_key(key: str) -> tuple[JobRef, str] | None:
    """The job that a key belongs to and the rest of the key, or None if it belongs to no job.

    A key with control characters, or with a segment that is empty, ``.`` or ``..``, belongs to none.
    """
    match = _JOB.fullmatch(key)
    if match is None or not _is_plain(key):
        return None
    return JobRef(match["session"], match["job"]), match["rest"]


def parse_manifest_key(key: str) -> ManifestKey | None:
    """What manifest a key names, or None if it names none."""
    parsed = parse_job_key(key)
    if parsed is None:
        return None
    job, rest = parsed
    for flow, suffix in MANIFEST_SUFFIXES.items():
        if rest == suffix:
            return ManifestKey(job, flow)
    return None


def parse_control_key(key: str) -> ControlKey | None:
    """What control a key names, or None if it names none."""
    closed = _CLOSE.fullmatch(key)
    if closed is not None:
        return ControlKey(closed["session"], Control.CLOSE, None)
    parsed = parse_job_key(key)
    if parsed is None:
        return None
    job, rest = parsed
    asked = next((control for control in _OF_A_JOB if rest == f"{control}{CONTROL_SUFFIX}"), None)
    return None if asked is None else ControlKey(job.session_id, asked, job)


def belongs_to_session(key: str, session_id: str) -> bool:
    """Whether a key lies in the session's own space, however its path is read."""
    return key.startswith(session_prefix(session_id)) and _is_plain(key)
