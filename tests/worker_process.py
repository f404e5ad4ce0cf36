"""A worker as users run it: the real command, which can be killed."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.settings import Settings


@contextmanager
def worker_process(
    settings: Settings, base_url: str, log: Path, *, inside: Sequence[str] = (), **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The real command, in a process of its own; ``more`` adds to its environment, ``inside`` comes before it."""
    assert settings.aws_endpoint_url is not None
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "AWS_ENDPOINT_URL": settings.aws_endpoint_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_TEMP_BUCKET": settings.bucket,
        "DROPCHUTE_STACK": settings.stack,
        "DROPCHUTE_CLAIM_SECONDS": "2",
        "DROPCHUTE_HEARTBEAT_SECONDS": "0.5",
        "DROPCHUTE_VISIBILITY_SECONDS": "4",
        "DROPCHUTE_RECEIVE_WAIT_SECONDS": "1",
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": "scripted",
        **more,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*inside, sys.executable, "-m", "infra.cli.app", "worker"], env=environment, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
