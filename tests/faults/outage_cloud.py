"""A cloud that can break: MiniStack in a process of its own, to be frozen, restarted with its state, and stopped."""

import http.client
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from environments import installed
from localstack_server import free_port, stop_group
from ministack_server import REQUIREMENT

READY_SECONDS, STOP_SECONDS = 60, 20
HOST = "127.0.0.1"


class Cloud:
    """S3 and SQS at ``endpoint_url``, one request after another, as one process."""

    def __init__(self, environment: Path, folder: Path) -> None:
        self._command = environment / "bin" / "ministack"
        self._folder = folder
        self._port = free_port()
        self.endpoint_url = f"http://{HOST}:{self._port}"
        self.start()

    def start(self) -> None:
        """With all that it held when it was stopped."""
        self.process = subprocess.Popen(
            [self._command],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self._folder),
                "GATEWAY_PORT": str(self._port),
                "LOG_LEVEL": "ERROR",
                "PERSIST_STATE": "1",
                "STATE_DIR": str(self._folder / "state"),
                "S3_PERSIST": "1",
                "S3_DATA_DIR": str(self._folder / "s3"),
            },
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._await_ready()
        except BaseException:
            stop_group(self.process)
            raise

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            with closing(http.client.HTTPConnection(HOST, self._port, timeout=5)) as connection, suppress(OSError):
                connection.request("GET", "/_ministack/health")
                with connection.getresponse() as reply:
                    if reply.status == 200:
                        return
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.05)
                break
        raise RuntimeError("MiniStack did not become ready.")

    def stop(self) -> None:
        """As an operator stops it: what it holds is written down."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_SECONDS)
        stop_group(self.process)

    def freeze(self) -> None:
        """Connections are accepted by the kernel, and nothing answers."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)


@contextmanager
def breakable_cloud() -> Iterator[Cloud]:
    environment = installed(REQUIREMENT.replace("==", "-"), [REQUIREMENT], fingerprint=REQUIREMENT.encode())
    with tempfile.TemporaryDirectory(prefix="dropchute-cloud-", ignore_cleanup_errors=True) as folder:
        cloud = Cloud(environment, Path(folder))
        try:
            yield cloud
        finally:
            stop_group(cloud.process)
