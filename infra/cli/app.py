"""The command line: what can be typed, and the words that explain it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from infra.cli import dlq

# Imports inside the commands keep `--help` quick: what they need takes a second to load.
# ruff: noqa: PLC0415

HELP = """\
Drop files and a request into S3; get the answer back as a file, as rows of your Google Sheet, or as a chart.

New here? [bold]dropchute demo[/] shows it in one process, without a network.

[bold]Exit codes[/]: 0 done. 1 the job failed; its code and reason are printed. 2 wrong usage, such as a missing file \
or a bad variable. 3 nothing reachable: no endpoint, no stack, no keys. 130 stopped by Ctrl-C.

[bold]Settings[/] come from the environment, or from a file .env here: AWS_ENDPOINT_URL, AWS_REGION, \
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_TEMP_BUCKET; OPENAI_BASE_URL, OPENAI_API_KEY, LLM_MODEL; \
GOOGLE_SERVICE_ACCOUNT_FILE; DROPCHUTE_STACK and others. An endpoint on this machine needs no keys.
"""

app = typer.Typer(
    name="dropchute",
    help=HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(dlq.app, name="dlq")


class Format(StrEnum):
    """What a table is saved as."""

    XLSX = "xlsx"
    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"
    JSONL = "jsonl"


Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        file_okay=False,
        help="Save results here. Files that are there stay. [dim]Default: dropchute-results/JOB[/]",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr.")]


@app.command()
def demo(
    out: Out = None,
    live: Annotated[bool, typer.Option("--live", help="Ask the configured model, not the recorded replies.")] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Ask the configured model and keep its replies.", hidden=True)
    ] = False,
) -> None:
    """Answer a question about a messy CSV and a workbook, then draw a chart of the answer.

    Everything runs in this process. The model's replies are recorded from a real model, unless --live.
    """
    from infra.cli.endings import endings

    with endings():
        from infra.cli import demo as command

        command.run(out=out, live=live, record=record)


@app.command()
def dev() -> None:
    """Run S3, SQS, a worker and an emulator of Google Sheets in this process until Ctrl-C.

    Says how to use them from another terminal, and where to look at the sheets. Uses the configured model; without
    one, recorded replies, which know the demo's questions only.
    """
    from infra.cli.endings import endings

    with endings():
        from infra.cli import dev as command

        command.run()


@app.command()
def drop(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, help="CSV, TSV or Excel files."),
    ],
    *,
    ask: Annotated[str, typer.Option("--ask", metavar="TEXT", help="What to do with the files.")],
    chart: Annotated[bool, typer.Option("--chart", help="Draw a chart: PNG, SVG and Vega-Lite.")] = False,
    file_format: Annotated[
        Format | None, typer.Option("--format", help="What a table is saved as. [dim]Default: xlsx[/]")
    ] = None,
    bom: Annotated[bool, typer.Option("--bom", help="Begin a csv with a UTF-8 byte order mark, for Excel.")] = False,
    sheet: Annotated[
        str | None, typer.Option("--sheet", metavar="URL", help="Add the rows to this Google Sheet instead.")
    ] = None,
    tab: Annotated[
        str | None,
        typer.Option("--tab", metavar="NAME", help="The sheet's tab. [dim]Default: the link's, or the first[/]"),
    ] = None,
    new_tab: Annotated[
        bool, typer.Option("--new-tab", help="Put the rows on a new tab, titled as --tab says.")
    ] = False,
    out: Out = None,
    as_json: AsJson = False,
    embedded: Annotated[bool, typer.Option("--embedded", help="Bring S3, SQS and a worker along.")] = False,
) -> None:
    """Upload files, ask for something, follow the job, save and show the answer."""
    from infra.cli.endings import endings, wrong_usage

    with endings():
        from events.keys import Flow
        from infra.cli import drop as command
        from infra.drop_client import Request

        if chart and (file_format is not None or bom):
            raise wrong_usage("--chart and --format exclude each other: a chart is saved as PNG, SVG and Vega-Lite.")
        destination = command.destination_of(
            file_format.value if file_format else None, bom=bom, sheet=sheet, tab=tab, new_tab=new_tab, chart=chart
        )
        request = Request(ask, flow=Flow.VISUALIZATION if chart else Flow.QUERY, destination=destination)
        command.run(files, request, out=out, as_json=as_json, embedded=embedded)


@app.command()
def status(
    job: Annotated[str, typer.Argument(metavar="JOB", help="SESSION/JOB, or a job's id alone.")],
    as_json: AsJson = False,
) -> None:
    """Show where a job is, or how it ended. Exits with 1 if it failed."""
    from infra.cli.endings import endings

    with endings():
        from infra.cli import status as command

        command.run(job, as_json=as_json)


@app.command()
def undo(
    job: Annotated[str, typer.Argument(metavar="JOB", help="SESSION/JOB, or a job's id alone.")],
    as_json: AsJson = False,
) -> None:
    """Remove exactly the rows that a job added to a Google Sheet. Exits with 1 if they cannot be told for certain."""
    from infra.cli.endings import endings

    with endings():
        from infra.cli import undo as command

        command.run(job, as_json=as_json)


@app.command()
def worker() -> None:
    """Work off the queues. The first SIGTERM or Ctrl-C lets running jobs end, the second gives them back."""
    from infra.cli.endings import endings

    with endings():
        from infra.cli import worker as command

        command.run()


@app.command()
def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; say what would be removed.")] = False,
    as_json: AsJson = False,
    older_than: Annotated[
        int | None,
        typer.Option(
            "--older-than",
            metavar="MINUTES",
            min=1,
            help="How long they must lie untouched. [dim]Default: DROPCHUTE_ABANDONED_AFTER_MINUTES, 60[/]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Remove what nobody will read: uploads never handed in or left open, and what a removed request left.

    What a job may still read is left alone, and so are answers.
    """
    from infra.cli.endings import endings

    with endings():
        from infra.cli import sweep as command

        command.run(dry_run=dry_run, as_json=as_json, older_than=older_than)


@app.command()
def reconcile(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing; say what would be asked for again.")
    ] = False,
    as_json: AsJson = False,
    older_than: Annotated[
        int | None,
        typer.Option(
            "--older-than",
            metavar="MINUTES",
            min=0,
            help="How long nothing must have changed. [dim]Default: DROPCHUTE_STUCK_AFTER_MINUTES, 10[/]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Ask again for what was handed in and never came to its end: S3 did not tell, or its message got lost.

    That is jobs without an end, ends that were not told, and controls that were not done. Once too often is harmless.
    Jobs that no worker has begun are left to their own messages, unless there are more of them than messages.
    """
    from infra.cli.endings import endings

    with endings():
        from infra.cli import reconcile as command

        command.run(dry_run=dry_run, as_json=as_json, older_than=older_than)


@app.command()
def provision(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit with 1 if anything differs.")] = False,
    origin: Annotated[
        list[str] | None,
        typer.Option("--origin", metavar="URL", help="A web page's origin that may upload; repeatable."),
    ] = None,
) -> None:
    """Create or mend the bucket, the queues and their policies, and read every property back."""
    from infra.cli.endings import endings

    with endings():
        from infra.cli import provision as command

        command.run(only_check=check, origins=origin)


@app.command()
def doctor() -> None:
    """Check what Dropchute needs here, and say how to mend what is missing. Changes nothing."""
    from infra.cli.endings import endings

    with endings():
        from infra.cli import doctor as command

        command.run()


def main() -> None:
    """The entry point."""
    app(prog_name="dropchute")


if __name__ == "__main__":
    main()
