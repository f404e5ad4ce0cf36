"""What the walls look like from inside: for ``dropchute doctor`` and for tests."""

import os
from pathlib import Path
from typing import Any

from consumers.sandbox.guest.contract import Folders


def probe(_arguments: dict[str, Any], folders: Folders) -> dict[str, Any]:
    """What the guest can see: its environment, the root folder, network devices, its own ids."""
    devices = Path("/proc/net/dev").read_text().splitlines()[2:]
    return {
        "environment": sorted(os.environ),
        "root": sorted(entry.name for entry in Path("/").iterdir()),
        "network": sorted(line.split(":")[0].strip() for line in devices),
        "processes": sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()),
        "uid": os.getuid(),
        "inputs": sorted(entry.name for entry in folders.inputs.iterdir()),
    }
