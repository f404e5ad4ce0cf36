"""A child: a Python of its own that runs one function, behind the walls which that puts up."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import consumers

_ROOTS = [str(Path(consumers.__file__).parents[1]), str(Path(__file__).parent)]
_PROGRAM = """
import importlib, json, sys
roots, capabilities, no_new_privs, module, name, arguments = json.loads(sys.argv[1])
sys.path[:0] = roots
from consumers.sandbox.guest import kernel
function = getattr(importlib.import_module(module), name)
if not capabilities:
    kernel.drop_capabilities()
if no_new_privs:
    kernel.set_no_new_privs()
print(json.dumps(function(*arguments)))
"""


def child(
    function: Callable[..., object], *arguments: object, capabilities: bool = False, no_new_privs: bool = True
) -> subprocess.CompletedProcess[str]:
    """Call a function of an importable module with JSON arguments; what it returns is printed as JSON.

    Without capabilities unless told, so that an attempt which no wall stops does no harm.
    """
    task = [_ROOTS, capabilities, no_new_privs, function.__module__, function.__name__, arguments]
    return subprocess.run(
        [sys.executable, "-I", "-B", "-c", _PROGRAM, json.dumps(task)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"HOME": "/tmp", "OPENBLAS_NUM_THREADS": "1"},
    )


def returned(function: Callable[..., object], *arguments: object, capabilities: bool = False) -> Any:
    """What the function returned in its child."""
    ended = child(function, *arguments, capabilities=capabilities)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])
