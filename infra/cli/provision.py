"""``dropchute provision``: the template applied to the endpoint, or compared with it."""

from collections.abc import Sequence

from rich.console import Console
from rich.status import Status

from infra.cli import show
from infra.cli.endings import Ending, ExitCode
from infra.cli.environment import read_settings
from infra.provision import Drift, StackDrift, check, provision


def run(*, only_check: bool, origins: Sequence[str] | None) -> None:
    settings, console = read_settings(), Console()
    where = settings.aws_endpoint_url or f"AWS, {settings.region}"
    if only_check:
        _report(console, check(settings, allowed_origins=origins))
        show.say(console, f"Everything at {where} is as the template says.", style="green")
        return
    try:
        with Status("provisioning", console=console) as spinner:

            def on_step(step: str) -> None:
                spinner.update(step)
                show.say(console, step, style="dim")

            stack = provision(settings, allowed_origins=origins, on_step=on_step)
    except StackDrift as drift:
        _report(console, drift.drifts)
    else:
        show.say(console, f"Ready at {where}: bucket {stack.bucket}, {len(stack.queue_urls)} queues.", style="green")


def _report(console: Console, drifts: Sequence[Drift]) -> None:
    if not drifts:
        return
    rows = [(drift.resource, drift.property, f"{drift.wanted!r}", f"{drift.found!r}") for drift in drifts]
    show.rows_of(console, ("resource", "property", "wanted", "found"), rows)
    raise Ending(
        ExitCode.FAILED,
        f"{len(rows)} properties differ from the template.",
        advice="`dropchute provision` puts them right.",
        code="drift",
    )
