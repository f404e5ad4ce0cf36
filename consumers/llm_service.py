"""The language model: one chat call, retried where that can help, and what one job may spend on it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import openai
from pydantic import BaseModel, Field, ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from consumers.errors import Permanent, Transient
from consumers.ports import ChatMessage, ModelReply
from events.results import FailureCode

NO_RECORDING = "no_recording"
"""The error code of a replaying endpoint that was never asked this."""

MAX_RETRY_AFTER_SECONDS = 30.0
_BACKOFF = wait_random_exponential(multiplier=0.5, max=10)

_CONTEXT_SIGNS = ("maximum context length", "context_length_exceeded", "exceed_context_size", "context window")


@dataclass(slots=True)
class Budget:
    """What one job may ask of the model, counted from its making; checked before each call."""

    calls: int = 10
    tokens: int = 100_000
    seconds: float = 900
    clock: Callable[[], float] = time.monotonic
    _started: float = field(init=False)
    _calls: int = field(default=0, init=False)
    _tokens: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    def check(self) -> None:
        """Raises Permanent when the next call would be one too many."""
        if self._calls >= self.calls:
            raise _over(f"{self.calls} questions to the language model")
        if self._tokens >= self.tokens:
            raise _over(f"{self.tokens:,} tokens of the language model")
        if self.clock() - self._started >= self.seconds:
            raise _over(f"{self.seconds:.0f} seconds with the language model")

    def count(self, reply: ModelReply) -> None:
        """Tokens count where the endpoint counts them."""
        self._calls += 1
        self._tokens += (reply.prompt_tokens or 0) + (reply.completion_tokens or 0)


def _over(share: str) -> Permanent:
    return Permanent(
        FailureCode.MODEL_REJECTED, f"The request used up its share: {share}. Ask more narrowly, then try again."
    )


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(BaseModel):
    """What we read of a chat completion. Source: OpenAI API reference, "The chat completion object"."""

    model: str | None = None
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class OpenAILanguageModel:
    """Any OpenAI-compatible chat endpoint; an async context manager, made once and shared by all jobs.

    ``timeout_seconds`` holds for one try as a whole. ``sleep`` waits between tries.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        model: str,
        timeout_seconds: float,
        max_reply_tokens: int,
        attempts: int = 3,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        # Endpoints without keys exist; the client wants one all the same.
        self._client = openai.AsyncOpenAI(
            base_url=base_url, api_key=api_key or "none", timeout=timeout_seconds, max_retries=0
        )
        self._model = model
        self._timeout_seconds = timeout_seconds
        self._max_reply_tokens = max_reply_tokens
        self._attempts = attempts
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def complete(self, messages: Sequence[ChatMessage]) -> ModelReply:
        """One reply, at temperature 0; its text may be empty.

        Raises:
            Transient: ``model_unreachable`` after the last try.
            Permanent: ``model_rejected`` or ``model_refused``; the cause keeps what the endpoint said.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception(_may_pass),
            wait=_wait_seconds,
            stop=stop_after_attempt(self._attempts),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return _reply_of(await retrying(self._ask, messages), self._model)
        except (openai.APIConnectionError, TimeoutError) as error:
            raise _unreachable() from error
        except openai.APIStatusError as error:
            raise _unreachable() if _may_pass(error) else _rejection(error) from error

    async def _ask(self, messages: Sequence[ChatMessage]) -> bytes:
        # The client's own timeout holds between bytes only; an endpoint may drip.
        async with asyncio.timeout(self._timeout_seconds):
            raw = await self._client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[_wire(message) for message in messages],
                temperature=0,
                max_tokens=self._max_reply_tokens,
            )
            return raw.http_response.content


def _wire(message: ChatMessage) -> Any:
    return {"role": message.role, "content": message.content}


def _reply_of(body: bytes, asked: str) -> ModelReply:
    try:
        completion = _Completion.model_validate_json(body)
    except ValidationError as error:
        raise _not_usable() from error
    choice = completion.choices[0]
    if choice.message.refusal or choice.finish_reason == "content_filter":
        raise _refused()
    usage = completion.usage or _Usage()
    return ModelReply(
        text=choice.message.content or "",
        model=completion.model or asked,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, (openai.APIConnectionError, TimeoutError)):
        return True
    if not isinstance(error, openai.APIStatusError):
        return False
    # An account without money answers 429 too, and always will.
    if error.code == "insufficient_quota":
        return False
    return error.status_code in {408, 429} or error.status_code >= 500


def _wait_seconds(state: RetryCallState) -> float:
    """Exponential with full jitter, and no less than the endpoint asks for."""
    asked = _retry_after(state.outcome.exception() if state.outcome else None)
    return max(_BACKOFF(state), min(asked, MAX_RETRY_AFTER_SECONDS))


def _retry_after(error: BaseException | None) -> float:
    """Seconds or an HTTP date. Source: RFC 9110, 10.2.3."""
    if not isinstance(error, openai.APIStatusError):
        return 0
    value = error.response.headers.get("retry-after", "")
    try:
        return float(value) if value.isdecimal() else parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0


def _unreachable() -> Transient:
    return Transient(
        FailureCode.MODEL_UNREACHABLE, "The language model cannot be reached right now. Try again in a few minutes."
    )


def _not_usable() -> Permanent:
    return Permanent(
        FailureCode.MODEL_REJECTED,
        "The language model's endpoint did not answer with a chat completion. The operator must check its address.",
    )


def _refused() -> Permanent:
    return Permanent(
        FailureCode.MODEL_REFUSED, "The language model declined this request. Say it in other words, then try again."
    )


def _rejection(error: openai.APIStatusError) -> Permanent:
    """What the endpoint's answer means, without its words: they may speak of keys and accounts."""
    if error.code == NO_RECORDING:
        return Permanent(FailureCode.MODEL_REJECTED, _message(error))
    if error.code == "content_filter":
        return _refused()
    said = f"{error.code} {error.type} {_message(error)}".lower()
    if any(sign in said for sign in _CONTEXT_SIGNS):
        return Permanent(
            FailureCode.MODEL_REJECTED,
            "The description of the files is too long for the language model. Send fewer files or fewer columns.",
        )
    return Permanent(
        FailureCode.MODEL_REJECTED,
        f"The language model's endpoint rejected the request (HTTP {error.status_code}). "
        "The operator must check its address, its key and the model's name.",
    )


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    return str(body.get("message", "")) if isinstance(body, dict) else ""
