"""What ``dropchute dlq …`` does, and how it shows it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict

import typer
from rich.console import Console

from consumers.worker.ledger import utc_now
from infra.cli import letter_lines, show
from infra.cli.drop import print_json
from infra.cli.endings import Ending, ExitCode, wrong_usage
from infra.cli.environment import read_settings
from infra.cli.letter_lines import Line
from infra.clients import Clients
from infra.dead_letters import DeadLetterBox, Fate
from infra.letter import Choice, Letter
from infra.letter_queue import HIDDEN_SECONDS, Looked
from infra.logs import configure_logs
from infra.provision import locate
from infra.s3_store import S3ObjectStore

# Nothing can be done about these by sending them again.
STUCK = frozenset({Fate.CUT, Fate.NO_QUEUE, Fate.REFUSED})


def list_them(choice: Choice, *, as_json: bool) -> None:
    """Raises Ending if not all letters could be looked at."""
    lines: list[Line] = []

    def tell(looked: Looked) -> None:
        lines.sort(key=letter_lines.oldest_first)
        if as_json:
            print_json({"letters": [line.facts for line in lines]} | asdict(looked))
            return
        console = Console()
        if not lines:
            letter_lines.say_none(console, choice, looked)
            return
        letter_lines.table_of(console, lines)
        codes = Counter(line.code for line in lines).most_common()
        told = ", ".join(f"{code} {number:,}" for code, number in codes)
        show.say(console, f"{show.count(len(lines), 'dead letter')}: {told}. More: dropchute dlq show --id ID")

    _fail_unless_whole(_told(lambda box: _look(box, choice, lines), tell, lines))


def show_them(choice: Choice, *, as_json: bool) -> None:
    """Raises Ending if there is none, or if not all letters could be looked at."""
    letters: list[Letter] = []

    def tell(looked: Looked) -> None:
        letters.sort(key=letter_lines.oldest_first)
        if as_json:
            told = [letter_lines.facts_of(letter) | {"body": letter.body} for letter in letters]
            print_json({"letters": told} | asdict(looked))
            return
        for letter in letters:
            letter_lines.show_letter(Console(), letter)

    looked = _told(lambda box: box.look(choice, now=utc_now(), on_letter=letters.append), tell, letters)
    _fail_unless_whole(looked)
    if not letters:
        raise wrong_usage(letter_lines.none(choice))


def redrive(choice: Choice, *, dry_run: bool, as_json: bool) -> None:
    """Raises Ending if a message could not be sent back, or if not all letters could be looked at."""
    fates: list[tuple[Line, Fate]] = []

    def tell(looked: Looked) -> None:
        sent = sum(fate is Fate.SENT_BACK for _, fate in fates)
        if as_json:
            told = [{**line.facts, "fate": fate} for line, fate in fates]
            counts = {"dry_run": dry_run, "sent_back": sent, "left": len(fates) - sent}
            print_json(counts | {"letters": told} | asdict(looked))
        elif fates:
            letter_lines.fates_of(Console(), fates, sent, dry_run=dry_run)
        else:
            letter_lines.say_none(Console(), choice, looked)

    def send_back(box: DeadLetterBox) -> Awaitable[Looked]:
        return box.redrive(
            choice,
            now=utc_now(),
            dry_run=dry_run,
            on_letter=lambda letter, fate: fates.append((letter_lines.line_of(letter), fate)),
        )

    looked = _told(send_back, tell, fates)
    stuck = sum(fate in STUCK for _, fate in fates)
    _fail_unless_whole(looked, *([f"{show.count(stuck, 'message')} cannot be sent back."] if stuck else []))


def purge(choice: Choice, *, dry_run: bool, is_sure: bool, as_json: bool) -> None:
    """Asks about what is there now, and deletes exactly that.

    Raises Ending if not all letters could be looked at.
    """
    human, lines, deleted = Console(stderr=as_json), list[Line](), list[Line]()

    def tell(looked: Looked) -> None:
        told = lines if dry_run else deleted
        if as_json:
            counts = {"dry_run": dry_run, "deleted": len(deleted)}
            print_json(counts | {"letters": [line.facts for line in told]} | asdict(looked))
        elif not lines:
            letter_lines.say_none(human, choice, looked)
        elif dry_run:
            letter_lines.table_of(human, lines)
            show.say(human, f"Would delete {show.count(len(lines), 'dead letter')}.", style="yellow")
        else:
            show.say(human, f"Deleted {show.count(len(deleted), 'dead letter')}.", style="green")

    looked = asyncio.run(_with_a_box(lambda box: _look(box, choice, lines)))
    lines.sort(key=letter_lines.oldest_first)
    if lines and not dry_run and (is_sure or _is_sure(human, lines)):
        # Only what was shown, however old it has become meanwhile.
        ids = frozenset(line.id for line in lines)
        done = _told(lambda box: _delete(box, ids, deleted), tell, deleted)
        looked = Looked(looked.to_the_end and done.to_the_end, looked.hidden)
    else:
        tell(looked)
    _fail_unless_whole(looked)


# ---------------------------------------------------------------- the queue


def _told(
    work: Callable[[DeadLetterBox], Awaitable[Looked]], tell: Callable[[Looked], None], done: Sequence[object]
) -> Looked:
    """Do it, and tell of it; also when it fails or is stopped, if anything was ``done`` by then."""
    looked = None
    try:
        looked = asyncio.run(_with_a_box(work))
    finally:
        if looked is not None or done:
            tell(looked or Looked(to_the_end=False))
    return looked


async def _with_a_box(work: Callable[[DeadLetterBox], Awaitable[Looked]]) -> Looked:
    configure_logs(level=logging.WARNING)
    settings = read_settings()
    stack = await asyncio.to_thread(locate, settings)
    async with Clients(settings) as clients:
        return await work(DeadLetterBox(clients, stack, S3ObjectStore(clients.s3, stack.bucket)))


async def _look(box: DeadLetterBox, choice: Choice, lines: list[Line]) -> Looked:
    return await box.look(choice, now=utc_now(), on_letter=lambda letter: lines.append(letter_lines.line_of(letter)))


async def _delete(box: DeadLetterBox, ids: frozenset[str], deleted: list[Line]) -> Looked:
    return await box.purge(ids, now=utc_now(), on_letter=lambda letter: deleted.append(letter_lines.line_of(letter)))


def _is_sure(console: Console, lines: Sequence[Line]) -> bool:
    letter_lines.table_of(console, lines)
    try:
        return typer.confirm(f"Delete {show.count(len(lines), 'dead letter')} for good?", err=True)
    except typer.Abort:
        raise wrong_usage("Nothing was deleted: nobody is here to say yes. Say --yes.") from None


def _fail_unless_whole(looked: Looked, *failures: str) -> None:
    """Raises Ending if there is anything to say."""
    sentences = list(failures)
    if not looked.to_the_end:
        sentences.append("Not all letters were looked at. Say it again for the others.")
    if looked.hidden:
        sentences.append(
            f"{show.count(looked.hidden, 'letter')} more: hidden by another command, for up to "
            f"{HIDDEN_SECONDS} seconds after it ends or is killed. Look again then."
        )
    if sentences:
        raise Ending(ExitCode.FAILED, " ".join(sentences))
