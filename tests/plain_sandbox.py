"""A sandbox without walls, for tests of what stands around the sandbox: one plain subprocess per task."""

import asyncio
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from consumers.ports import GuestError, GuestRefusal, SandboxCrash, SandboxReport, SandboxTask, SandboxTimeout

ROOT = Path(__file__).parents[1]

RUNNER = """
import importlib, json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
task = json.load(sys.stdin)
channel = os.dup(1)
os.dup2(2, 1)
from consumers.sandbox.guest.contract import Folders, Refusal
module, _, name = task["call"].partition(":")
try:
    function = getattr(importlib.import_module(module), name)
    reply = {"value": function(task["arguments"], Folders(Path(task["inputs"]), Path(task["output"])))}
except Refusal as refusal:
    reply = {"refused": [refusal.code, refusal.message]}
except BaseException as error:
    reply = {"failed": f"{type(error).__name__}: {error}"}
os.write(channel, json.dumps(reply).encode())
os._exit(0)
"""


class PlainSandbox:
    tier = "plain subprocess"
    walls = ()

    async def run(self, task: SandboxTask) -> SandboxReport:
        with tempfile.TemporaryDirectory() as inputs:
            for name, path in task.inputs.items():
                shutil.copyfile(path, Path(inputs) / name)
            told = {"call": task.call, "arguments": task.arguments, "inputs": inputs, "output": str(task.output)}
            return await _run(json.dumps(told).encode(), task.limits.wall_seconds)


async def _run(told: bytes, seconds: float) -> SandboxReport:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", RUNNER, str(ROOT), stdin=pipe, stdout=pipe, stderr=pipe
    )
    started = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            out, printed = await process.communicate(told)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise SandboxTimeout("out of time") from None
    text = printed.decode(errors="replace")
    match json.loads(out) if out else {}:
        case {"value": dict(value)}:
            return SandboxReport(value, text, time.monotonic() - started)
        case {"refused": [code, message]}:
            raise GuestRefusal(code, message, printed=text)
        case {"failed": message}:
            raise GuestError(message, traceback=message, printed=text)
    raise SandboxCrash("no reply", printed=text)
