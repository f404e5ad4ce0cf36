"""A cloud that can break: MiniStack in a process of its own, to be frozen, restarted with its state, and stopped."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localstack_server import await_ready, free_port, stop_group
from ministack_server import environment, install

STOP_SECONDS = 20
HOST = "127.0.0.1"


class Cloud:
    """S3 and SQS at ``endpoint_url``, one request after another, as one process."""

    def __init__(self, folder: Path) -> None:
        self._program = install() / "bin" / "ministack"
        self._folder = folder
        self._port = free_port()
        self.endpoint_url = f"http://{HOST}:{self._port}"
        self.start()

    def start(self) -> None:
        """With all that it held when it was stopped."""
        folder = str(self._folder)
        state = {
            "PERSIST_STATE": "1",
            "STATE_DIR": f"{folder}/state",
            "S3_PERSIST": "1",
            "S3_DATA_DIR": f"{folder}/s3",
        }
        log = self._folder / "log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [self._program],
                env=environment(self._port, folder) | state,
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            await_ready(f"{HOST}:{self._port}", "/_ministack/health", self.process, log)
        except BaseException:
            stop_group(self.process)
            raise

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
    with tempfile.TemporaryDirectory(prefix="dropchute-cloud-", ignore_cleanup_errors=True) as folder:
        cloud = Cloud(Path(folder))
        try:
            yield cloud
        finally:
            stop_group(cloud.process)
