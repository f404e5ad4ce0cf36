"""What the terminal shows of a drop: files on their way up, the job at work, the answer."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import TransferSpeedColumn as SpeedColumn
from rich.table import Table
from rich.text import Text

from consumers.sandbox.text import without_control_characters
from events.results import Completed, SheetRows, Stage
from events.status import JobStatus, State
from infra.cli.preview import preview

PREVIEW_ROWS = 10
WAITING = "waiting for a worker (if there is none: `dropchute worker`)"


@contextmanager
def uploading(console: Console, paths: Sequence[Path]) -> Iterator["UploadBar"]:
    """A bar of bytes; it leaves one line behind."""
    total = sum(path.stat().st_size for path in paths)
    with Progress(
        TextColumn("uploading"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        SpeedColumn(),
        console=console,
        transient=True,
    ) as progress:
        yield UploadBar(progress, total)
    names = ", ".join(path.name for path in paths[:3]) + (", …" if len(paths) > 3 else "")
    say(console, f"uploaded {names} ({decimal(total)})", style="dim")


class UploadBar:
    """Counts the bytes of all files together."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("uploading", total=total)

    def advance(self, read: int) -> None:
        self._progress.advance(self._task, read)


async def following(console: Console, statuses: AsyncIterator[JobStatus]) -> JobStatus:
    """Show where the job is until it has ended; off a terminal, one line for each change."""
    shown = WAITING
    last: JobStatus | None = None
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task(shown, total=None)
        async for status in statuses:
            last = status
            where = _where(status)
            if status.is_terminal or where == shown:
                continue
            shown = where
            progress.update(task, description=where)
            if not console.is_terminal:
                say(console, where, style="dim")
    assert last is not None
    return last


def _where(status: JobStatus) -> str:
    if status.state is State.WAITING:
        return f"waiting for another attempt ({status.attempts} so far)"
    stage = f"{status.stage}: " if status.stage else ""
    return f"{stage}{clean(status.detail or 'taken by a worker')}"


def answer(console: Console, completed: Completed, files: Sequence[Path], *, rows: int = PREVIEW_ROWS) -> None:
    """The text, the first rows, where the files are, what was decided on the way, and how long it took."""
    console.print()
    if completed.answer:
        say(console, completed.answer, style="bold")
    for path, result in zip(files, completed.files, strict=True):
        _table(console, path, total=result.rows, rows=rows)
    told = [("saved", f"{path}  ({decimal(path.stat().st_size)})") for path in files]
    if completed.sheet is not None:
        told += [("sheet", where(completed.sheet)), ("look", completed.sheet.url)]
    told += [("note", note) for note in completed.notes]
    told.append(("took", took(completed.seconds) if completed.seconds else ""))
    pairs(console, told)


def where(sheet: SheetRows) -> str:
    """What was added to a sheet, and where it stood then."""
    last = sheet.first_row + sheet.rows - 1
    rows = f"row {sheet.first_row}" if sheet.rows == 1 else f"rows {sheet.first_row:,} to {last:,}"
    tab = f"the new tab “{sheet.tab}”" if sheet.new_tab else f"the tab “{sheet.tab}”"
    return f"{sheet.rows:,} {'row' if sheet.rows == 1 else 'rows'} added: {rows} of {tab}"


def _table(console: Console, path: Path, *, total: int | None, rows: int) -> None:
    shown = preview(path, rows)
    if shown is None:
        return
    table = Table(header_style="bold", show_edge=False, pad_edge=False)
    for name, numeric in zip(shown.columns, shown.numeric, strict=True):
        table.add_column(Text(name), justify="right" if numeric else "left")
    for row in shown.rows:
        table.add_row(*map(Text, row))
    console.print(table)
    left_out = [f"{total - len(shown.rows):,} more rows" if total and total > len(shown.rows) else ""]
    left_out += [f"{shown.more} more columns" if shown.more else ""]
    if any(left_out):
        say(console, f"… and {' and '.join(filter(None, left_out))}", style="dim")
    console.print()


def took(seconds: Mapping[Stage, float]) -> str:
    stages = "  ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items())
    return f"{sum(seconds.values()):.1f} s: {stages}"


def say(console: Console, text: str, *, style: str | None = None) -> None:
    """One line of text from anywhere: no markup in it is obeyed, and no control character."""
    console.print(clean(text), style=style, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def clean(text: str) -> str:
    return without_control_characters(text).replace("\n", " ")


def pairs(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line; what has no value is left out. Off a terminal no line is folded."""
    told = [(name, clean(value)) for name, value in rows if value]
    if not console.is_terminal:
        for name, value in told:
            say(console, f"{name:<8}  {value}")
        return
    grid = Table.grid(padding=(0, 2))
    for name, value in told:
        grid.add_row(Text(name, style="dim"), Text(value, overflow="fold"))
    console.print(grid)


def rows_of(console: Console, columns: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table."""
    table = Table(*columns, header_style="bold", show_edge=False, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    console.print(table)


def count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"
