"""Google Sheets over HTTP: gspread as a service account, its errors in our words, its writes never made twice."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import gspread
import requests
from google.auth.exceptions import GoogleAuthError, RefreshError
from google.oauth2.service_account import Credentials
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from consumers.delivery.sheet.quota import SharedQuota
from consumers.delivery.sheet.refusals import not_set_up, unavailable
from consumers.errors import SheetRefused, SheetUnclear
from consumers.ports import JsonObject
from infra.daemon_threads import DaemonThreads

GOOGLE = "https://sheets.googleapis.com"
# Spreadsheets, and nothing else of the user's Drive.
SCOPES = ("https://www.googleapis.com/auth/spreadsheets",)
CONNECT_SECONDS = 5
READ_SECONDS = 60
TRIES = 5
THREADS = 8
_LONGEST_PAUSE_SECONDS = 30
_BACKOFF = wait_random_exponential(multiplier=1, max=_LONGEST_PAUSE_SECONDS)

T = TypeVar("T")


class ServiceAccountError(Exception):
    """The key file of the service account cannot be used; the text says why, and never what is in it."""


class _NotMade(Exception):
    """The call was not made, or made nothing: it may be tried again."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class _Http(gspread.HTTPClient):
    """gspread's client with timeouts, at whatever address Sheets is."""

    def __init__(self, credentials: Credentials, base_url: str) -> None:
        super().__init__(credentials)
        self._base_url = base_url.rstrip("/")
        self.set_timeout((CONNECT_SECONDS, READ_SECONDS))

    def request(self, method: str, endpoint: str, *args: Any, **options: Any) -> requests.Response:
        return super().request(method, endpoint.replace(GOOGLE, self._base_url, 1), *args, **options)

    def post(self, url: str, body: JsonObject, *, fields: str = "*") -> Any:
        """Without the blanks that requests writes between the parts of JSON: a tenth of a large batch."""
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json; charset=utf-8"}
        return self.request("post", url, params={"fields": fields}, data=data, headers=headers).json()


def read_service_account(path: Path) -> Credentials:
    """The credentials in a key file as Google's console saves it.

    Raises:
        ServiceAccountError: it cannot be read, or is something else.
    """
    try:
        info = json.loads(path.read_bytes())
    except OSError as error:
        raise ServiceAccountError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ServiceAccountError(f"{path} is not JSON.") from error
    return credentials_of(info, name=str(path))


def credentials_of(info: Any, *, name: str) -> Credentials:
    """The same from the file's content."""
    try:
        credentials: Credentials = Credentials.from_service_account_info(info, scopes=SCOPES)  # type: ignore[no-untyped-call]
        # A key that is none of RSA is found out by its first signature only.
        credentials.sign_bytes(b"")
    except (ValueError, GoogleAuthError, TypeError, AttributeError):
        # Without its cause, which may quote the key.
        raise ServiceAccountError(f"{name} is not the key file of a service account.") from None
    return credentials


class GoogleSpreadsheets:
    """``consumers.ports.Spreadsheets`` over HTTP; an async context manager, made once and shared by all jobs.

    Each call waits for the quota that all workers share. Reads are tried again after every passing error;
    writes only where it is certain that nothing was changed.
    """

    def __init__(
        self,
        credentials: Credentials,
        quota: SharedQuota,
        *,
        base_url: str = GOOGLE,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.account: str = credentials.service_account_email
        self._credentials = credentials
        self._quota = quota
        self._base_url = base_url
        self._pause = pause
        self._threads: DaemonThreads[JsonObject] = DaemonThreads(THREADS, name="google-sheets")
        # A requests session belongs to one thread.
        self._own = threading.local()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.close()

    async def get(self, spreadsheet_id: str, *, fields: str, ranges: Sequence[str] = ()) -> JsonObject:
        asked: dict[str, Any] = {"fields": fields, "ranges": list(ranges)}
        return await self._read(lambda http: http.spreadsheets_get(spreadsheet_id, asked))

    async def search(self, spreadsheet_id: str, *, metadata_key: str) -> JsonObject:
        body = {"dataFilters": [{"developerMetadataLookup": {"metadataKey": metadata_key}}]}
        url = f"{GOOGLE}/v4/spreadsheets/{spreadsheet_id}/developerMetadata:search"
        return await self._read(lambda http: http.post(url, body))

    async def update(
        self, spreadsheet_id: str, steps: Sequence[JsonObject], *, fields: str = "spreadsheetId"
    ) -> JsonObject:
        body: JsonObject = {"requests": list(steps), "includeSpreadsheetInResponse": "updatedSpreadsheet" in fields}
        url = f"{GOOGLE}/v4/spreadsheets/{spreadsheet_id}:batchUpdate"
        return await self._write(lambda http: http.post(url, body, fields=fields))

    async def _read(self, call: Callable[[_Http], JsonObject]) -> JsonObject:
        async def once() -> JsonObject:
            await self._quota.take("reads")
            try:
                return await self._in_a_thread(call)
            except SheetUnclear as error:
                raise _NotMade(str(error)) from error

        return await self._tried_again(once)

    async def _write(self, call: Callable[[_Http], JsonObject]) -> JsonObject:
        async def once() -> JsonObject:
            await self._quota.take("writes")
            return await self._in_a_thread(call)

        return await self._tried_again(once)

    async def _tried_again(self, once: Callable[[], Awaitable[T]]) -> T:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_NotMade),
            wait=_wait_seconds,
            stop=stop_after_attempt(TRIES),
            sleep=self._pause,
            reraise=True,
        )
        try:
            return await retrying(once)
        except _NotMade as error:
            raise unavailable() from error

    async def _in_a_thread(self, call: Callable[[_Http], JsonObject]) -> JsonObject:
        return await self._threads.run(lambda: self._called(call))

    def _called(self, call: Callable[[_Http], JsonObject]) -> JsonObject:
        """One call, and what became of it: a reply, or one of our errors."""
        http: _Http | None = getattr(self._own, "http", None)
        if http is None:
            http = self._own.http = _Http(self._credentials, self._base_url)
        try:
            return call(http)
        except gspread.exceptions.APIError as error:
            raise _meaning(error) from error
        except RefreshError as error:
            if error.retryable:
                raise _NotMade("no token") from error
            raise not_set_up() from error
        except GoogleAuthError as error:
            raise _NotMade("no token") from error
        except requests.RequestException as error:
            if _never_arrived(error):
                raise _NotMade(type(error).__name__) from error
            raise SheetUnclear(type(error).__name__) from error
        except (ValueError, KeyError, TypeError) as error:
            raise SheetUnclear("the reply is none of Google Sheets") from error


def _meaning(error: gspread.exceptions.APIError) -> Exception:
    """Source: Google Cloud APIs, "Errors", and the Sheets API, "Usage limits"."""
    status = error.response.status_code
    if status == 429:
        return _NotMade("too many calls", retry_after=_seconds(error.response.headers.get("Retry-After")))
    if status == 408 or status >= 500:
        return SheetUnclear(f"HTTP {status}")
    told = error.error if isinstance(error.error, dict) else {}
    return SheetRefused(status, str(told.get("status", "")), str(told.get("message", "")))


def _never_arrived(error: requests.RequestException) -> bool:
    """Whether no connection was made, so that nobody can have read what we sent."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    return isinstance(error, requests.ConnectionError) and "NewConnectionError" in repr(error)


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.isdigit() else None


def _wait_seconds(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, _NotMade) else None
    return _BACKOFF(state) if asked is None else min(asked, _LONGEST_PAUSE_SECONDS)
