"""Which tier a machine gets, and what it is told it lacks; where user namespaces are missing, they really are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from consumers.sandbox.process_tier import ProcessGuests
from consumers.sandbox.tiers import _MENDS, TIERS, SandboxUnavailable, _attested, candidates, open_tier, strongest

ASK = """
import asyncio, json, sys
from pathlib import Path
from consumers.sandbox.tiers import SandboxUnavailable, strongest

async def ask():
    try:
        async with strongest(Path(sys.argv[1]), at_least=sys.argv[2], spares=0) as sandbox:
            return {"tier": sandbox.tier, "walls": sandbox.walls}
    except SandboxUnavailable as error:
        return {"sentence": error.sentence, "mend": error.mend}

print(json.dumps(asyncio.run(ask())))
"""
# A limit of a user namespace holds for those within it: here there are none to be had any more.
WITHOUT_NAMESPACES = ("unshare", "--user", "--map-root-user", "sh", "-c")
FORBID = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'


def without_namespaces(folder: Path, at_least: str) -> dict[str, str]:
    command = [*WITHOUT_NAMESPACES, FORBID, "sh", sys.executable, "-c", ASK, str(folder), at_least]
    said = subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60
    )
    answer: dict[str, str] = json.loads(said.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize(
    ("at_least", "tried"),
    [
        ("gvisor", ("gvisor",)),
        ("namespaces", ("namespaces",)),
        ("landlock", ("namespaces", "landlock")),
        ("process", ("namespaces", "landlock", "process")),
    ],
)
def test_the_strongest_is_tried_first_and_none_below_what_is_allowed(at_least: str, tried: tuple[str, ...]):
    assert candidates(at_least) == tried


@pytest.mark.parametrize("at_least", ["namespaces", "landlock", "process"])
async def test_this_machine_has_namespaces_and_takes_them_whatever_is_allowed(at_least: str, tmp_path: Path):
    async with strongest(tmp_path, at_least=at_least, spares=0) as sandbox:
        assert sandbox.tier == "namespaces"
        assert "system call filter" in sandbox.walls
        assert "own user, mount, pid, ipc and uts namespaces" in sandbox.walls

    assert list(tmp_path.iterdir()) == []


def test_without_user_namespaces_it_says_so_and_how_to_accept_less(tmp_path: Path):
    told = without_namespaces(tmp_path, "namespaces")

    assert told["sentence"].startswith("This machine cannot run the sandbox (namespaces: ")
    assert "user.max_user_namespaces must not be 0" in told["mend"]
    assert told["mend"].endswith("Or accept a weaker tier: DROPCHUTE_SANDBOX_MIN_TIER=landlock.")
    assert list(tmp_path.iterdir()) == []


def test_without_user_namespaces_landlock_is_taken_where_it_is_allowed(tmp_path: Path):
    told = without_namespaces(tmp_path, "landlock")

    assert told["tier"] == "landlock"
    assert "own user, mount, pid, ipc and uts namespaces" not in told["walls"]
    assert "system call filter" in told["walls"]


async def test_gvisor_is_not_taken_for_granted(tmp_path: Path):
    with pytest.raises(SandboxUnavailable, match="there is no program runsc"):
        async with open_tier("gvisor", tmp_path, runsc=tmp_path / "runsc"):
            pass

    assert list(tmp_path.iterdir()) == []


async def test_guests_whose_walls_do_not_stand_are_found_out(tmp_path: Path):
    """Asked of plain processes, which have none of them."""
    (tmp_path / "slots").mkdir()

    with pytest.raises(SandboxUnavailable) as caught:
        await _attested("namespaces", ProcessGuests(tmp_path / "slots"), tmp_path)

    for breach in ("starts a process", "executes a program", "opens a network socket", "reads /etc/passwd"):
        assert breach in caught.value.sentence


def test_every_tier_says_what_it_needs():
    assert set(_MENDS) == set(TIERS)
