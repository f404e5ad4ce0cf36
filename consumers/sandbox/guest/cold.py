"""The entry of a cold guest: ``python -I -B cold.py [--seccomp] [--parent PID]``, frames on stdin and stdout.

What the task prints goes to stderr, and to stdout nothing but our own reply.
"""

import argparse
import os
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from consumers.sandbox.guest.serve import Baseline, serve

OPEN_FILES = 256


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--seccomp", action="store_true")
    asked.add_argument("--parent", type=int, default=None)
    options = asked.parse_args()
    replies = os.dup(1)
    os.dup2(2, 1)
    serve(0, replies, _walls(seccomp=options.seccomp, parent=options.parent), Baseline())


def _walls(*, seccomp: bool, parent: int | None) -> list[str]:
    """Put up what is asked for; what was applied."""
    _limit()
    if parent is not None and sys.platform == "linux":
        from consumers.sandbox.guest.tied import tie  # noqa: PLC0415 - Linux only

        tie(parent)
    if seccomp:
        from consumers.sandbox.guest import seccomp as calls  # noqa: PLC0415 - Linux only
        from consumers.sandbox.guest.one_process import share_locks_between_threads  # noqa: PLC0415 - as it is then

        share_locks_between_threads()
        calls.install()
    return ["system call filter"] if seccomp else []


def _limit() -> None:
    for what, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, OPEN_FILES)):
        _, hard = resource.getrlimit(what)
        amount = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (amount, amount))


if __name__ == "__main__":
    main()
