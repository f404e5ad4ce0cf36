"""The analyst: the model writes code, the sandbox runs it, and what goes wrong goes back, a few times."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from consumers import prompts
from consumers.errors import Permanent
from consumers.llm_service import Budget
from consumers.ports import (
    ChatMessage,
    GuestError,
    GuestRefusal,
    JsonObject,
    LanguageModel,
    Limits,
    ModelReply,
    Report,
    Sandbox,
    SandboxCrash,
    SandboxError,
    SandboxMemory,
    SandboxOutput,
    SandboxTask,
    SandboxTimeout,
)
from consumers.result_tables import ResultTable
from consumers.sandbox.outputs import UnsafeOutput, output_path
from consumers.sandbox.text import without_control_characters
from events.keys import Flow
from events.results import FailureCode, Stage

GUEST = "consumers.sandbox.guest.run_code"
CALLS = {Flow.QUERY: f"{GUEST}:run_query", Flow.VISUALIZATION: f"{GUEST}:run_chart"}
CHART_FILE = "chart.vl.json"
MAX_TABLES = 20
KINDS = {Flow.QUERY: {"table", "scalar"}, Flow.VISUALIZATION: {"chart"}}
MAX_PRINTED_CHARS = 4_000

SafeText = Annotated[str, AfterValidator(without_control_characters)]
Cell = Annotated[SafeText, Field(max_length=200)]


class _Ours(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Preview(_Ours):
    """The first rows as short texts; empty for a chart."""

    columns: list[Cell] = Field(max_length=20)
    rows: list[Annotated[list[Cell], Field(max_length=20)]] = Field(max_length=20)


class _GuestTable(_Ours):
    """One table that run_code says it wrote."""

    name: Annotated[SafeText, Field(max_length=200)]
    file: str
    rows: int = Field(ge=0)
    columns: int = Field(ge=0)


class _GuestReport(_Ours):
    """What run_code says about the files that it wrote; hostile, because the model's code ran beside it."""

    kind: Literal["table", "scalar", "chart"]
    rows: int = Field(ge=0)
    columns: int = Field(ge=0)
    answer: Annotated[SafeText, Field(max_length=4_000)] | None
    preview: Preview
    notes: list[Annotated[SafeText, Field(max_length=500)]] = Field(max_length=20)
    tables: list[_GuestTable] = Field(default=[], max_length=MAX_TABLES)


@dataclass(frozen=True, slots=True)
class Question:
    """One request over tables.

    ``profile`` describes the tables in words; ``tables`` are display names and Parquet files; ``output`` is
    an existing empty folder, in which each attempt gets a folder of its own.
    """

    text: str
    flow: Flow
    profile: str
    tables: Sequence[tuple[str, Path]]
    output: Path


@dataclass(frozen=True, slots=True)
class Analysis:
    """What came out: ``tables``, or of a chart none; ``file`` is the first one's, or the chart's Vega-Lite.

    No file is parsed out here. ``rows``, ``columns`` and ``preview`` are the first table's too. ``bundle`` is
    JSON-able: every prompt, reply, program and error of the run.
    """

    kind: Literal["table", "scalar", "chart"]
    answer: str | None
    file: Path
    tables: tuple[ResultTable, ...]
    rows: int
    columns: int
    preview: Preview
    notes: tuple[str, ...]
    attempts: int
    code: str
    model: str
    bundle: JsonObject


