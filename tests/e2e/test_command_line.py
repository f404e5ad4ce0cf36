"""The command line as a person or a script meets it: a process, its output, its exit code."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections import defaultdict
from contextlib import contextmanager
from decimal import Decimal

import boto3
import openpyxl
import pytest

from infra.embedded.demo import QUESTION
from infra.embedded.demo_data import write_demo_files

DROPCHUTE = (sys.executable, "-m", "infra.cli.app")
FACTS = {"job_id", "session_id", "state", "answer", "files", "sheet", "notes", "seconds"}
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def demo_files(tmp_path_factory):
    return write_demo_files(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def truth(demo_files):
    """Revenue by region and category, from the files themselves, without pandas."""
    sales, master_data = demo_files
    sheets = openpyxl.load_workbook(master_data)
    regions = {row[0]: row[1] for row in sheets["Customers"].iter_rows(min_row=2, values_only=True)}
    categories = {row[0]: row[2] for row in sheets["Products"].iter_rows(min_row=2, values_only=True)}
    revenue = defaultdict(Decimal)
    with sales.open(encoding="utf-8", newline="") as file:
        next(file)
        for order in csv.DictReader(file, delimiter=";"):
            amount = Decimal(order["revenue"].replace(".", "").replace(",", "."))
            revenue[regions[order["customer_id"]], categories[order["product_id"]]] += amount
    return dict(revenue)


def revenue_in(rows):
    header, *rows = rows
    at = [list(header).index(name) for name in ("region", "category", "revenue")]
    return {(row[at[0]], row[at[1]]): Decimal(str(row[at[2]])) for row in rows}


def environment(tmp_path, **variables):
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "100", **variables}


def run(tmp_path, *arguments, **variables):
    return subprocess.run(
        [*DROPCHUTE, *map(str, arguments)],
        env=environment(tmp_path, **variables),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def running(tmp_path, *arguments, **variables):
    """A command that goes on by itself; its output is merged, and read line by line."""
    process = subprocess.Popen(
        # A shell starts what it runs in the background deaf to Ctrl-C, and that is inherited.
        ["env", "--default-signal=INT", *DROPCHUTE, *map(str, arguments)],
        env=environment(tmp_path, PYTHONUNBUFFERED="1", **variables),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process, pattern):
    """Every line up to the one that matches; fails when the output ends before."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return "".join(lines)
    raise AssertionError(f"no {pattern!r} in:\n{''.join(lines)}")


def end(process, with_signal):
    process.send_signal(with_signal)
    output, _ = process.communicate(timeout=20)
    return process.returncode, output


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    """``dropchute dev`` in its own process; the variables that it says to export."""
    folder = tmp_path_factory.mktemp("dev")
    with running(folder, "dev") as process:
        output = read_until(process, "dropchute undo JOB")
        exported = dict(re.findall(r"export (\w+)=(\S+)", output))
        yield exported | {
            "SHEET": re.search(r"--sheet (\S+)", output)[1],
            "PAGE": re.search(r"look at it at (\S+):", output)[1],
        }

        code, _ = end(process, signal.SIGINT)
        assert code == 0


def test_the_demo_answers_with_the_true_table_and_a_chart_of_it(tmp_path, truth):
    ran = run(tmp_path, "demo", "--out", "results")
    results = tmp_path / "results"

    assert (ran.returncode, ran.stderr) == (0, "")
    rows = openpyxl.load_workbook(results / "result.xlsx").worksheets[0].iter_rows(values_only=True)
    assert revenue_in(rows) == truth
    assert (results / "chart.png").read_bytes().startswith(b"\x89PNG")
    assert (results / "chart.svg").exists()
    assert "recorded from a real one" in ran.stdout
    assert "results/chart.png" in ran.stdout.replace("\n", "")
    assert len(re.findall(r"took .*read .*prepare .*analyse .*deliver", ran.stdout)) == 2


def test_the_demo_works_again_where_its_results_are_already(tmp_path):
    (tmp_path / "result.xlsx").write_text("from the first time")
    ran = run(tmp_path, "demo", "--out", ".")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert (tmp_path / "result.xlsx").read_text() == "from the first time"
    assert {path.name for path in tmp_path.iterdir()} >= {"result-2.xlsx", "chart.png"}


