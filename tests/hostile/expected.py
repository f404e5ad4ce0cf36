"""What each tier is expected to do about each class: stop it, unless it is listed here with a reason.

The list holds both ways: a class that is listed and does not get through fails its test as well.
"""

_NO_WALL = "nothing is closed"
_NO_FILTER = "no system call is refused"
_NETWORK = "it has the machine's network"

NOT_STOPPED: dict[str, dict[int, str]] = {
    "gvisor": {
        55: "/dev/fuse and /dev/net/tun open; they are its own kernel's",
    },
    "namespaces": {},
    "landlock": {
        34: "it sees the machine's name",
    },
    "process": {
        6: "it can write to /dev/shm",
        12: _NO_FILTER,
        26: "it may kill the worker",
        28: "it reads the worker's memory",
        31: _NO_WALL,
        32: _NO_WALL,
        33: _NETWORK,
        34: _NO_WALL,
        35: _NETWORK,
        36: _NETWORK,
        37: _NETWORK,
        38: _NO_WALL,
        39: _NO_FILTER,
        40: _NO_FILTER,
        41: _NO_FILTER,
        42: _NO_FILTER,
        43: _NO_FILTER,
        44: _NO_FILTER,
        45: _NO_FILTER,
        46: _NO_FILTER,
        48: _NO_FILTER,
        49: _NO_FILTER,
        51: "it runs programs",
        52: "it runs programs",
        53: "it shares the machine's objects",
        54: _NO_FILTER,
        56: "it writes through its link",
        74: "/tmp is the machine's",
        73: "inputs are the worker's own files",
    },
}
_EVERYWHERE = {75: "a made-up number looks like a computed one"}


def not_stopped(tier: str, number: int) -> str:
    """Why this tier does not stop it; empty where it does."""
    return _EVERYWHERE.get(number) or NOT_STOPPED[tier].get(number, "")
