"""What query and visualization have in common: drop → tables → what the model's code left behind."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from consumers.analyst import Analysis, Analyst, Question
from consumers.drop import Drop
from consumers.errors import Permanent
from consumers.llm_service import Budget
from consumers.ports import ObjectStore, Report
from consumers.preprocessing.prepare import Preprocessor
from consumers.preprocessing.profile import describe_tables
from events.keys import Flow
from events.manifest import Manifest
from events.results import FailureCode, Stage

BUNDLE_NAME = "run.json"


@dataclass(frozen=True, slots=True)
class Answering:
    """Prepares a drop's tables and has the request about them answered."""

    store: ObjectStore
    preprocessor: Preprocessor
    analyst: Analyst
    budget: Callable[[], Budget]
    sample_rows: int

    async def run(self, drop: Drop, flow: Flow, *, report: Report, scratch: Path) -> tuple[Analysis, tuple[str, ...]]:
        """The analysis, its file below ``scratch``, and every decision taken on the way there.

        Prompts, replies and programs are kept beside the results, as ``run.json``.
        """
        manifest = drop.manifest
        _refuse_what_is_not_there_yet(manifest)
        await report(Stage.PREPARE, f"Reading {_count(len(manifest.files), 'file')}.")
        prepared = await self.preprocessor.prepare(manifest, scratch=scratch)
        output = scratch / "analysis"
        output.mkdir()
        question = Question(
            text=manifest.query,
            flow=flow,
            profile=describe_tables([(table.name, table.profile) for table in prepared.tables], self.sample_rows),
            tables=[(table.name, table.path) for table in prepared.tables],
            output=output,
        )
        analysis = await self.analyst.answer(question, report=report, budget=self.budget())
        bundle = json.dumps(analysis.bundle, ensure_ascii=False).encode("utf-8", "replace")
        await self.store.put(drop.job.result_key(drop.epoch, BUNDLE_NAME), bundle, media_type="application/json")
        return analysis, (*prepared.notes, *analysis.notes)


def _refuse_what_is_not_there_yet(manifest: Manifest) -> None:
    if manifest.spreadsheets:
        raise Permanent(
            FailureCode.NOT_SUPPORTED,
            "Online spreadsheets cannot be read yet. Download the sheet as xlsx or csv and drop that file.",
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
