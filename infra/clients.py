"""The AWS clients: one session, and a connection pool of its own for each kind of call."""

from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import boto3
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import get_session
from botocore.config import Config

from infra.settings import Settings
from infra.short_calls import USER_AGENT, use_short_calls
from infra.sqs_batches import SqsBatches

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient

Service = Literal["s3", "sqs", "sts"]

CONNECT_SECONDS = 5
S3_READ_SECONDS = 30
CONTROL_READ_SECONDS = 10
# A long poll answers only after its wait; the reply itself must still arrive.
POLL_MARGIN_SECONDS = 10

SYNC_ATTEMPTS = 3
# The workers' calls are tried again in one place only (consumers/aws_retry.py). A hidden second try
# below it would meet 412 from its own first one in every conditional write whose reply got lost.
WORKER_ATTEMPTS = 1

# Most connections that one lane has open at once: four parts of an upload, a download, and the ledger.
S3_PER_LANE = 8
CONTROL_PER_LANE = 2
# Renewals, releases and the queues' own polls go on while every lane is busy.
SPARE_CONNECTIONS = 8


def sync_client(settings: Settings, service: Service) -> Any:
    """A boto3 client for provisioning and the command line: signature v4, finite timeouts, three attempts."""
    options = _options(settings, service, attempts=SYNC_ATTEMPTS, read_seconds=S3_READ_SECONDS)
    return boto3.client(service, config=Config(**options), **_connection(settings))


class Clients:
    """The workers' clients, created once: ``s3``, ``polls`` (long receives) and ``control`` (all else of SQS).

    The pools are separate, so that neither long polls nor large objects can hold up an acknowledgement.
    ``links`` only signs, for the endpoint that the uploader's browser reaches. ``batches`` coalesce what
    goes by ``control``, and are flushed before that is closed.
    """

    s3: "S3Client"
    links: "S3Client"
    polls: "SQSClient"
    control: "SQSClient"
    batches: SqsBatches

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        settings, session, connection = self._settings, get_session(), _connection(self._settings)
        use_short_calls(session)
        s3 = _pool(settings, "s3", connections=settings.lanes * S3_PER_LANE, read_seconds=S3_READ_SECONDS)
        polls = _pool(
            settings,
            "sqs",
            connections=settings.lanes,
            read_seconds=settings.receive_wait_seconds + POLL_MARGIN_SECONDS,
        )
        control = _pool(
            settings, "sqs", connections=settings.lanes * CONTROL_PER_LANE, read_seconds=CONTROL_READ_SECONDS
        )
        async with AsyncExitStack() as stack:
            self.s3 = await stack.enter_async_context(session.create_client("s3", config=s3, **connection))
            self.links = self.s3
            if settings.links_endpoint_url != settings.aws_endpoint_url:
                public = settings.model_copy(update={"aws_endpoint_url": settings.links_endpoint_url})
                links = _pool(public, "s3", connections=0, read_seconds=S3_READ_SECONDS)
                self.links = await stack.enter_async_context(
                    session.create_client("s3", config=links, **_connection(public))
                )
            self.polls = await stack.enter_async_context(session.create_client("sqs", config=polls, **connection))
            self.control = await stack.enter_async_context(session.create_client("sqs", config=control, **connection))
            self.batches = await stack.enter_async_context(SqsBatches(self.control))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()


class _OneTry(AIOHTTPSession):
    """The SDK's transport without the second try that aiohttp makes, unasked, of every PUT, GET and DELETE."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)  # type: ignore[misc]  # the stubs leave it out
        session._retry_connection = False  # noqa: SLF001 - there is no public way; the contract tests hold it
        return session


def _pool(settings: Settings, service: Service, *, connections: int, read_seconds: float) -> AioConfig:
    return AioConfig(
        max_pool_connections=connections + SPARE_CONNECTIONS,
        http_session_cls=_OneTry,
        # The SDK composes its own from two dozen parts, twice in every call: a tenth of what a call costs.
        user_agent=USER_AGENT,
        # What we ask of SQS is ours alone, and SQS checks it again.
        parameter_validation=service != "sqs",
        **_options(settings, service, attempts=WORKER_ATTEMPTS, read_seconds=read_seconds),
    )


def _options(settings: Settings, service: Service, *, attempts: int, read_seconds: float) -> dict[str, Any]:
    """What both SDKs' Config understand.

    Checksums only where S3 requires them: the SDK's default sends streams as aws-chunked with a CRC
    trailer, which not every S3 takes. Bodies stay protected without it: they are bytes, and signature
    version 4 then covers their SHA-256.
    """
    return {
        # Asked for by name: presigned S3 URLs would fall back to version 2 in some regions.
        "signature_version": "s3v4" if service == "s3" else "v4",
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": read_seconds,
        "retries": {"mode": "standard", "total_max_attempts": attempts},
        "s3": {"addressing_style": "path" if settings.aws_endpoint_url else "auto"},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }


def _connection(settings: Settings) -> dict[str, Any]:
    """Region, endpoint and keys; what is not set is left to the SDK's own chain."""
    connection: dict[str, Any] = {"region_name": settings.region}
    if settings.aws_endpoint_url is not None:
        connection["endpoint_url"] = settings.aws_endpoint_url
    if settings.aws_access_key_id is not None and settings.aws_secret_access_key is not None:
        connection["aws_access_key_id"] = settings.aws_access_key_id
        connection["aws_secret_access_key"] = settings.aws_secret_access_key.get_secret_value()
        if settings.aws_session_token is not None:
            connection["aws_session_token"] = settings.aws_session_token.get_secret_value()
    return connection
