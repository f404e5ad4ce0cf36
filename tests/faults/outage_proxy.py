"""A way to the cloud that fails: it refuses, cuts connections, is slow, or is not there, as a test tells it."""

import asyncio
import json
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from localstack_server import free_port
from yarl import URL

NOT_FORWARDED = {"connection", "transfer-encoding", "content-length", "keep-alive", "expect", "date"}
CLOSE_AT_ONCE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Weather:
    """Shares of the requests that are refused or cut, from 0 to 1, and how long each one takes."""

    refused: float = 0
    cut_before: float = 0
    cut_after: float = 0
    slow_seconds: float = 0


FAIR = Weather()


class Proxy:
    """Between workers at ``endpoint_url`` and the cloud; ``failed`` counts what it spoiled."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession, *, seed: int) -> None:
        self._upstream = upstream
        self._session = session
        self._random = random.Random(seed)
        self._port = free_port()
        self._runner: web.ServerRunner | None = None
        self.endpoint_url = f"http://127.0.0.1:{self._port}"
        self.weather = FAIR
        self.failed = 0

    async def appear(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()

    async def vanish(self) -> None:
        """Nobody listens any more, and what was open is cut."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        weather, draw = self.weather, self._random.random()
        if "Expect" in request.headers:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body = await request.read()
        if weather.slow_seconds:
            await asyncio.sleep(weather.slow_seconds)  # it is what is tested
        if draw < weather.refused:
            self.failed += 1
            return _refusal(request)
        draw -= weather.refused
        if 0 <= draw < weather.cut_before:
            return self._cut(request)
        try:
            reply = await self._forward(request, body)
        except aiohttp.ClientError:
            return self._cut(request)
        if 0 <= draw - weather.cut_before < weather.cut_after:
            return self._cut(request)
        return reply

    async def _forward(self, request: web.BaseRequest, body: bytes) -> web.Response:
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in NOT_FORWARDED]
        url = URL(self._upstream + request.raw_path, encoded=True)
        async with self._session.request(request.method, url, headers=headers, data=body) as reply:
            kept = [(name, value) for name, value in reply.headers.items() if name.lower() not in NOT_FORWARDED]
            return web.Response(status=reply.status, headers=kept, body=await reply.read())

    def _cut(self, request: web.BaseRequest) -> web.Response:
        self.failed += 1
        if request.transport is not None:
            # Lingering for zero seconds makes it a reset.
            connection: socket.socket = request.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_AT_ONCE)
            request.transport.abort()
        return web.Response(status=500)


def _refusal(request: web.BaseRequest) -> web.Response:
    if "X-Amz-Target" in request.headers:
        body = json.dumps({"__type": "com.amazonaws.sqs#ServiceUnavailable", "message": "Not now."})
        return web.Response(status=503, text=body, content_type="application/x-amz-json-1.0")
    return web.Response(
        status=503,
        text="<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>",
        content_type="application/xml",
    )


@asynccontextmanager
async def proxy_before(upstream: str, *, seed: int = 7) -> AsyncIterator[Proxy]:
    """A proxy that runs in this event loop until the block ends."""
    connections = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connections, auto_decompress=False) as session:
        proxy = Proxy(upstream, session, seed=seed)
        await proxy.appear()
        try:
            yield proxy
        finally:
            await proxy.vanish()
