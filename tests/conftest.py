"""The real parts that tests run against, each started once."""

from collections.abc import Iterator

import pytest
from localstack_server import localstack

from infra.embedded.cloud import EmbeddedCloud


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    with EmbeddedCloud() as cloud:
        yield cloud.endpoint_url


@pytest.fixture(scope="session")
def localstack_endpoint() -> Iterator[str]:
    with localstack() as endpoint_url:
        yield endpoint_url


@pytest.fixture(params=["moto", "localstack"])
def endpoint_url(request: pytest.FixtureRequest) -> str:
    """Every test that takes this runs against each of them."""
    url: str = request.getfixturevalue(f"{request.param}_endpoint")
    return url
