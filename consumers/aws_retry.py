"""AWS errors that pass: which ones they are, and how a call is tried again."""

import asyncio
from collections.abc import Awaitable, Callable
from random import uniform
from typing import TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004
    HTTPClientError,
    IncompleteReadError,
)
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

T = TypeVar("T")

ATTEMPTS = 3
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 5

# Source: botocore's standard retry mode; RequestTimeout and its kin come with status 400.
PASSING_STATUS = frozenset({429, 500, 502, 503, 504})
PASSING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "InternalError",
        "KmsThrottled",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


def error_code(error: ClientError) -> str:
    """The service's own code, without the prefixes and suffixes that the SQS protocols add to it."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code.rsplit(".", 1)[-1] if code.startswith("AWS.") else code


def error_status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed in a moment: throttling, 5xx, timeouts, connection errors.

    After such an error the call may nevertheless have been carried out.
    """
    if isinstance(error, ClientError):
        return error_status(error) in PASSING_STATUS or error_code(error) in PASSING_CODES
    return isinstance(error, ConnectionError | HTTPClientError | IncompleteReadError)


def retrying(passes: Callable[[BaseException], bool] = may_pass) -> AsyncRetrying:
    """Up to three attempts, exponential with full jitter; then the last error itself."""
    return AsyncRetrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS),
        retry=retry_if_exception(passes),
        reraise=True,
    )


async def retried(call: Callable[[], Awaitable[T]], passes: Callable[[BaseException], bool] = may_pass) -> T:
    """``await call()``, by the rule of ``retrying``, for what every job does: tenacity costs a tenth of a call."""
    failures = 0
    while True:
        try:
            return await call()
        except (ClientError, BotoCoreError) as error:
            failures += 1
            if failures == ATTEMPTS or not passes(error):
                raise
        await asyncio.sleep(wait_seconds(failures - 1))


def wait_seconds(failures: int) -> float:
    """How long to wait after so many earlier failures: the same rule, for loops of another shape."""
    return uniform(0, min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**failures))  # noqa: S311 - jitter is no secret
