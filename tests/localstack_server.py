"""A real LocalStack for the tests, without Docker: installed once, started on a free port, ended with its children.

It lives in a virtual environment of its own, because its pins are older than ours.
"""

import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from environments import installed
from localstack_client import config

VERSION = "4.12.0"
LOCK = Path(__file__).parents[1] / "infra" / "locks" / "localstack.txt"
READY_SECONDS = 60


@contextmanager
def localstack() -> Iterator[str]:
    """Run LocalStack until the block ends; yields its endpoint URL."""
    python = install() / "bin" / "python"
    with tempfile.TemporaryDirectory(prefix="dropchute-localstack-", ignore_cleanup_errors=True) as folder:
        address = f"127.0.0.1:{free_port()}"
        endpoint = _endpoint(address)
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                # Not localstack-supervisor: its child could outlive it for a moment, port and all.
                [python, "-m", "localstack.runtime.main"],
                env=_environment(address, Path(folder)),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            await_ready(address, "/_localstack/health", process, log)
            yield endpoint
        finally:
            stop_group(process)


def install() -> Path:
    """The virtual environment that holds LocalStack, made on first use (about a minute)."""
    wanted = ["--require-hashes", "--requirement", str(LOCK)]
    return installed(f"localstack-{VERSION}", wanted, fingerprint=LOCK.read_bytes())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _endpoint(address: str) -> str:
    endpoint: str | None = config.get_service_endpoint("s3", localstack_host=address)
    if endpoint is None or urlsplit(endpoint).netloc != address:
        raise RuntimeError(f"AWS_ENDPOINT_URL leads the tests to {endpoint} instead of their own LocalStack: unset it.")
    return endpoint


def _environment(address: str, folder: Path) -> dict[str, str]:
    # Nothing is inherited but the path: LocalStack reads dozens of variables.
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "LOCALSTACK_VOLUME_DIR": str(folder / "volume"),
        "GATEWAY_LISTEN": address,
        "LOCALSTACK_HOST": address,
        "SQS_ENDPOINT_STRATEGY": "path",
        "SERVICES": "s3,sqs,sts",
        "STRICT_SERVICE_LOADING": "1",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DNS_ADDRESS": "0",
        # Links are checked as S3 checks them.
        "S3_SKIP_SIGNATURE_VALIDATION": "0",
    }


def await_ready(address: str, health: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the process answers at that path; RuntimeError with the end of its log if it does not."""
    deadline = time.monotonic() + READY_SECONDS
    while not _healthy(address, health):
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            if time.monotonic() < deadline:
                continue
        raise RuntimeError(f"{health} did not become ready. The end of its log:\n{_tail(log)}")


def _healthy(address: str, health: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", health)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """At once, and what it has started with it: nothing in there outlives the tests."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
