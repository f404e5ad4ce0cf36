"""``dropchute dev``: S3, SQS and a worker in this process, for another terminal, until Ctrl-C."""

import asyncio
import shlex

from rich.console import Console

from infra.cli import show
from infra.cli.embedded import own_stack
from infra.cli.environment import read_settings
from infra.cli.worker import stopping_on_signals
from infra.embedded.stack import EmbeddedStack
from infra.logs import configure_logs
from infra.settings import Settings


def run() -> None:
    configure_logs()
    asyncio.run(_serve(read_settings(), Console()))


async def _serve(settings: Settings, console: Console) -> None:
    with stopping_on_signals() as stop:
        async with own_stack(settings, console) as embedded:
            _tell(console, embedded)
            await stop.wait()
            show.say(console, "Stopping; what was kept here is forgotten.")


def _tell(console: Console, embedded: EmbeddedStack) -> None:
    here = embedded.settings
    show.say(console, f"S3 and SQS are at {here.aws_endpoint_url}, with a worker, until Ctrl-C.", style="bold")
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
