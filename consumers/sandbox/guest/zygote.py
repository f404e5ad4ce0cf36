"""The warmed process: Python with its libraries imported, which forks one walled guest after the other.

Started by the host as ``python -I -B zygote.py FD`` with an empty environment: it has never held a secret, and in
tier ``namespaces`` it sees no folder but the slots of the guests. It has one thread, for a fork copies no other, and
only forks: no task runs in it. Over its private descriptor (SOCK_SEQPACKET, one JSON object a packet) come
``{"spawn": number, "slot": name}`` with two descriptors, the guest's channel and what it prints to; back go
``{"ready": …}`` once, ``{"spawned": number}`` with the guest's pidfd, or ``{"failed": number, "reason": …}``,
and ``{"ended": number, "code": …, "cpu": …}``.
"""

import contextlib
import fcntl
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parents[3]))

from consumers.sandbox.guest import jail, kernel, warm_up
from consumers.sandbox.guest.serve import Baseline, serve

PACKET_BYTES = 65_536
PRINTED, CHANNEL = 1, 3
"""Descriptors of a guest: what it prints to, its channel."""

THREADS = 64
TMP_FILES = 4_096


@dataclass(frozen=True, slots=True)
class Start:
    """What the host tells at the start: the tier, where slots are, what a guest may read beside its own."""

    tier: str
    slots: str
    read: tuple[str, ...]
    below_tmp: tuple[str, ...]
    """What of it a guest's own /tmp would hide."""

    tmp_bytes: int


class Zygote:
    """Forks guests as it is told, and tells how each ended."""

    def __init__(self, control: socket.socket, start: Start, baseline: Baseline) -> None:
        self._control = control
        self._start = start
        self._baseline = baseline
        self._ids = os.getuid(), os.getgid()
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._guests: dict[int, tuple[int, int]] = {}
        """By pidfd: the host's number of the guest, and its process id."""

    def run(self) -> None:
        """Until the host hangs up; then every guest dies with this process."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._guests:
                    self._bury(descriptor)
                elif not self._obey():
                    return

    def _obey(self) -> bool:
        packet, descriptors, _, _ = socket.recv_fds(self._control, PACKET_BYTES, 2)
        if not packet:
            return False
        order = json.loads(packet)
        try:
            self._spawn(order["spawn"], order["slot"], *descriptors)
        except OSError as error:
            self._tell({"failed": order["spawn"], "reason": str(error)})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _spawn(self, number: int, slot: str, channel: int, printed: int) -> None:
        pid = jail.fork() if self._start.tier == "namespaces" else os.fork()
        if pid == 0:
            self._become_guest(f"{self._start.slots}/{slot}", channel, printed)
        pidfd = os.pidfd_open(pid)
        self._guests[pidfd] = number, pid
        self._poll.register(pidfd, select.POLLIN)
        self._tell({"spawned": number}, pidfd)

    def _bury(self, pidfd: int) -> None:
        number, pid = self._guests.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status, used = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self._tell({"ended": number, "code": code, "cpu": used.ru_utime + used.ru_stime})

    def _tell(self, fact: dict[str, Any], *descriptors: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # the host has gone: the next poll says so
            socket.send_fds(self._control, [json.dumps(fact).encode()], descriptors)

    def _become_guest(self, slot: str, channel: int, printed: int) -> NoReturn:
        try:
            _only((channel, CHANNEL), (channel, 0), (printed, PRINTED), (printed, 2))
            walls = self._put_up_walls(slot)
        except BaseException:  # noqa: BLE001 - whatever it is, no task may run here, and the host reads why
            traceback.print_exc(limit=3, file=os.fdopen(2, "w"))
            os._exit(70)
        serve(0, CHANNEL, walls, self._baseline, while_waiting=warm_up.as_a_task)

    def _put_up_walls(self, slot: str) -> list[str]:
        start = self._start
        # Should the machine run out of memory, its kernel takes a guest before anything else.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        if start.tier == "namespaces":
            jail.keep_ids(*self._ids)
            seen = jail.enter_root(slot, tmp_bytes=start.tmp_bytes, tmp_files=TMP_FILES, below_tmp=start.below_tmp)
            kernel.set_not_dumpable()
            jail.limit(threads=THREADS)
        else:
            # Dumpable: the host looks at its open files, and no other guest can.
            kernel.die_with_parent(signal.SIGKILL)
            os.setsid()
            seen = jail.Slot(f"{slot}/in", f"{slot}/out", f"{slot}/tmp")  # noqa: S108 - below its slot
            os.chdir(seen.tmp)
            os.environ["HOME"] = os.environ["TMPDIR"] = seen.tmp
            jail.limit(threads=None)
        walls = jail.close(seen, read=start.read, landlock_needed=start.tier == "landlock")
        # Told as found, not as meant: the first process of a pid namespace has the number 1.
        return ["own user, mount, pid, ipc and uts namespaces", *walls] if os.getpid() == 1 else walls


def _only(*places: tuple[int, int]) -> None:
    """Put descriptors where they belong, and close every other one."""
    above = max(place for _, place in places) + 1
    # First above all places: one of them may lie where another has to go.
    copies = [(fcntl.fcntl(source, fcntl.F_DUPFD, above), place) for source, place in places]
    for copy, place in copies:
        os.dup2(copy, place)
    kernel.close_from(above)


def _one_thread() -> None:
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise SystemExit(f"the warmed process has {threads} threads; a fork would copy one of them")


def _baseline() -> Baseline:
    pages = Path("/proc/self/statm").read_text().split()
    size = resource.getpagesize()
    return Baseline(data_bytes=int(pages[5]) * size, address_bytes=int(pages[0]) * size)


def main(descriptor: int) -> None:
    kernel.die_with_parent(signal.SIGKILL)
    with socket.socket(fileno=descriptor) as control:
        told = json.loads(control.recv(PACKET_BYTES))
        start = Start(told["tier"], told["slots"], tuple(told["read"]), tuple(told["below_tmp"]), told["tmp_bytes"])
        warm_up.without_threads()
        _one_thread()
        gc.collect()
        gc.disable()
        gc.freeze()
        zygote = Zygote(control, start, _baseline())
        control.sendall(json.dumps({"ready": os.getpid()}).encode())
        zygote.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
