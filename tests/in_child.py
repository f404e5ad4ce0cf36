"""A child: a Python of its own that runs a piece of code behind the walls a test puts up in it."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import consumers

_ROOT = Path(consumers.__file__).parents[1]


def child(
    code: Callable[..., object], *arguments: object, no_new_privs: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the source of a function of a test module, which imports what it needs itself, on JSON arguments.

    What it returns is printed as JSON. Without capabilities, so that a call that no wall stopped does no harm.
    """
    program = (
        f"import json, sys\nsys.path.insert(0, {str(_ROOT)!r})\n"
        "from consumers.sandbox.guest import kernel, landlock, seccomp\n"
        f"kernel.drop_capabilities()\n{'kernel.set_no_new_privs()' if no_new_privs else ''}\n"
        f"{inspect.getsource(code)}\n"
        f"print(json.dumps({code.__name__}(*json.loads(sys.argv[1]))))"
    )
    return subprocess.run(
        [sys.executable, "-I", "-B", "-c", program, json.dumps(arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"HOME": "/tmp", "OPENBLAS_NUM_THREADS": "1"},
    )


def returned(code: Callable[..., object], *arguments: object) -> Any:
    """What the function returned in its child."""
    ended = child(code, *arguments)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])