def test_a_drop_with_its_own_stack_prints_one_json_object_and_nothing_else(tmp_path, demo_files, truth):
    ran = run(tmp_path, "drop", *demo_files, "--ask", QUESTION.query, "--format", "csv", "--json", "--embedded")
    told = json.loads(ran.stdout)
    (saved,) = told["files"]

    assert ran.returncode == 0
    assert set(told) == FACTS
    assert told["state"] == "completed"
    assert saved == f"dropchute-results/{told['job_id']}/result.csv"
    with (tmp_path / saved).open(encoding="utf-8", newline="") as file:
        assert revenue_in(csv.reader(file)) == truth
    assert any("decimal comma" in note for note in told["notes"])
    assert set(told["seconds"]) == {"read", "prepare", "analyse", "deliver"}


def test_another_terminal_uses_what_dev_offers(tmp_path, dev, demo_files):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "result.xlsx").write_text("not yours")
    ran = run(tmp_path, "drop", *demo_files, "--ask", QUESTION.query, "--out", "here", "--json", **dev)
    told = json.loads(ran.stdout)
    status = run(tmp_path, "status", told["job_id"], **dev)

    assert ran.returncode == status.returncode == 0
    assert told["files"] == ["here/result-2.xlsx"]
    assert (tmp_path / "here" / "result.xlsx").read_text() == "not yours"
    assert f"{told['session_id']}/{told['job_id']}" in status.stdout
    assert "completed" in status.stdout


def test_a_job_that_fails_says_its_code_and_reason(tmp_path, dev, demo_files):
    ran = run(tmp_path, "drop", demo_files[1], "--ask", "What has nobody asked before?", "--json", **dev)
    told = json.loads(ran.stdout)
    status = run(tmp_path, "status", f"{told['session_id']}/{told['job_id']}", **dev)

    assert (ran.returncode, status.returncode) == (1, 1)
    assert set(told) == FACTS | {"code", "message"}
    assert (told["state"], told["code"]) == ("failed", "model_rejected")
    assert "NO RECORDING" in told["message"]
    assert "model_rejected" in status.stderr


def test_an_answer_goes_to_a_sheet_and_is_undone(tmp_path, dev, demo_files, truth):
    page = f"{dev['PAGE']}/spreadsheets/d/{dev['SHEET'].split('/')[-2]}"
    ran = run(tmp_path, "drop", *demo_files, "--ask", QUESTION.query, "--sheet", dev["SHEET"], "--json", **dev)
    told = json.loads(ran.stdout)
    with urllib.request.urlopen(page) as reply:
        shown = reply.read().decode()
    undone = run(tmp_path, "undo", told["job_id"], **dev)
    status = run(tmp_path, "status", told["job_id"], **dev)
    with urllib.request.urlopen(page) as reply:
        shown_again = reply.read().decode()

    assert (ran.returncode, undone.returncode) == (0, 0), undone.stderr
    assert (told["sheet"]["rows"], told["sheet"]["first_row"], told["files"]) == (len(truth), 2, [])
    assert "Equipment" in shown
    assert "Equipment" not in shown_again
    assert not (tmp_path / "dropchute-results").exists()
    assert undone.stdout.splitlines()[0].startswith("waiting for a worker")
    assert undone.stdout.splitlines()[1:] == ["16 rows removed from the sheet."]
    assert "16 rows added: rows 2 to 17 of the tab “Sheet1”" in status.stdout
    assert "16 rows removed" in status.stdout


def test_what_added_nothing_to_a_sheet_cannot_be_undone(tmp_path, dev, demo_files):
    told = json.loads(run(tmp_path, "drop", *demo_files, "--ask", QUESTION.query, "--json", **dev).stdout)
    ran = run(tmp_path, "undo", told["job_id"], "--json", **dev)

    assert ran.returncode == 1
    assert json.loads(ran.stdout)["code"] == "nothing_to_undo"
    assert "delivered files" in json.loads(ran.stdout)["message"]


def test_choices_that_exclude_each_other_are_wrong_usage(tmp_path, demo_files):
    link = "https://docs.google.com/spreadsheets/d/1AbCdEfGhIjKlMnOp/edit"
    wrong = {
        "must be the address of a Google Sheet": ["--sheet", "https://example.com/x"],
        "a Google Sheet, without blanks": ["--sheet", f"{link}#a b"],
        "of a Google Sheet, without": ["--sheet", f"{link}?{'x' * 2048}"],
        "--tab must be 1 to 100 characters on one line": ["--sheet", link, "--tab", "x" * 101],
        "--tab must be 1 to 100 characters": ["--sheet", link, "--tab", ""],
        "characters on one line": ["--sheet", link, "--tab", "a\nb"],
        "give its link with --sheet": ["--tab", "Orders"],
        "excludes --chart, --format": ["--sheet", link, "--format", "csv"],
        "--bom is a choice of --format csv": ["--bom"],
    }
    ran = {words: run(tmp_path, "drop", demo_files[0], "--ask", "Sum", *options) for words, options in wrong.items()}

    assert {words: each.returncode for words, each in ran.items()} == dict.fromkeys(wrong, 2)
    assert [words for words, each in ran.items() if words not in " ".join(each.stderr.split())] == []


