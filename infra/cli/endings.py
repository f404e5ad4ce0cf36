"""How a command ends: an exit code and one sentence, never a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import typer
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from rich.console import Console

from consumers.aws_retry import error_code, error_status
from consumers.errors import JobError, Transient
from consumers.sandbox.tiers import SandboxUnavailable
from events.manifest import ManifestError
from events.text import one_line
from infra.drop_client import DropError
from infra.google_sheets import ServiceAccountError
from infra.health import HealthUnavailable
from infra.provision import ProvisionError, StackMissing, TemplateError

DEV = "`dropchute dev` starts one here, and says how to use it."


# What only the extra "embedded" brings.
EMBEDDED = frozenset({"cryptography", "googleapiclient", "moto", "starlette", "uvicorn", "werkzeug"})


class ExitCode(IntEnum):
    """What the shell is told; ``dropchute --help`` says the same."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


class Ending(Exception):
    """The command ends here; ``advice`` says what to do about it. ``code`` is a job's failure code, or our own."""

    def __init__(
        self, exit_code: ExitCode, sentence: str, *, advice: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
        self.sentence = sentence
        self.advice = advice
        self.code = code or exit_code.name.lower()


def wrong_usage(sentence: str) -> Ending:
    return Ending(ExitCode.USAGE, sentence)


def ending_of(error: Exception) -> Ending | None:
    """What an error means to the person at the terminal; None if nobody foresaw it."""
    ending: Ending | None = None
    match error:
        case Ending():
            ending = error
        case StackMissing():
            ending = Ending(ExitCode.UNREACHABLE, str(error))
        case ProvisionError() | TemplateError() | DropError():
            ending = Ending(ExitCode.FAILED, str(error))
        case ServiceAccountError():
            ending = Ending(ExitCode.USAGE, f"GOOGLE_SERVICE_ACCOUNT_FILE: {error}")
        case HealthUnavailable():
            ending = Ending(ExitCode.USAGE, f"DROPCHUTE_HEALTH_PORT: {error}")
        case SandboxUnavailable():
            ending = Ending(ExitCode.FAILED, error.sentence, advice=error.mend, code="sandbox_unavailable")
        case ManifestError():
            ending = Ending(ExitCode.USAGE, error.message, code=error.code)
        case Transient(__cause__=ClientError() | BotoCoreError() as cause):
            ending = _of_aws(cause)
        case JobError():
            ending = Ending(ExitCode.FAILED, error.message, code=error.code)
        case ClientError() | BotoCoreError():
            ending = _of_aws(error)
        case ModuleNotFoundError(name=str(name)) if name.partition(".")[0] in EMBEDDED:
            ending = wrong_usage(f"{name} is not installed; it comes with: pip install 'dropchute[embedded]'")
        case OSError(filename=str(name), strerror=str(reason)):
            ending = wrong_usage(f"{name}: {reason}.")
    return ending


@contextmanager
def endings() -> Iterator[None]:
    """Turn what a command raises into its exit code, and into a sentence on stderr."""
    try:
        yield
    except KeyboardInterrupt:
        _end(Ending(ExitCode.INTERRUPTED, "Stopped."))
    except Exception as error:
        ending = ending_of(error)
        if ending is None:
            raise
        _end(ending)


def _end(ending: Ending) -> NoReturn:
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]{ending.code}[/]", end="  ")
    console.print(ending.sentence, markup=False, soft_wrap=not sys.stderr.isatty())
    if ending.advice:
        console.print(ending.advice, style="dim", markup=False, soft_wrap=not sys.stderr.isatty())
    raise typer.Exit(ending.exit_code) from None


def _of_aws(error: ClientError | BotoCoreError) -> Ending:
    keys = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role or profile."
    if isinstance(error, NoCredentialsError):
        return Ending(
            ExitCode.UNREACHABLE,
            "There are no AWS keys, and AWS_ENDPOINT_URL names no other place.",
            advice=f"{keys} {DEV}",
        )
    if isinstance(error, ClientError):
        advice = keys if error_status(error) in {401, 403} else "`dropchute doctor` checks the rest."
        said = error_code(error)
        return Ending(ExitCode.UNREACHABLE, f"{error.operation_name} was refused ({said}).", advice=advice)
    return Ending(
        ExitCode.UNREACHABLE,
        one_line(str(error)),
        advice=f"Set AWS_ENDPOINT_URL to an endpoint that runs. {DEV}",
    )
