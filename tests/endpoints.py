"""Which of the real endpoints a module's tests run against."""

from typing import Any

import pytest


def each_of(*names: str) -> Any:
    """The fixture ``endpoint_url`` of a module or folder: every test that takes it runs against each of these."""

    @pytest.fixture(scope="module", params=names)
    def endpoint_url(request: pytest.FixtureRequest) -> str:
        url: str = request.getfixturevalue(f"{request.param}_endpoint")
        return url

    return endpoint_url
