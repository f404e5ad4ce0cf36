"""A real MiniStack for the tests, without Docker: installed once, started on a free port, ended with its children.

It lives in a virtual environment of its own, because its pins are not ours.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from environments import installed
from localstack_server import await_ready, free_port, stop_group

VERSION = "1.5.33"
LOCK = Path(__file__).parents[1] / "infra" / "locks" / "ministack.txt"


@contextmanager
def ministack() -> Iterator[str]:
    """Run MiniStack until the block ends; yields its endpoint URL.

    Raises:
        subprocess.CalledProcessError: it cannot be installed here.
    """
    program = install() / "bin" / "ministack"
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="dropchute-ministack-", ignore_cleanup_errors=True) as folder:
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program],
                env=environment(port, folder),
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            await_ready(f"127.0.0.1:{port}", "/_ministack/health", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            stop_group(process)


def install() -> Path:
    """The virtual environment that holds MiniStack, made on first use (a few seconds)."""
    wanted = ["--require-hashes", "--requirement", str(LOCK)]
    return installed(f"ministack-{VERSION}", wanted, fingerprint=LOCK.read_bytes())


def environment(port: int, folder: str) -> dict[str, str]:
    """What a MiniStack is told that lives in this folder."""
    # Nothing is inherited but the path: MiniStack reads dozens of variables.
    return {
        "PATH": os.environ["PATH"],
        "HOME": folder,
        "TMPDIR": folder,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "LOG_LEVEL": "ERROR",
        "SERVICES": "s3,sqs,sts",
        # It would remove containers that it takes for leftovers of its own.
        "DOCKER_HOST": f"unix://{folder}/no-docker",
    }
