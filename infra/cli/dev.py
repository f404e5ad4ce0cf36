"""``dropchute dev``: S3, SQS and a worker in this process, for another terminal, until Ctrl-C."""

import asyncio
import shlex
from contextlib import ExitStack

from rich.console import Console

from infra.cli import show
from infra.cli.drop import ONLY_THE_DEMO
from infra.cli.environment import read_settings
from infra.cli.worker import stopping_on_signals
from infra.embedded.replayed_model import ReplayedModel
from infra.embedded.stack import EmbeddedStack, embedded_stack, model_is_configured
from infra.logs import configure_logs
from infra.settings import Settings


def run() -> None:
    configure_logs()
    asyncio.run(_serve(read_settings(), Console()))


async def _serve(settings: Settings, console: Console) -> None:
    with stopping_on_signals() as stop, ExitStack() as exits:
        replayed = None if model_is_configured(settings) else exits.enter_context(ReplayedModel())
        async with embedded_stack(settings, replayed=replayed) as embedded:
            _tell(console, embedded, settings if replayed is None else None)
            await stop.wait()
            show.say(console, "Stopping; what was kept here is forgotten.")


def _tell(console: Console, embedded: EmbeddedStack, model: Settings | None) -> None:
    here = embedded.settings
    show.say(console, f"S3 and SQS are at {here.aws_endpoint_url}, with a worker, until Ctrl-C.", style="bold")
    if model is None:
        show.say(console, ONLY_THE_DEMO, style="yellow")
    else:
        show.say(console, f"Questions go to {model.llm_model} at {model.openai_base_url}.")
    show.say(console, "In another terminal:")
    exported = {
        "AWS_ENDPOINT_URL": here.aws_endpoint_url or "",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": here.region,
        "AWS_TEMP_BUCKET": embedded.stack.bucket,
        "DROPCHUTE_STACK": here.stack,
    }
    for name, value in exported.items():
        # For copying: no wrapping, no colour.
        console.out(f"  export {name}={shlex.quote(value)}", highlight=False)
    console.out('  dropchute drop FILE --ask "…"', highlight=False)