def test_provisioning_again_changes_nothing_and_another_stack_is_missing_until_then(tmp_path, dev, demo_files):
    other = {**dev, "AWS_TEMP_BUCKET": "another-bucket", "DROPCHUTE_STACK": "another"}
    missing = run(tmp_path, "drop", demo_files[1], "--ask", "Anything", **other)
    differing = run(tmp_path, "provision", "--check", **other)
    made = run(tmp_path, "provision", "--origin", "https://app.example.com", **other)
    same = run(tmp_path, "provision", "--check", "--origin", "https://app.example.com", **other)

    assert missing.returncode == 3
    assert "dropchute provision" in missing.stderr
    assert differing.returncode == 1
    assert "Queries" in differing.stdout
    assert (made.returncode, same.returncode) == (0, 0)


def test_a_worker_starts_with_json_logs_and_stops_at_a_signal(tmp_path, dev):
    with running(tmp_path, "worker", OPENAI_BASE_URL=NOBODY, **dev) as worker:
        started = json.loads(read_until(worker, "worker.started").splitlines()[-1])
        code, output = end(worker, signal.SIGTERM)

    assert started["bucket"] == dev["AWS_TEMP_BUCKET"]
    assert code == 0
    assert json.loads(output.splitlines()[-1])["event"] == "worker.stopped"


def test_who_stops_watching_is_told_how_to_look_again(tmp_path, dev, demo_files):
    idle = {**dev, "AWS_TEMP_BUCKET": "idle-bucket", "DROPCHUTE_STACK": "idle"}
    assert run(tmp_path, "provision", **idle).returncode == 0

    with running(tmp_path, "drop", demo_files[1], "--ask", "Anything", **idle) as drop:
        job = read_until(drop, "handed in as ").split()[-1]
        code, output = end(drop, signal.SIGINT)
    status = run(tmp_path, "status", job, **idle)
    undo = run(tmp_path, "undo", job, **idle)

    assert code == 130
    assert f"dropchute status {job}" in output
    assert "Traceback" not in output
    assert status.returncode == 0
    assert "waiting for a worker" in status.stdout
    assert undo.returncode == 1
    assert "has not ended yet" in undo.stderr


