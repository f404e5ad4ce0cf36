"""The guest's entry: limits first, then one task from the private descriptor, one reply, the end.

Started as ``python -I -B main.py FD`` by the host, inside the walls. The reply is one of
``{"value": …}``, ``{"refused": {code, message}}``, ``{"failed": {message, traceback}}``,
``{"memory": message}`` and ``{"fault": reason}``: the machine's, not the task's.
"""

import contextlib
import errno
import importlib
import os
import resource
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from consumers.sandbox import frames
from consumers.sandbox.guest.contract import Folders, Refusal

MACHINE_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
MAX_TRACEBACK_CHARS = 20_000
MAX_MESSAGE_CHARS = 4_000


def main(descriptor: int) -> None:
    with socket.socket(fileno=descriptor) as channel:
        channel.sendall(frames.encode(frames.HELLO))
        task = _receive(channel)
        _limit(task["limits"])
        reply = _reply(task)
        # Before the reply: once it has that, the host waits for nothing more.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the task may have left anything in their place
                stream.flush()
        channel.sendall(reply)
    # Nothing that the task left behind (threads, exit handlers) may delay the end.
    os._exit(0)


def _receive(channel: socket.socket) -> dict[str, Any]:
    with channel.makefile("rb") as stream:
        (length,) = frames.HEADER.unpack(stream.read(frames.HEADER.size))
        return frames.decode(stream.read(frames.check_length(length)))


def _limit(limits: dict[str, Any]) -> None:
    cpu = limits["cpu_seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
    for what, amount in (
        (resource.RLIMIT_DATA, limits["memory_bytes"]),
        (resource.RLIMIT_AS, limits["address_bytes"] or limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (amount, amount))


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


if __name__ == "__main__":
    main(int(sys.argv[1]))
