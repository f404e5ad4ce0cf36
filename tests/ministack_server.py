"""A MiniStack for the benchmarks: the quickest of the emulators, in a virtual environment of its own."""

import http.client
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from environments import installed
from localstack_server import free_port, stop_group

REQUIREMENT = "ministack==1.5.33"
READY_SECONDS = 30


@contextmanager
def ministack() -> Iterator[str]:
    """Run MiniStack until the block ends; yields its endpoint URL.

    Raises:
        subprocess.CalledProcessError: it cannot be installed here.
    """
    environment = installed(REQUIREMENT.replace("==", "-"), [REQUIREMENT], fingerprint=REQUIREMENT.encode())
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="dropchute-ministack-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [environment / "bin" / "ministack"],
            env={"PATH": os.environ["PATH"], "HOME": folder, "GATEWAY_PORT": str(port), "LOG_LEVEL": "ERROR"},
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _await_ready(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            stop_group(process)


def _await_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/_ministack/health")
            if connection.getresponse().status == 200:
                return
        connection.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
            break
    raise RuntimeError("MiniStack did not become ready.")
