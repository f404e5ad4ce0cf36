"""A sandbox without walls, for tests of what stands around the sandbox: quick, and there on every machine."""

import tempfile
from pathlib import Path

from consumers.sandbox.process_tier import ProcessGuests
from consumers.sandbox.walled import WalledSandbox


def process_sandbox() -> WalledSandbox:
    """Its slots lie in the system's folder for temporary files, each for as long as its task runs."""
    return WalledSandbox("process", (), ProcessGuests(Path(tempfile.gettempdir())))
