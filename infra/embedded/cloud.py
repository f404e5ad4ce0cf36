"""The embedded cloud: S3, SQS and STS in this process, on a free port of this machine."""

import http.client
from contextlib import ExitStack
from threading import Thread
from types import TracebackType
from typing import Self

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from pydantic import SecretStr
from werkzeug.serving import make_server

from infra.settings import Settings

HOST = "127.0.0.1"
# How long closing may wait for the accepting thread to notice.
STOP_POLL_SECONDS = 0.02
RESET_SECONDS = 10


class EmbeddedCloud:
    """moto, served over HTTP from a thread, empty at the start.

    One at a time: moto keeps its objects per process, so that a second one would empty the first.
    """

    endpoint_url: str

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # Not moto's own ThreadedMotoServer: it prints each request, and takes half a second to stop.
        server = make_server(
            HOST, 0, DomainDispatcherApplication(create_backend_app), threaded=True, request_handler=_Quiet
        )
        thread = Thread(
            target=server.serve_forever, kwargs={"poll_interval": STOP_POLL_SECONDS}, name="embedded-cloud", daemon=True
        )
        with ExitStack() as stack:
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            _reset(server.server_port)
            self.endpoint_url = f"http://{HOST}:{server.server_port}"
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def settings(self, base: Settings) -> Settings:
        """``base``, but pointing here, with keys that open nothing else."""
        return base.model_copy(
            update={
                "aws_endpoint_url": self.endpoint_url,
                "public_endpoint_url": None,
                "aws_access_key_id": "test",
                "aws_secret_access_key": SecretStr("test"),
                "aws_session_token": None,
            }
        )


class _Quiet(MotoRequestHandler):
    """Serves without a line on the terminal for each request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


def _reset(port: int) -> None:
    """Forget every bucket and queue that this process has had: moto documentation, "Server mode"."""
    connection = http.client.HTTPConnection(HOST, port, timeout=RESET_SECONDS)
    try:
        connection.request("POST", "/moto-api/reset")
        connection.getresponse().read()
    finally:
        connection.close()
