"""The demo's story: two files, one question that needs both, and one chart of its answer."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from events.keys import Flow
from infra.drop_client import Request
from infra.embedded.replayed_model import RECORDINGS

QUESTION = Request("Total revenue by region and category.")
CHART = Request("A bar chart of revenue by region, with one colour per category.", flow=Flow.VISUALIZATION)

DEMO_RECORDINGS = RECORDINGS / "demo"


def recorded_from(folder: Path = DEMO_RECORDINGS) -> str:
    """Which model the recordings are of, and from when: ``"qwen2.5-coder-1.5b, 2026-01-31"``."""
    recordings = [json.loads(path.read_bytes()) for path in folder.glob("*.json")]
    return "; ".join(sorted({f"{recording['model']}, {recording['recorded_at']}" for recording in recordings}))


def charted_files(saved: Sequence[Path], folder: Path) -> Sequence[Path]:
    """Copies in ``folder`` of the answer's saved files, named ``result.xlsx`` whatever name was free where they are.

    The chart's recording holds that name.
    """
    return [Path(shutil.copy(path, folder / f"result{path.suffix}")) for path in saved]
