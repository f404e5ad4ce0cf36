"""``dropchute demo``: a messy CSV and a workbook, one question, one chart, all in this process."""

import asyncio
import logging
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal

from infra.cli import show
from infra.cli.drop import Handed, hand_in
from infra.cli.endings import Ending, ExitCode, wrong_usage
from infra.cli.environment import model_is_configured, read_settings
from infra.drop_client import drop_client
from infra.embedded.demo import CHART, DEMO_RECORDINGS, QUESTION, charted_files, recorded_from
from infra.embedded.demo_data import ORDERS, write_demo_files
from infra.embedded.replayed_model import ReplayedModel, replace_recordings
from infra.embedded.stack import embedded_stack
from infra.logs import configure_logs
from infra.settings import Settings

SHOWN_LINES = 4
SHOWN_ROWS = 20

HOW_TO_ASK_A_LIVE_MODEL = (
    "To ask a live one (any OpenAI-compatible endpoint), set OPENAI_BASE_URL, OPENAI_API_KEY and LLM_MODEL, "
    "then: dropchute demo --live"
)


def run(*, out: Path | None, live: bool, record: bool) -> None:
    if live and record:
        raise wrong_usage("--live and --record exclude each other: recording asks a live model anyway.")
    settings, console = read_settings(), Console()
    if (live or record) and not model_is_configured(settings):
        raise wrong_usage("No live model is configured: set OPENAI_BASE_URL, OPENAI_API_KEY and LLM_MODEL.")
    configure_logs(level=logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(prefix="dropchute-demo-") as folder:
            if record:
                asyncio.run(_record(console, settings, Path(folder), out))
            else:
                asyncio.run(_play(console, settings, Path(folder), out, live=live))
    except KeyboardInterrupt:
        raise Ending(ExitCode.INTERRUPTED, "Stopped. To see it again: dropchute demo") from None


async def _play(console: Console, settings: Settings, folder: Path, out: Path | None, *, live: bool) -> None:
    console.rule("[bold]Dropchute demo", align="left")
    show.say(console, "S3 and SQS (moto), a worker and its sandbox all run in this process; no network is needed.")
    with ExitStack() as exits:
        if live:
            replayed = None
            show.say(console, f"Questions go to {settings.llm_model} at {settings.openai_base_url}.")
        else:
            replayed = exits.enter_context(ReplayedModel(DEMO_RECORDINGS))
            show.say(console, f"The model's replies are recorded from a real one: {recorded_from()}.")
            show.say(console, HOW_TO_ASK_A_LIVE_MODEL)
        await _two_drops(console, settings, replayed, folder, out)


async def _record(console: Console, settings: Settings, folder: Path, out: Path | None) -> None:
    fresh = folder / "recordings"
    fresh.mkdir()
    upstream, key = settings.openai_base_url, settings.openai_api_key.get_secret_value()
    show.say(console, f"Recording what {settings.llm_model} at {upstream} replies.")
    with ReplayedModel(fresh, upstream=upstream, api_key=key) as recorder:
        await _two_drops(console, settings, recorder, folder, out)
    for path in replace_recordings(fresh, DEMO_RECORDINGS):
        show.say(console, f"recorded {path}")


async def _two_drops(
    console: Console, settings: Settings, model: ReplayedModel | None, folder: Path, out: Path | None
) -> None:
    files = write_demo_files(folder)
    async with embedded_stack(settings, replayed=model) as embedded, drop_client(embedded.settings) as client:
        question, chart = Handed(), Handed()
        _introduce(console, 1, "Two files and one question that needs both", QUESTION.query)
        _describe(console, *files)
        completed = await hand_in(client, files, QUESTION, question, out=out, human=console)
        show.answer(console, completed, question.files, rows=SHOWN_ROWS)

        _introduce(console, 2, "The answer, dropped again, as a chart", CHART.query)
        completed = await hand_in(client, charted_files(question.files, folder), CHART, chart, out=out, human=console)
        show.answer(console, completed, chart.files)
    console.print()
    show.say(console, 'Now yours: dropchute drop FILE --ask "…" --embedded', style="bold")


def _introduce(console: Console, number: int, title: str, query: str) -> None:
    console.print()
    console.rule(f"[bold]{number}. {title}", align="left", style="dim")
    show.say(console, f"“{query}”", style="italic cyan")


def _describe(console: Console, sales: Path, workbook: Path) -> None:
    show.say(console, f"{sales.name} ({decimal(sales.stat().st_size)}, {ORDERS:,} orders) begins:")
    with sales.open(encoding="utf-8") as file:
        for _ in range(SHOWN_LINES):
            show.say(console, f"  {file.readline().rstrip()}", style="dim")
    show.say(console, f"{workbook.name} ({decimal(workbook.stat().st_size)}) has two sheets: Customers and Products.")
