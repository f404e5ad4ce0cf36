"""The real parts that tests run against, each started once."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
from endpoints import each_of
from kit import Kit
from localstack_server import localstack
from ministack_server import ministack
from pydantic import SecretStr

from infra.clients import Clients
from infra.embedded.cloud import EmbeddedCloud
from infra.provision import Stack, provision
from infra.settings import Settings

pytest_plugins = ("attack_table", "fault_table")

# The same examples in every run: a gate must not depend on luck. To look for new ones: --hypothesis-profile=search
hypothesis.settings.register_profile("gate", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", deadline=None, max_examples=2_000)
hypothesis.settings.load_profile("gate")

# A developer's shell may point at another stack; the tests bring their own.
for name in [name for name in os.environ if name.startswith(("AWS_", "DROPCHUTE_", "GOOGLE_", "LLM_", "OPENAI_"))]:
    del os.environ[name]


_CLOUD = """
import sys
from infra.embedded.cloud import EmbeddedCloud
with EmbeddedCloud() as cloud:
    print(cloud.endpoint_url, flush=True)
    sys.stdin.read()
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-from", default=None, help="ask the model at this base URL again, and keep its replies")
    parser.addoption("--long", action="store_true", help="the long versions: more runs of what is drawn at random")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is marked ``long`` runs with ``--long`` only: ``make faults``."""
    if config.getoption("long"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    with EmbeddedCloud() as cloud:
        yield cloud.endpoint_url


@pytest.fixture
def own_moto() -> Iterator[str]:
    """In a process of its own, for tests whose work is half moto's."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", _CLOUD], cwd=Path(__file__).parents[1], stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate(timeout=20)


@pytest.fixture(scope="session")
def localstack_endpoint() -> Iterator[str]:
    with localstack() as endpoint_url:
        yield endpoint_url


@pytest.fixture(scope="session")
def ministack_endpoint() -> Iterator[str]:
    with ministack() as endpoint_url:
        yield endpoint_url


# Modules that hold adapters and fakes to a contract ask for MiniStack as well.
endpoint_url = each_of("moto", "localstack")


@pytest.fixture(scope="session")
def stacks() -> dict[str, Stack]:
    """The stacks that are there already, by endpoint."""
    return {}


@pytest.fixture
def settings(endpoint_url: str) -> Settings:
    """Settings for a stack on the endpoint, quick where waiting proves nothing."""
    return Settings(
        _env_file=None,
        aws_endpoint_url=endpoint_url,
        aws_access_key_id="test",
        aws_secret_access_key=SecretStr("test"),
        bucket="dropchute-tests",
        stack="tests",
        receive_wait_seconds=1,
        heartbeat_seconds=0.2,
        retry_base_seconds=0.1,
        visibility_seconds=10,
    )


@pytest.fixture
def stack(settings: Settings, stacks: dict[str, Stack]) -> Stack:
    endpoint = str(settings.aws_endpoint_url)
    if endpoint not in stacks:
        stacks[endpoint] = provision(settings)
    return stacks[endpoint]


@pytest.fixture
async def kit(settings: Settings, stack: Stack) -> AsyncIterator[Kit]:
    async with Clients(settings) as clients:
        kit = Kit(settings, stack, clients)
        await kit.empty_queues()
        yield kit
