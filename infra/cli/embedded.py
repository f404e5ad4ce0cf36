"""A stack of the command's own: in this process, with the configured model or the replayed one."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from rich.console import Console

from infra.cli import show
from infra.cli.environment import model_is_configured
from infra.embedded.demo import DEMO_RECORDINGS
from infra.embedded.replayed_model import ReplayedModel
from infra.embedded.stack import EmbeddedStack, embedded_stack
from infra.settings import Settings

ONLY_THE_DEMO = (
    "No model is configured, so recorded replies are used: they know the demo's questions and no others. "
    "For a live model set OPENAI_BASE_URL, OPENAI_API_KEY and LLM_MODEL."
)


@asynccontextmanager
async def own_stack(settings: Settings, human: Console) -> AsyncIterator[EmbeddedStack]:
    """Bring it up, and say who answers."""
    with ExitStack() as exits:
        if model_is_configured(settings):
            replayed = None
            show.say(human, f"Questions go to {settings.llm_model} at {settings.openai_base_url}.")
        else:
            replayed = exits.enter_context(ReplayedModel(DEMO_RECORDINGS))
            show.say(human, ONLY_THE_DEMO, style="yellow")
        async with embedded_stack(settings, replayed=replayed) as embedded:
            yield embedded
