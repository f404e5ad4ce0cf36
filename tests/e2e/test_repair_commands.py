"""Repair as an operator meets it: reconcile, dlq and the worker's health, as processes."""

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from endpoints import each_of
from faulty_proxy import FaultyProxy, Hold, sqs_error
from kit import Kit, new_job

from consumers.ports import Message
from consumers.worker.outcome import DeadLetter
from events.keys import ROOT, Flow
from events.notification import notification_of
from events.results import Failed, FailureCode

# What differs between endpoints is the integration tests' to find.
endpoint_url = each_of("moto")

DROPCHUTE = (sys.executable, "-m", "infra.cli.app")
SECRET_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "COLUMNS": "160"}


def environment(kit: Kit, tmp_path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": str(kit.settings.aws_endpoint_url),
        "AWS_TEMP_BUCKET": kit.settings.bucket,
        "DROPCHUTE_STACK": kit.settings.stack,
        **SECRET_ENVIRONMENT,
        **more,
    }


@pytest.fixture
def run(kit: Kit, tmp_path):
    """A command in a process, while this loop goes on."""

    async def run_it(*arguments: str, answer: str | None = None, **more: str):
        return await asyncio.to_thread(
            subprocess.run,
            [*DROPCHUTE, *arguments],
            env=environment(kit, tmp_path, **more),
            cwd=tmp_path,
            input=answer or "",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run_it


async def bury(kit: Kit, key: str, code: str = "internal", **facts) -> None:
    message = Message(
        "queries",
        "m-1",
        "r-1",
        notification_of(kit.stack.bucket, key, at=datetime.now(UTC)),
        {"ApproximateReceiveCount": "3"},
    )
    letter = DeadLetter(code=code, reason="It \x1b[31mbroke.", worker="worker-1", at=datetime.now(UTC), **facts)
    await kit.clients.control.send_message(
        QueueUrl=kit.stack.queue_urls["dead_letters"], MessageBody=letter.envelope(message)
    )


async def test_reconcile_says_what_it_would_do_and_then_does_it(kit: Kit, run):
    await kit.store.delete(await kit.keys(ROOT))
    key = await kit.drop()
    claim = await kit.ledger("dead").claim(key)
    await claim.end(
        Failed(
            session_id=key.job.session_id,
            job_id=key.job.job_id,
            flow=Flow.QUERY,
            code=FailureCode.FILE_EMPTY,
            message="Empty.",
        )
    )
    await kit.lose_notifications(key.job.manifest_key(Flow.QUERY))
    recent = await run("reconcile")
    dry = json.loads((await run("reconcile", "--dry-run", "--json", "--older-than", "0")).stdout)
    sent_dry = await kit.in_queue("queries")
    wet = await run("reconcile", "--older-than", "0")
    wrong = await run("reconcile", "--older-than", "-1")

    assert (recent.returncode, wrong.returncode) == (0, 2)
    assert "Nothing has been stuck for 10 minutes" in recent.stdout
    assert (dry["dry_run"], dry["older_than_minutes"], dry["jobs"], sent_dry) == (True, 0, 1, (0, 0))
    assert [(each["job_id"], each["queue"]) for each in dry["stuck"]] == [(key.job.job_id, "queries")]
    assert "Asked again for 1 job and 0 controls." in wet.stdout
    assert "its end was not told" in wet.stdout
    assert await kit.in_queue("queries") == (1, 0)


async def test_letters_are_listed_and_shown_with_all_they_say_and_nothing_that_a_terminal_obeys(kit: Kit, run):
    job = new_job()
    facts = {"session_id": job.session_id, "job_id": job.job_id, "stage": "prepare", "attempts": 3}
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await bury(kit, job.manifest_key(Flow.QUERY), **facts, traceparent=trace)
    await bury(kit, new_job().manifest_key(Flow.QUERY), "model_rejected")
    listed = await run("dlq", "ls")
    shown = await run("dlq", "show", "--job", job.job_id)
    told = json.loads((await run("dlq", "ls", "--code", "internal", "--json")).stdout)
    none = await run("dlq", "show", "--code", "nothing_like_it")

    assert (listed.returncode, shown.returncode, none.returncode) == (0, 0, 2), shown.stderr
    assert "2 dead letters: " in listed.stdout
    assert "\x1b" not in shown.stdout
    for word in (
        "internal",
        "It [31mbroke.",
        str(job),
        "queries",
        "prepare",
        "worker-1",
        "0af7651916cd43dd8448eb211c80319c",
    ):
        assert word in shown.stdout
    assert f'"key": "{job.manifest_key(Flow.QUERY)}"' in shown.stdout
    assert "3 times" in shown.stdout
    assert [letter["jobs"] for letter in told["letters"]] == [[str(job)]]
    assert "no such dead letters" in none.stderr


async def test_a_redrive_sends_what_was_chosen_and_says_what_would_do_nothing(kit: Kit, run):
    ended = await kit.drop()
    claim = await kit.ledger().claim(ended)
    await claim.end(
        Failed(
            session_id=ended.job.session_id,
            job_id=ended.job.job_id,
            flow=Flow.QUERY,
            code=FailureCode.INTERNAL,
            message="It broke.",
        )
    )
    await claim.mark_published()
    await kit.lose_notifications(ended.job.manifest_key(Flow.QUERY))
    await bury(kit, ended.job.manifest_key(Flow.QUERY))
    await bury(kit, new_job().manifest_key(Flow.QUERY))
    await bury(kit, new_job().manifest_key(Flow.QUERY), "model_rejected")
    dry = await run("dlq", "redrive", "--code", "internal", "--dry-run")
    in_between = await kit.in_queue("queries"), await kit.in_queue("dead_letters")
    wet = await run("dlq", "redrive", "--code", "internal")

    assert (dry.returncode, wet.returncode) == (0, 0)
    assert "Would send back 1 message." in dry.stdout
    assert in_between == ((0, 0), (3, 0))
    assert "Sent back 1 message." in wet.stdout
    assert "its job has ended" in wet.stdout
    assert "A new answer takes a new drop." in wet.stdout
    assert (await kit.in_queue("queries"), await kit.in_queue("dead_letters")) == ((1, 0), (2, 0))


async def test_what_cannot_be_sent_back_is_a_failure(kit: Kit, run):
    await kit.clients.control.send_message(QueueUrl=kit.stack.queue_urls["dead_letters"], MessageBody="no notification")
    ran = await run("dlq", "redrive", "--json")

    assert ran.returncode == 1
    assert json.loads(ran.stdout)["left"] == 1
    assert "cannot be sent back" in ran.stderr


async def test_a_purge_asks_and_deletes_only_what_was_chosen(kit: Kit, run):
    for code in ("internal", "model_rejected"):
        await bury(kit, new_job().manifest_key(Flow.QUERY), code)
    dry = await run("dlq", "purge", "--dry-run")
    nobody = await run("dlq", "purge", "--code", "internal")
    no = await run("dlq", "purge", "--code", "internal", answer="n\n")
    kept = await kit.in_queue("dead_letters")
    yes = await run("dlq", "purge", "--code", "internal", answer="y\n")
    told = json.loads((await run("dlq", "purge", "--yes", "--json")).stdout)
    empty = await run("dlq", "ls")

    assert (dry.returncode, nobody.returncode, no.returncode, yes.returncode) == (0, 2, 0, 0)
    assert "Would delete 2 dead letters." in dry.stdout
    assert "Say --yes" in nobody.stderr
    assert "Deleted 0 dead letters." in no.stdout
    assert kept == (2, 0)
    assert "Deleted 1 dead letter." in yes.stdout
    assert [letter["code"] for letter in told["letters"]] == ["model_rejected"]
    assert "There are no dead letters." in empty.stdout


async def test_what_another_command_hides_is_no_reason_to_say_that_there_is_nothing(kit: Kit, run):
    for _ in range(3):
        await bury(kit, new_job().manifest_key(Flow.QUERY))
    held = await kit.queue("dead_letters").receive(max_messages=10, wait_seconds=1, visibility_seconds=60)
    listed = await run("dlq", "ls")
    told = await run("dlq", "redrive", "--json")
    for message in held:
        await kit.queue("dead_letters").change_visibility(message, 0)

    assert len(held) == 3
    assert (listed.returncode, told.returncode) == (1, 1)
    assert "There are no dead letters" not in listed.stdout + listed.stderr
    assert "3 letters more: hidden by another command, for up to 60 seconds" in listed.stderr
    assert json.loads(told.stdout)["hidden"] == 3
    assert await kit.in_queue("dead_letters") == (3, 0)


async def test_a_letter_with_half_a_character_is_shown_like_any_other(kit: Kit, run):
    body = '{"name": "caf\\ud83d"}'
    letter = DeadLetter(code="notification", reason="caf\ud83d", worker="worker-1", at=datetime.now(UTC))
    await kit.clients.control.send_message(
        QueueUrl=kit.stack.queue_urls["dead_letters"],
        MessageBody=letter.envelope(Message("queries", "m-1", "r-1", body)),
    )
    shown = await run("dlq", "show")
    told = await run("dlq", "show", "--json")

    assert (shown.returncode, told.returncode) == (0, 0), shown.stderr + told.stderr
    assert '"name": "caf"' in shown.stdout
    assert json.loads(told.stdout)["letters"][0]["body"] == body


async def test_what_would_be_refused_again_is_left_and_said(kit: Kit, run):
    await bury(kit, new_job().manifest_key(Flow.QUERY), "unknown_key")
    ran = await run("dlq", "redrive")

    assert ran.returncode == 1
    assert "it would be refused again" in ran.stdout
    assert "Sent back 0 messages." in ran.stdout
    assert await kit.in_queue("queries") == (0, 0)
    assert await kit.in_queue("dead_letters") == (1, 0)


async def test_a_redrive_tells_what_it_did_when_it_is_stopped(kit: Kit, tmp_path):
    for _ in range(30):
        await bury(kit, new_job().manifest_key(Flow.QUERY))
    hold, sent = Hold(then=sqs_error(400, "ReceiptHandleIsInvalid")), 0

    def watch(request):
        nonlocal sent
        sent += request.action == "SendMessage"
        return hold if sent and request.action == "ReceiveMessage" else None

    with FaultyProxy(str(kit.settings.aws_endpoint_url)).running() as proxy:
        proxy.watch(watch)
        process = subprocess.Popen(
            # A shell starts what it runs in the background deaf to Ctrl-C, and that is inherited.
            ["env", "--default-signal=INT", *DROPCHUTE, "dlq", "redrive"],
            env=environment(kit, tmp_path, AWS_ENDPOINT_URL=proxy.endpoint),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert await asyncio.to_thread(hold.arrived.wait, 30)
            process.send_signal(signal.SIGINT)
            said, why = await asyncio.to_thread(process.communicate, timeout=30)
        finally:
            hold.let_go.set()
            process.kill()
            process.wait()
    in_queue, _ = await kit.in_queue("queries")

    assert process.returncode == 130, why
    assert 0 < in_queue < 30
    assert f"Sent back {in_queue} messages." in said
    assert await kit.in_queue("dead_letters") == (30 - in_queue, 0)


async def test_a_redrive_tells_what_it_did_when_it_fails(kit: Kit, run):
    for _ in range(30):
        await bury(kit, new_job().manifest_key(Flow.QUERY))
    sent = 0

    def watch(request):
        nonlocal sent
        sent += request.action == "SendMessage"
        return sqs_error(503, "ServiceUnavailable") if sent > 12 and request.action == "SendMessage" else None

    with FaultyProxy(str(kit.settings.aws_endpoint_url)).running() as proxy:
        proxy.watch(watch)
        ran = await run("dlq", "redrive", "--json", AWS_ENDPOINT_URL=proxy.endpoint)
    told = json.loads(ran.stdout)

    assert ran.returncode == 3
    assert (told["sent_back"], told["to_the_end"]) == (12, False)
    assert await kit.in_queue("queries") == (12, 0)
    assert await kit.in_queue("dead_letters") == (18, 0)


async def test_reconcile_says_what_waits_in_its_queue_and_adds_nothing_to_it(kit: Kit, run):
    await kit.store.delete(await kit.keys(ROOT))
    await kit.lose_notifications((await kit.drop()).job.manifest_key(Flow.QUERY))
    first = await run("reconcile", "--older-than", "0")
    second = await run("reconcile", "--older-than", "0")
    told = json.loads((await run("reconcile", "--older-than", "0", "--json")).stdout)

    assert "Asked again for 1 job and 0 controls." in first.stdout
    assert "Waiting in its queue, so not asked again: 1 job." in second.stdout
    assert "Nothing has been stuck" not in second.stdout
    assert (told["jobs"], told["waiting"], told["stuck"]) == (0, 1, [])
    assert await kit.in_queue("queries") == (1, 0)


@contextmanager
def worker(kit: Kit, tmp_path, **more: str):
    process = subprocess.Popen(
        [*DROPCHUTE, "worker"],
        env=environment(kit, tmp_path, OPENAI_BASE_URL="http://127.0.0.1:9", **more),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def get(port: int, path: str):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    reply = connection.getresponse()
    facts = json.loads(reply.read())
    connection.close()
    return reply.status, facts


def test_a_worker_tells_that_it_is_alive_and_ready_and_stops_as_before(kit: Kit, tmp_path):
    with worker(kit, tmp_path, DROPCHUTE_HEALTH_PORT="0") as process:
        said = next(line for line in process.stderr if "worker.health" in line)
        port = int(json.loads(said)["port"])
        deadline = time.monotonic() + 30
        while get(port, "/readyz")[0] != 200:
            assert time.monotonic() < deadline
        alive = get(port, "/healthz")
        taken = subprocess.run(
            [*DROPCHUTE, "worker"],
            env=environment(kit, tmp_path, DROPCHUTE_HEALTH_PORT=str(port)),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=20)

    assert alive == (200, {"alive": True, "in_flight": 0})
    assert process.returncode == 0
    assert json.loads(rest.splitlines()[-1])["event"] == "worker.stopped"
    assert taken.returncode == 2
    assert re.search(rf"DROPCHUTE_HEALTH_PORT: 127\.0\.0\.1:{port} cannot be listened on", taken.stderr)