class AnalysisFailed(Permanent):
    """No attempt led to a result; the code is that of the last one."""

    def __init__(self, code: FailureCode, message: str, bundle: JsonObject) -> None:
        super().__init__(code, message)
        self.bundle = bundle


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why an attempt failed: a code for the uploader, words for the model."""

    code: FailureCode
    words: str


@dataclass(frozen=True, slots=True)
class _Attempt:
    number: int
    messages: Sequence[ChatMessage]
    reply: ModelReply
    code: str | None = None
    printed: str = ""
    problem: _Problem | None = None
    report: _GuestReport | None = None
    file: Path | None = None
    tables: tuple[ResultTable, ...] = ()


_SENTENCES = {
    FailureCode.MODEL_NO_CODE: "The language model did not write a program for this request. Say it in other words.",
    FailureCode.MODEL_REFUSED: "The language model declined this request. Say it in other words, then try again.",
    FailureCode.CODE_FAILED: "No working program was found for this request. Ask more narrowly, and name the columns "
    "that you mean.",
    FailureCode.CODE_TIMEOUT: "The request takes too long to compute. Ask for less at once, or send smaller files.",
    FailureCode.CODE_MEMORY: "The request needs more memory than allowed. Ask for less at once, or send smaller files.",
    FailureCode.CODE_OUTPUT: "The request leads to more output than allowed. Ask for a summary or for fewer rows.",
    FailureCode.RESULT_EMPTY: "Nothing in the files matches the request. Check the names and values in it.",
}


class Analyst:
    """Answers questions with one model and one sandbox; ``attempts`` replies at the most for each.

    Without ``show_values`` no error goes back to the model with a text that could quote a cell.
    """

    def __init__(
        self,
        *,
        model: LanguageModel,
        sandbox: Sandbox,
        attempts: int = 3,
        limits: Limits | None = None,
        show_values: bool = True,
    ) -> None:
        self._model = model
        self._sandbox = sandbox
        self._attempts = attempts
        self._limits = limits or Limits()
        self._show_values = show_values

    async def answer(self, question: Question, *, report: Report, budget: Budget) -> Analysis:
        """Ask, run, and have it mended until there is a result.

        Raises:
            AnalysisFailed: with the code of the last attempt's problem.
            Permanent: the budget is used up, or the model rejected or refused.
            Transient: the model cannot be reached.
        """
        names = [name for name, _ in question.tables]
        first = prompts.first_messages(question.text, question.flow, question.profile, names)
        messages: list[ChatMessage] = first
        done: list[_Attempt] = []
        for number in range(1, self._attempts + 1):
            await report(Stage.ANALYSE, self._progress(number))
            budget.check()
            reply = await self._model.complete(messages)
            budget.count(reply)
            attempt = await self._try(_Attempt(number, messages, reply), question)
            done.append(attempt)
            if attempt.report is not None and attempt.file is not None:
                return _analysis(attempt, attempt.report, attempt.file, self._bundle(question, done))
            messages = prompts.repair_messages(
                first,
                reply.text,
                attempt.problem.words if attempt.problem else "",
                flow=question.flow,
                tables=names,
                repeated=attempt.code is not None and any(attempt.code == earlier.code for earlier in done[:-1]),
            )
        raise self._failure(question, done)

    def _progress(self, number: int) -> str:
        if number == 1:
            return "The language model is writing a program."
        return f"The language model is mending its program (attempt {number} of {self._attempts})."

    async def _try(self, attempt: _Attempt, question: Question) -> _Attempt:
        code = prompts.extract_code(attempt.reply.text, question.flow)
        if code is None:
            refused = prompts.reads_as_refusal(attempt.reply.text)
            failure = FailureCode.MODEL_REFUSED if refused else FailureCode.MODEL_NO_CODE
            return replace(attempt, problem=_Problem(failure, prompts.NO_CODE))
        attempt = replace(attempt, code=code)
        try:
            ran = await self._sandbox.run(self._task(attempt.number, code, question))
        except SandboxError as error:
            return replace(attempt, problem=self._problem(error, code), printed=error.printed)
        attempt = replace(attempt, printed=ran.printed)
        try:
            told = _GuestReport.model_validate(ran.value)
            folder = _folder(question, attempt.number)
            tables = tuple(_result_table(folder, table) for table in told.tables)
            file = tables[0].file if tables else output_path(folder, CHART_FILE)
        except (ValidationError, UnsafeOutput):
            return replace(attempt, problem=_TAMPERED)
        if told.kind not in KINDS[question.flow] or bool(tables) is (told.kind == "chart"):
            return replace(attempt, problem=_TAMPERED)
        return replace(attempt, report=told, file=file, tables=tables)

    def _task(self, number: int, code: str, question: Question) -> SandboxTask:
        output = _folder(question, number)
        output.mkdir()
        files = [f"{index}.parquet" for index in range(len(question.tables))]
        named = list(zip(files, question.tables, strict=True))
        return SandboxTask(
            call=CALLS[question.flow],
            arguments={
                "code": code,
                "tables": [{"name": name, "file": file} for file, (name, _) in named],
                "show_values": self._show_values,
            },
            inputs={file: path for file, (_, path) in named},
            output=output,
            limits=self._limits,
        )

    def _problem(self, error: SandboxError, code: str) -> _Problem:
        if isinstance(error, GuestRefusal) and error.code == FailureCode.RESULT_EMPTY:
            return _Problem(FailureCode.RESULT_EMPTY, prompts.empty_words(code))
        if isinstance(error, GuestError):
            text = without_control_characters(str(error))
            # The class's name says nothing to the model: the text after it does.
            words = text.removeprefix("CodeError: ")
            if words == text and not self._show_values:
                return _NOT_SAVED
            return _Problem(FailureCode.CODE_FAILED, prompts.error_words(words))
        return _WORDS.get(type(error), _TAMPERED)

    def _failure(self, question: Question, done: list[_Attempt]) -> AnalysisFailed:
        last = done[-1].problem
        code = last.code if last else FailureCode.INTERNAL
        return AnalysisFailed(code, _SENTENCES[code], self._bundle(question, done))

    def _bundle(self, question: Question, done: list[_Attempt]) -> JsonObject:
        return {
            "version": 1,
            "flow": question.flow.value,
            "tables": [name for name, _ in question.tables],
            "sandbox": {"tier": self._sandbox.tier, "walls": list(self._sandbox.walls)},
            "attempts": [_recorded(attempt) for attempt in done],
        }


_WORDS: dict[type[SandboxError], _Problem] = {
    SandboxTimeout: _Problem(
        FailureCode.CODE_TIMEOUT, "The code took too long and was stopped. Avoid loops; use vectorised pandas."
    ),
    SandboxMemory: _Problem(FailureCode.CODE_MEMORY, "The code ran out of memory. Build no huge intermediate tables."),
    SandboxOutput: _Problem(FailureCode.CODE_OUTPUT, "The code printed or wrote too much. Do not print."),
    SandboxCrash: _Problem(FailureCode.CODE_FAILED, "The code ended the Python process. Use plain pandas only."),
}
_TAMPERED = _Problem(
    FailureCode.CODE_FAILED, "The code interfered with how its result is saved. Use plain pandas only."
)


# Only a CodeError is worded without cells; anything else quotes what it likes.
_NOT_SAVED = _Problem(
    FailureCode.CODE_FAILED, "The code ran, but what it assigned could not be saved. Assign plain columns and values."
)


def _folder(question: Question, number: int) -> Path:
    return question.output / f"attempt-{number}"


def _result_table(folder: Path, told: _GuestTable) -> ResultTable:
    return ResultTable(name=told.name, file=output_path(folder, told.file), rows=told.rows, columns=told.columns)


def _analysis(attempt: _Attempt, told: _GuestReport, file: Path, bundle: JsonObject) -> Analysis:
    return Analysis(
        kind=told.kind,
        answer=told.answer,
        file=file,
        tables=attempt.tables,
        rows=told.rows,
        columns=told.columns,
        preview=told.preview,
        notes=tuple(told.notes),
        attempts=attempt.number,
        code=attempt.code or "",
        model=attempt.reply.model,
        bundle=bundle,
    )


def _recorded(attempt: _Attempt) -> dict[str, Any]:
    return {
        "messages": [{"role": message.role, "content": message.content} for message in attempt.messages],
        "reply": attempt.reply.text,
        "model": attempt.reply.model,
        "code": attempt.code,
        "printed": attempt.printed[:MAX_PRINTED_CHARS],
        "error": None if attempt.problem is None else {"code": attempt.problem.code, "words": attempt.problem.words},
    }