def test_a_sweep_tells_what_it_would_remove_and_then_removes_it(tmp_path, dev):
    here = {"endpoint_url": dev["AWS_ENDPOINT_URL"], "region_name": "us-east-1"}
    s3 = boto3.client("s3", aws_access_key_id="test", aws_secret_access_key="test", **here)
    bucket, job = dev["AWS_TEMP_BUCKET"], "sessions/session-1/jobs/job-00001"
    # moto says of every upload that it began in 2010.
    s3.create_multipart_upload(Bucket=bucket, Key=f"{job}/files/0")
    s3.put_object(Bucket=bucket, Key="sessions/session-1/jobs/job-00002/files/0", Body=b"recent")
    told = run(tmp_path, "sweep", "--dry-run", **dev)
    swept = run(tmp_path, "sweep", "--json", "--older-than", "30", **dev)
    again = run(tmp_path, "sweep", **dev)
    facts = json.loads(swept.stdout)

    assert (told.returncode, swept.returncode, again.returncode) == (0, 0, 0)
    assert "session-1/job-00001" in told.stdout
    assert "Would remove 0 objects (0 bytes) and 1 open upload of 1 job." in told.stdout
    assert (facts["jobs"], facts["objects"], facts["uploads"], facts["older_than_minutes"]) == (1, 0, 1, 30)
    assert [(each["job_id"], each["reason"]) for each in facts["abandoned"]] == [("job-00001", "half uploaded")]
    assert "Nothing was abandoned for 60 minutes" in again.stdout
    assert s3.list_objects_v2(Bucket=bucket, Prefix="sessions/session-1/")["KeyCount"] == 1


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["drop", "missing.csv", "--ask", "Anything"], {}, "missing.csv"),
        (["drop", "here.csv"], {}, "--ask"),
        (["drop", "here.csv", "--ask", "  "], {}, "--ask"),
        (["drop", "here.csv", "--ask", "x" * 20_001], {}, "20,001"),
        (["drop", "here.csv", "--ask", "Draw", "--chart", "--format", "csv"], {}, "--format"),
        (["drop", "here.csv", "--ask", "Anything", "--format", "docx"], {}, "docx"),
        (["demo", "--live"], {}, "OPENAI_BASE_URL"),
        (["status", "../etc/passwd"], {}, "no job"),
        (["sweep", "--older-than", "0"], {}, "--older-than"),
        (["sweep", "--older-than", "99999999999"], {}, "--older-than"),
        (["sweep"], {"DROPCHUTE_ABANDONED_AFTER_MINUTES": "9999999999"}, "DROPCHUTE_ABANDONED_AFTER_MINUTES is"),
        (["reconcile", "--older-than", "9999999999"], {}, "--older-than is"),
        (["reconcile"], {"DROPCHUTE_STUCK_AFTER_MINUTES": "9999999999"}, "DROPCHUTE_STUCK_AFTER_MINUTES is"),
        (["dlq", "ls", "--older-than", "99999999999999"], {}, "--older-than is"),
        (["dlq", "purge", "--newer-than", "9999999999", "--yes"], {}, "--newer-than is"),
        (["dlq", "purge", "--id", "", "--yes"], {}, "--id is empty"),
        (["dlq", "redrive", "--code", " "], {}, "--code is empty"),
        (["dlq", "ls", "--job", ""], {}, "--job is empty"),
        (["sweep"], {"DROPCHUTE_ABANDONED_AFTER_MINUTES": "525601"}, "DROPCHUTE_ABANDONED_AFTER_MINUTES"),
        (["sweep"], {"DROPCHUTE_ABANDONED_AFTER_MINUTES": "0"}, "DROPCHUTE_ABANDONED_AFTER_MINUTES"),
        (["worker"], {"DROPCHUTE_LINK_SECONDS": "604801"}, "DROPCHUTE_LINK_SECONDS"),
        (["worker"], {"DROPCHUTE_PUBLIC_ENDPOINT_URL": "localhost:4566"}, "DROPCHUTE_PUBLIC_ENDPOINT_URL"),
        (["worker"], {"DROPCHUTE_LANES": "many"}, "DROPCHUTE_LANES"),
        (["worker"], {"DROPCHUTE_CLAIM_SECONDS": "3"}, "usage  DROPCHUTE_CLAIM_SECONDS must be at least three times"),
        (["worker"], {"DROPCHUTE_MEMORY_BYTES": "0"}, "DROPCHUTE_MEMORY_BYTES"),
        (["worker"], {"AWS_ENDPOINT_URL": "localhost:4566"}, "AWS_ENDPOINT_URL"),
    ],
)
def test_wrong_usage_is_said_in_words(tmp_path, arguments, variables, words):
    (tmp_path / "here.csv").write_text("a,b\n1,2\n")
    ran = run(tmp_path, *arguments, **variables)

    assert ran.returncode == 2
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


def test_an_endpoint_that_is_down_is_not_reachable_for_a_drop(tmp_path, demo_files):
    ran = run(tmp_path, "drop", demo_files[1], "--ask", "Anything", "--json", AWS_ENDPOINT_URL=NOBODY)
    told = json.loads(ran.stdout)

    assert ran.returncode == 3
    assert (told["state"], told["code"]) == (None, "unreachable")
    assert NOBODY in told["message"]
    assert "Traceback" not in ran.stderr


def test_the_doctor_names_what_is_amiss_and_keeps_secrets_to_itself(tmp_path):
    ran = run(
        tmp_path, "doctor", AWS_ENDPOINT_URL=NOBODY, OPENAI_BASE_URL=f"{NOBODY}/v1", OPENAI_API_KEY="sk-very-secret"
    )

    assert ran.returncode == 3
    assert re.search(r"^ok +python", ran.stdout, re.MULTILINE)
    assert re.search(r"^ok +sandbox", ran.stdout, re.MULTILINE)
    assert re.search(r"^problem +stack", ran.stdout, re.MULTILINE)
    assert re.search(r"^problem +model", ran.stdout, re.MULTILINE)
    assert "very-secret" not in ran.stdout + ran.stderr


def test_help_names_every_command_and_exit_code(tmp_path):
    ran = run(tmp_path, "--help")

    assert ran.returncode == 0
    for word in (
        "demo",
        "dev",
        "drop",
        "status",
        "sweep",
        "reconcile",
        "dlq",
        "worker",
        "provision",
        "doctor",
        "Exit codes",
        "130",
    ):
        assert word in ran.stdout
