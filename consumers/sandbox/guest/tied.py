"""A program tied to the process that started it: ``python -I -S -B tied.py PID PROGRAM ARGUMENT…`` becomes it.

It is killed when that process ends, however that ends, so that nothing outlives a worker.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from consumers.sandbox.guest import kernel


def tie(parent: int) -> None:
    """Die with this parent; at once, if it has ended already (PR_SET_PDEATHSIG(2const), CAVEATS)."""
    kernel.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - this is what it is for
