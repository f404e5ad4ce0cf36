"""One task served: hello, the task's frame, its limits, the call, one reply, the end.

The reply is one of ``{"value": …}``, ``{"refused": {code, message}}``, ``{"failed": {message, traceback}}``,
``{"memory": message}`` and ``{"fault": reason}``: the machine's, not the task's.
"""

import contextlib
import errno
import gc
import importlib
import os
import resource
import select
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from consumers.sandbox import frames
from consumers.sandbox.guest.contract import Folders, Refusal

MACHINE_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
# The host waits for whom it has asked for: he has better to do than to warm up.
AT_ONCE_SECONDS = 0.02
MAX_TRACEBACK_CHARS = 20_000
MAX_MESSAGE_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a process has already, before its task: its limits count from there. Bytes."""

    data_bytes: int = 0
    address_bytes: int = 0


def serve(
    receive: int,
    send: int,
    walls: list[str],
    baseline: Baseline,
    *,
    while_waiting: Callable[[], None] | None = None,
) -> NoReturn:
    """Serve one task from one descriptor to another, which may be the same; then end the process.

    ``while_waiting`` is called once if the task does not follow at once.
    """
    _write(send, frames.encode({"hello": walls}))
    if while_waiting is not None and not select.select([receive], [], [], AT_ONCE_SECONDS)[0]:
        while_waiting()
    task = frames.decode(_read(receive, frames.check_length(*frames.HEADER.unpack(_read(receive, 4)))))
    limit(task["limits"], baseline)
    gc.enable()
    reply = _reply(task)
    # Before the reply: once it has that, the host waits for nothing more.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the task may have left anything in their place
            stream.flush()
    for printed in (1, 2):
        with contextlib.suppress(OSError):
            os.close(printed)  # the host reads to its end, which would else be that of this process
    with contextlib.suppress(OSError):  # the host has gone
        _write(send, reply)
    # Nothing that the task left behind (threads, exit handlers) may delay the end.
    os._exit(0)


def _read(descriptor: int, size: int) -> bytes:
    """Exactly so many bytes, and not one more: what follows is the task's own stream."""
    body = b""
    while len(body) < size:
        chunk = os.read(descriptor, size - len(body))
        if not chunk:
            os._exit(0)  # the host needs no guest any more
        body += chunk
    return body


def _write(descriptor: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(descriptor, view) :]


def limit(limits: dict[str, Any], baseline: Baseline) -> None:
    """Lower this process's limits to what the task may use, on top of what it had before."""
    cpu, memory = limits["cpu_seconds"], limits["memory_bytes"]
    for what, soft, hard in (
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_DATA, memory + baseline.data_bytes, None),
        (resource.RLIMIT_AS, (limits["address_bytes"] or memory) + baseline.address_bytes, None),
        (resource.RLIMIT_FSIZE, limits["file_bytes"], None),
    ):
        resource.setrlimit(what, (soft, soft if hard is None else hard))


def _reply(task: dict[str, Any]) -> bytes:
    try:
        module, _, name = task["call"].partition(":")
        function = getattr(importlib.import_module(module), name)
        folders = Folders(Path(task["inputs"]), Path(task["output"]))
        return frames.encode({"value": function(task["arguments"], folders)})
    except Refusal as refusal:
        return frames.encode({"refused": {"code": refusal.code, "message": refusal.message[:MAX_MESSAGE_CHARS]}})
    except MemoryError as error:
        return frames.encode({"memory": str(error)[:MAX_MESSAGE_CHARS]})
    except BaseException as error:  # noqa: BLE001 - whatever a task raises, the host is told
        if isinstance(error, OSError) and error.errno in MACHINE_FAULTS:
            return frames.encode({"fault": os.strerror(error.errno)})
        text = "".join(traceback.format_exception(error))
        message = f"{type(error).__name__}: {error}"
        return frames.encode(
            {"failed": {"message": message[:MAX_MESSAGE_CHARS], "traceback": text[-MAX_TRACEBACK_CHARS:]}}
        )
