"""``dropchute dlq …``: what can be typed about dead letters, and the words that explain it."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from infra.letter import Choice

# Imports inside the commands keep `--help` quick: what they need takes a second to load.
# ruff: noqa: PLC0415

HELP = """\
Look at dead letters, send their messages back to work, or delete them.

A dead letter is a message that cannot be done, with the reason; or one that came back too often without a word, with \
the code [bold]received_too_often[/]. Letters are kept for 14 days. Every command takes the same filters; without any, \
it means all letters. While a command looks, the letters are hidden from another one; after one that was killed, for a \
minute. A command that could not look at all letters says so, and exits with 1.

A letter's age counts from when a worker wrote it; with [bold]received_too_often[/] from when its message was first \
sent, because the queue tells nothing else.
"""

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode="rich")

Code = Annotated[str | None, typer.Option("--code", metavar="CODE", help="Only with this code, such as internal.")]
Job = Annotated[
    str | None, typer.Option("--job", metavar="JOB", help="Only of this job: SESSION/JOB, or its id alone.")
]
OneLetter = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="Only the letter whose id, as ls shows it, begins like this.")
]
OlderThan = Annotated[
    int | None, typer.Option("--older-than", metavar="MINUTES", min=0, help="Only what is so old, or older.")
]
NewerThan = Annotated[
    int | None, typer.Option("--newer-than", metavar="MINUTES", min=1, help="Only what is not so old.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would be done.")]


def _choice(
    code: str | None, job: str | None, letter: str | None, older_than: int | None, newer_than: int | None
) -> "Choice":
    """Raises Ending for a filter that says nothing: a script's variable that is not set must not mean all letters."""
    from infra.cli.endings import wrong_usage
    from infra.cli.minutes import as_time
    from infra.letter import Choice

    for option, value in (("--code", code), ("--job", job), ("--id", letter)):
        if value is not None and not value.strip():
            raise wrong_usage(f"{option} is empty. Leave it out to mean all letters.")
    older = None if older_than is None else as_time(older_than, "--older-than")
    newer = None if newer_than is None else as_time(newer_than, "--newer-than")
    return Choice(code=code, job=job, letter=letter, older_than=older, newer_than=newer)


@app.command("ls")
def list_letters(
    *,
    code: Code = None,
    job: Job = None,
    letter: OneLetter = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    as_json: AsJson = False,
) -> None:
    """List the letters, the oldest first."""
    from infra.cli.endings import endings

    with endings():
        from infra.cli import letters as command

        command.list_them(_choice(code, job, letter, older_than, newer_than), as_json=as_json)


@app.command()
def show(
    *,
    code: Code = None,
    job: Job = None,
    letter: OneLetter = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    as_json: AsJson = False,
) -> None:
    """Show all that a letter says, and the message that it is about."""
    from infra.cli.endings import endings

    with endings():
        from infra.cli import letters as command

        command.show_them(_choice(code, job, letter, older_than, newer_than), as_json=as_json)


@app.command()
def redrive(
    *,
    code: Code = None,
    job: Job = None,
    letter: OneLetter = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Send the messages back to the queues that they came from.

    What would do nothing is left, and said: a job that has ended stays as it ended, a new answer takes a new drop.
    Exits with 1 if a message cannot be sent back, for instance because no worker would understand it.
    """
    from infra.cli.endings import endings

    with endings():
        from infra.cli import letters as command

        command.redrive(_choice(code, job, letter, older_than, newer_than), dry_run=dry_run, as_json=as_json)


@app.command()
def purge(
    *,
    code: Code = None,
    job: Job = None,
    letter: OneLetter = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the letters, after asking. What comes meanwhile stays."""
    from infra.cli.endings import endings

    with endings():
        from infra.cli import letters as command

        command.purge(_choice(code, job, letter, older_than, newer_than), dry_run=dry_run, is_sure=yes, as_json=as_json)
