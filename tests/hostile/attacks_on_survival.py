"""Attacks on the end of a job: outlive it, hold it up, or take others along.

No signal but 0 is sent to others: the kernel allows or refuses it by the same rules as SIGKILL.
"""

from dataclasses import replace

from attack import SMALL, Attack

from consumers.ports import SandboxCrash, SandboxMemory, SandboxTimeout

_BRIEF = replace(SMALL, wall_seconds=2)

ATTACKS = (
    Attack(
        20,
        "ignore every signal that can be ignored",
        (
            """
import signal, time
for each in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(each, signal.SIG_IGN)
while True: time.sleep(1)
""",
        ),
        limits=_BRIEF,
        ends=(SandboxTimeout,),
        quick=True,
    ),
    Attack(
        21,
        "stop itself, so that nobody waits for it to end",
        (
            """
import signal
for pid, each in ((os.getpid(), signal.SIGSTOP), (0, signal.SIGTSTP), (os.getpid(), signal.SIGTSTP)):
    try: os.kill(pid, each); tried.append("sent")
    except OSError as error: tried.append(str(error))
""",
        ),
        limits=_BRIEF,
        ends=(SandboxTimeout, SandboxCrash),
    ),
    Attack(
        22,
        "leave a daemon behind: two forks and a session of its own",
        (
            """
import time
try:
    pid = os.fork()
except OSError as error:
    tried.append(f"fork: {error}")
else:
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(20)
        os._exit(0)
    os.waitpid(pid, 0)
    tried.append("a daemon was started")
""",
        ),
        quick=True,
    ),
    Attack(
        23,
        "hold the pipe of the result open after the end",
        (
            """
import threading, time
for fd in range(3, 32):
    try: os.dup(fd)
    except OSError: pass
try:
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
except OSError as error:
    tried.append(f"fork: {error}")
threading.Thread(target=time.sleep, args=(20,)).start()
tried.append("a thread holds on")
""",
        ),
    ),
    Attack(
        24,
        "end in the middle of a reply",
        (
            """
for fd in range(3, 64):
    try: os.write(fd, b"\\0\\0\\1\\0{\\"value\\": {")
    except OSError: pass
os._exit(0)
""",
            "os._exit(0)",
            "os.kill(os.getpid(), 9); os._exit(1)",
        ),
        ends=(SandboxCrash, SandboxMemory),
    ),
    Attack(
        25,
        "never end: exit handlers, finalizers and threads that loop",
        (
            """
import atexit, threading, time
def loop():
    while True: time.sleep(0.1)
atexit.register(loop)
class Late:
    def __del__(self): loop()
keep = Late()
keep.self = keep
threading.Thread(target=loop).start()
tried.append("three loops wait")
""",
        ),
        limits=SMALL,
        ends=(SandboxTimeout,),
    ),
    Attack(
        26,
        "kill the runner, or everybody",
        (
            """
others = {KNOWN["worker"], KNOWN["parent"], os.getppid(), *range(1, 400)} - {0, os.getpid()}
for pid in sorted(others):
    try:
        os.kill(pid, 0)
        got.append(f"may kill {pid}")
    except OSError as error:
        tried.append(f"kill {pid}: {error}")
attempt("may kill all", os.kill, -1, 0)
""",
        ),
        ends=(SandboxCrash,),
    ),
)
