"""``dropchute doctor``: what is needed here, whether it is there, and how to mend it."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import openai
from google.auth.exceptions import GoogleAuthError, RefreshError
from google.auth.transport.requests import Request
from rich.console import Console
from rich.filesize import decimal

from consumers.sandbox.tiers import SandboxUnavailable, strongest
from infra.cli import show
from infra.cli.endings import Ending, ExitCode, ending_of
from infra.cli.environment import model_is_configured, read_settings
from infra.google_sheets import ServiceAccountError, read_service_account
from infra.provision import check, locate
from infra.room import room_of
from infra.settings import Settings

MODEL_SECONDS = 10
SHOWN_MODELS = 5


class _Problem(Exception):
    """Something is amiss; ``mend`` says what to do. ``reached`` is false where nobody answered."""

    def __init__(self, sentence: str, mend: str, *, reached: bool = True) -> None:
        super().__init__(sentence)
        self.mend = mend
        self.reached = reached


@dataclass(frozen=True, slots=True)
class _Check:
    """One line of the report: its name, and what finds out. It returns what is fine, or raises _Problem."""

    name: str
    find_out: Callable[[Settings], Awaitable[str]]


def run() -> None:
    settings, console = read_settings(), Console()
    problems = asyncio.run(_examine(settings, console))
    if any(not problem.reached for problem in problems):
        raise Ending(ExitCode.UNREACHABLE, f"{_count(len(problems))}; something cannot be reached.")
    if problems:
        raise Ending(ExitCode.FAILED, f"{_count(len(problems))}.", code="problems")
    show.say(console, "All is well.", style="green")


def _count(problems: int) -> str:
    return "1 problem" if problems == 1 else f"{problems} problems"


async def _examine(settings: Settings, console: Console) -> list[_Problem]:
    problems = []
    for each in CHECKS:
        try:
            show.say(console, f"ok       {each.name:<9} {await each.find_out(settings)}")
        except _Problem as problem:
            problems.append(problem)
            show.say(console, f"problem  {each.name:<9} {problem}", style="red")
            show.say(console, f"         {'':<9} {problem.mend}")
    return problems


async def _python(_: Settings) -> str:
    return f"{sys.version.split()[0]} on {sys.platform}"


async def _sandbox(settings: Settings) -> str:
    folder = settings.scratch or Path(tempfile.gettempdir())
    try:
        async with strongest(folder, at_least=settings.sandbox_min_tier, spares=1) as sandbox:
            return f"tier {sandbox.tier}: {', '.join(sandbox.walls)}"
    except SandboxUnavailable as error:
        raise _Problem(error.sentence, error.mend) from error


async def _stack(settings: Settings) -> str:
    where = settings.aws_endpoint_url or f"AWS, {settings.region}"
    with _as_problem(mend="`dropchute dev` starts an endpoint; `dropchute provision` makes the stack."):
        stack = await asyncio.to_thread(locate, settings)
        drifts = await asyncio.to_thread(check, settings)
    if drifts:
        raise _Problem(
            f"{len(drifts)} properties at {where} differ from the template.",
            "`dropchute provision --check` lists them, `dropchute provision` puts them right.",
        )
    return f"{where}: bucket {stack.bucket}, {len(stack.queue_urls)} queues, as the template says"


async def _model(settings: Settings) -> str:
    if not model_is_configured(settings):
        raise _Problem(
            "No language model is configured.",
            "Set OPENAI_BASE_URL, OPENAI_API_KEY and LLM_MODEL. The demo does without: its replies are recorded.",
        )
    where = settings.openai_base_url
    async with openai.AsyncOpenAI(
        base_url=where,
        api_key=settings.openai_api_key.get_secret_value() or "none",
        timeout=MODEL_SECONDS,
        max_retries=0,
    ) as client:
        try:
            names = [model.id async for model in client.models.list()]
        except openai.APITimeoutError as error:
            raise _Problem(
                f"{where} does not answer within {MODEL_SECONDS} s.", "It may be busy: try again.", reached=False
            ) from error
        except openai.APIConnectionError as error:
            raise _Problem(f"{where} cannot be reached.", "Check OPENAI_BASE_URL.", reached=False) from error
        except openai.NotFoundError:
            return f"{where} answers; it does not list its models"
        except openai.APIStatusError as error:
            raise _Problem(f"{where} refuses us (HTTP {error.status_code}).", "Check OPENAI_API_KEY.") from error
    if settings.llm_model not in names:
        some = ", ".join(names[:SHOWN_MODELS]) or "none"
        raise _Problem(f"{where} has no model {settings.llm_model}.", f"Set LLM_MODEL to one it has: {some}.")
    return f"{settings.llm_model} at {where}"


async def _scratch(settings: Settings) -> str:
    folder = settings.scratch or Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise _Problem(f"{folder} cannot be written to.", "Set DROPCHUTE_SCRATCH to a folder that can.") from error
    needed = settings.max_drop_bytes
    if free < needed:
        raise _Problem(
            f"{folder} has {decimal(free)} free, less than one drop may have ({decimal(needed)}).",
            "Free some space, set DROPCHUTE_SCRATCH to another folder, or lower DROPCHUTE_MAX_DROP_BYTES.",
        )
    return f"{folder}, {decimal(free)} free"


async def _room(settings: Settings) -> str:
    room = room_of(settings, settings.scratch or Path(tempfile.gettempdir()))
    need = decimal(settings.sandbox_memory_bytes)
    jobs = f"{show.count(room.jobs, 'job')} at once by memory (a sandbox may need {need})"
    return f"{jobs}, with files of {decimal(room.bytes_at_once)}; {settings.lanes} of each flow at the most"


async def _sheets(settings: Settings) -> str:
    path = settings.google_service_account_file
    if path is None:
        return "no service account: answers go to files and charts only (GOOGLE_SERVICE_ACCOUNT_FILE adds sheets)"
    try:
        credentials = read_service_account(path)
        await asyncio.to_thread(credentials.refresh, Request())
    except ServiceAccountError as error:
        raise _Problem(str(error), "Set GOOGLE_SERVICE_ACCOUNT_FILE to a key file of Google's console.") from error
    except RefreshError as error:
        mend = "Check that the service account and its key still exist in Google's console."
        raise _Problem(f"{path}: Google does not accept this key.", mend) from error
    except GoogleAuthError as error:
        raise _Problem("Google cannot be reached.", "Check the network and its proxy.", reached=False) from error
    return f"as {credentials.service_account_email}: users share their sheets with this address"


CHECKS = (
    _Check("python", _python),
    _Check("sandbox", _sandbox),
    _Check("scratch", _scratch),
    _Check("room", _room),
    _Check("stack", _stack),
    _Check("model", _model),
    _Check("sheets", _sheets),
)


@contextmanager
def _as_problem(*, mend: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        ending = ending_of(error)
        if ending is None:
            raise
        reached = ending.exit_code is not ExitCode.UNREACHABLE
        raise _Problem(ending.sentence, ending.advice or mend, reached=reached) from error
