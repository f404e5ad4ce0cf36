"""How a command ends: an exit code and one sentence, never a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from rich.console import Console

from consumers.aws_retry import error_code, error_status
from consumers.errors import JobError, Transient
from consumers.sandbox.bwrap import SandboxUnavailable
from events.manifest import ManifestError
from events.text import one_line
from infra.drop_client import DropError
from infra.provision import ProvisionError, StackMissing, TemplateError


class ExitCode(IntEnum):
    """What the shell is told; ``dropchute --help`` says the same."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    INTERRUPTED = 130


class Ending(Exception):
    """The command ends here; ``advice`` says what to do about it. ``code`` is a job's failure code, or our own."""

    def __init__(self, exit_code: ExitCode, sentence: str, *, advice: str | None = None, code: str | None = None) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
        self.sentence = sentence
        self.advice = advice
        self.code = code or exit_code.name.lower()


def wrong_usage(sentence: str) -> Ending:
    return Ending(ExitCode.USAGE, sentence)


def ending_of(error: Exception) -> Ending | None:
    """What an error means to the person at the terminal; None if nobody foresaw it."""
    match error:
        case Ending():
            return error
        case StackMissing():
            return Ending(ExitCode.UNREACHABLE, str(error))
        case ProvisionError() | TemplateError() | DropError():
            return Ending(ExitCode.FAILED, str(error))
        case SandboxUnavailable():
            return Ending(ExitCode.FAILED, str(error), code="sandbox_unavailable")
        case ManifestError():
            return Ending(ExitCode.USAGE, error.message, code=error.code)
        case Transient(__cause__=ClientError() | BotoCoreError() as cause):
            return _of_aws(cause)
        case JobError():
            return Ending(ExitCode.FAILED, error.message, code=error.code)
        case ClientError() | BotoCoreError():
            return _of_aws(error)
        case OSError(filename=str(name), strerror=str(reason)):
            return wrong_usage(f"{name}: {reason}.")
        case _:
            return None


@contextmanager
def endings(*, when_interrupted: str = "Stopped.") -> Iterator[None]:
    """Turn what a command raises into its exit code, and into a sentence on stderr."""
    try:
        yield
    except KeyboardInterrupt:
        Console(stderr=True).print(when_interrupted, markup=False)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except Exception as error:
        ending = ending_of(error)
        if ending is None:
            raise
        tell(ending)
        raise typer.Exit(ending.exit_code) from None


def tell(ending: Ending) -> None:
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]{ending.code.replace('_', ' ')}[/]", end="  ")
    console.print(ending.sentence, markup=False, soft_wrap=not sys.stderr.isatty())
    if ending.advice:
        console.print(ending.advice, style="dim", markup=False, soft_wrap=not sys.stderr.isatty())


def _of_aws(error: ClientError | BotoCoreError) -> Ending:
    keys = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role or profile that is used instead."
    if isinstance(error, NoCredentialsError):
        return Ending(ExitCode.UNREACHABLE, "There are no AWS keys.", advice=keys)
    if isinstance(error, ClientError):
        advice = keys if error_status(error) in {401, 403} else "`dropchute doctor` checks the rest."
        said = error_code(error)
        return Ending(ExitCode.UNREACHABLE, f"{error.operation_name} was refused ({said}).", advice=advice)
    return Ending(
        ExitCode.UNREACHABLE,
        one_line(str(error)),
        advice="Set AWS_ENDPOINT_URL to an endpoint that runs. `dropchute dev` starts one, and says how to use it.",
    )
