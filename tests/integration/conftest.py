"""Clients that reach their endpoint through a proxy, which fails when a test tells it to."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from faulty_proxy import FaultyProxy
from pydantic import SecretStr

from infra.clients import Clients
from infra.settings import Settings


@pytest.fixture(scope="module")
def proxy_here(endpoint_url: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(endpoint_url).running() as proxy:
        yield proxy


@pytest.fixture
def proxy(proxy_here: FaultyProxy) -> Iterator[FaultyProxy]:
    """The same one, with nothing planned and nothing remembered."""
    proxy_here.forget()
    yield proxy_here
    proxy_here.forget()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients(proxy_here: FaultyProxy) -> AsyncIterator[Clients]:
    """One for a whole module: making them takes longer than most of the tests."""
    settings = Settings(
        _env_file=None,
        aws_endpoint_url=proxy_here.endpoint,
        aws_access_key_id="test",
        aws_secret_access_key=SecretStr("test"),
    )
    async with Clients(settings) as clients:
        yield clients


@pytest.fixture(scope="module")
def s3(clients: Clients):
    return clients.s3
