"""Attacks on resources: more time and text than a job may use, and results that are larger than they look."""

from dataclasses import replace

from attack import CALM, SMALL, Attack, Trial
from host_reader import exported

from consumers.ports import SandboxCrash, SandboxMemory, SandboxOutput, SandboxTimeout

_ENDED = (SandboxTimeout, SandboxMemory, SandboxCrash, SandboxOutput)


async def _no_core(trial: Trial) -> list[str]:
    places = (trial.scratch, trial.output)
    return [f"a core dump: {path}" for place in places for path in place.rglob("core*")]


async def _printed_within(trial: Trial) -> list[str]:
    over = len(trial.printed) - trial.attack.limits.output_bytes
    return [f"{over} bytes of text more than allowed"] if over > 0 else []


async def _bomb_is_refused(trial: Trial) -> list[str]:
    return await exported(trial, "xlsx", "csv", may_succeed=False)


ATTACKS = (
    Attack(
        13,
        "a regular expression that holds the interpreter",
        ("import re; re.match('(a+)+$', 'a' * 60 + 'b')",),
        limits=replace(SMALL, cpu_seconds=1),
        ends=(SandboxTimeout,),
    ),
    Attack(
        14,
        "a number too large to compute",
        ("x = 10**10**8",),
        limits=replace(SMALL, cpu_seconds=1),
        ends=(SandboxTimeout, SandboxMemory),
    ),
    Attack(
        15,
        "sleep without end",
        ("import time; time.sleep(10**6)",),
        limits=replace(SMALL, wall_seconds=2),
        ends=(SandboxTimeout,),
    ),
    Attack(
        16,
        "print gigabytes, to both streams",
        ("while True: print('x' * 100_000)", "import sys\nwhile True: sys.stderr.write('y' * 100_000)"),
        limits=SMALL,
        ends=(SandboxOutput,),
        judge=_printed_within,
    ),
    Attack(
        17,
        "a line that never ends",
        ("import os\nwhile True: os.write(1, b'x')",),
        limits=SMALL,
        ends=(SandboxOutput,),
        judge=_printed_within,
    ),
    Attack(
        18,
        "leave a core dump with what was in memory",
        (
            """
import resource
try: resource.setrlimit(resource.RLIMIT_CORE, (-1, -1))
except (OSError, ValueError): pass
os.chdir(OUT)
os.abort()
""",
        ),
        ends=(SandboxCrash,),
        judge=_no_core,
    ),
    Attack(
        19,
        "a small file that unpacks to gigabytes, as the result",
        (
            """
import pyarrow as pa, pyarrow.parquet as pq
whole = pq.write_table
def bomb(table, path, **named):
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, "int32")), pa.array(["x" * 100_000]))
    with pq.ParquetWriter(path, pa.schema([("a", column.type)]), compression="zstd") as writer:
        for _ in range(20):
            writer.write_table(pa.table({"a": column}))
pq.write_table = bomb
tried.append("a bomb")
""",
        ),
        limits=CALM,
        ends=_ENDED,
        judge=_bomb_is_refused,
    ),
)
