"""The replayed model: a chat endpoint that answers what a real model once answered, and nothing else."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from consumers.llm_service import NO_RECORDING
from infra.embedded.served import Served

RECORDINGS = Path(__file__).parent / "recordings"
"""One folder for each who asks: a recording goes when its owner records again."""

KEY_CHARS = 16
UPSTREAM_SECONDS = 600


def recording_key(request: Mapping[str, Any]) -> str:
    """What a request asks, as the start of a SHA-256; whatever name the client has for the model."""
    asked = {name: request.get(name) for name in ("messages", "temperature", "max_tokens")}
    canonical = json.dumps(asked, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_CHARS]


def replace_recordings(fresh: Path, folder: Path) -> Sequence[Path]:
    """Put the recordings of ``fresh`` in the place of all that ``folder`` has; returns where they are now."""
    new = sorted(fresh.glob("*.json"))
    for old in folder.glob("*.json"):
        old.unlink()
    folder.mkdir(exist_ok=True)
    return [Path(shutil.copy(path, folder)) for path in new]


class ReplayedModel(Served):
    """An OpenAI-compatible server on a free local port, for as long as its ``with`` block lasts.

    Answers come from ``folder``, one JSON file for each exchange. With ``upstream``, the base URL of a real
    endpoint, a question without a recording goes there, and the answer is kept as it came.
    """

    def __init__(self, folder: Path, *, upstream: str | None = None, api_key: str = "") -> None:
        self._folder = folder
        self._upstream = upstream
        self._api_key = api_key
        routes = [
            Route("/v1/chat/completions", self._complete, methods=["POST"]),
            Route("/v1/models", self._models),
        ]
        super().__init__(Starlette(routes=routes), name="replayed-model")

    @property
    def base_url(self) -> str:
        return f"{self.root_url}/v1"

    async def _models(self, _: Request) -> JSONResponse:
        recordings = [json.loads(path.read_bytes()) for path in self._folder.glob("*.json")]
        names = sorted({recording["model"] for recording in recordings})
        data = [{"id": name, "object": "model", "owned_by": "recorded"} for name in names]
        return JSONResponse({"object": "list", "data": data})

    async def _complete(self, request: Request) -> JSONResponse:
        try:
            asked = await request.json()
            key = recording_key(asked)
        except (ValueError, AttributeError):
            return _error(400, "The body is not a JSON object.", code="invalid_request")
        path = self._folder / f"{key}.json"
        if path.exists():
            return JSONResponse(json.loads(path.read_bytes())["response"])
        if self._upstream is None:
            return _error(404, _no_recording(key), code=NO_RECORDING)
        return await self._record(self._upstream, asked, path)

    async def _record(self, upstream: str, asked: dict[str, Any], path: Path) -> JSONResponse:
        async with openai.AsyncOpenAI(
            base_url=upstream, api_key=self._api_key or "none", max_retries=0, timeout=UPSTREAM_SECONDS
        ) as client:
            try:
                raw = await client.chat.completions.with_raw_response.create(**asked)
            except openai.APIStatusError as error:
                return _error(error.status_code, error.message, code=error.code)
            except openai.APIConnectionError as error:
                return _error(502, f"{upstream} cannot be reached: {error}", code="upstream")
        response = json.loads(raw.http_response.content)
        recording = {
            "recorded_at": datetime.now(UTC).date().isoformat(),
            "model": response.get("model"),
            "request": asked,
            "response": response,
        }
        text = json.dumps(recording, ensure_ascii=False, indent=2) + "\n"
        await asyncio.to_thread(path.write_text, text, encoding="utf-8")
        return JSONResponse(response)


def _no_recording(key: str) -> str:
    return (
        f"NO RECORDING {key}: the replayed model was never asked this. The prompt or the data has changed. "
        "Record again with a real model (`make record`), or set OPENAI_BASE_URL to a live endpoint."
    )


def _error(status: int, message: str, *, code: str | None) -> JSONResponse:
    """Source: OpenAI API reference, "Errors"."""
    body = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": body}, status_code=status)
