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


def replace_recordings(fresh: Path, folder: Path = DEMO_RECORDINGS) -> Sequence[Path]:
    """Put the recordings of ``fresh`` in the place of all that ``folder`` has; returns where they are now."""
    for old in folder.glob("*.json"):
        old.unlink()
    return [Path(shutil.copy(new, folder)) for new in sorted(fresh.glob("*.json"))]
