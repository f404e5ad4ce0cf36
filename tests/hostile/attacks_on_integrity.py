"""Attacks on what is true: for the job after it, for the inputs, and for the answer itself."""

import host_reader
from attack import Attack

ATTACKS = (
    Attack(
        70,
        "change pandas for the job after it",
        (
            """
import builtins
pd.DataFrame.sum = pd.Series.sum = lambda *a, **k: 42
type(pd.Series([1]).groupby([1])).sum = lambda *a, **k: pd.Series([42])
pd.DataFrame.groupby = lambda *a, **k: 1 / 0
np.add = np.subtract
builtins.print = lambda *a, **k: None
sys.modules["json"].dumps = json.dumps
tried.append("changed")
""",
        ),
        quick=True,
    ),
    Attack(
        71,
        "write where Python looks for programs: packages, .pth files, sitecustomize, our own code",
        (
            """
version = "python%d.%d" % sys.version_info[:2]
places = [*(p for p in sys.path if p), os.path.dirname(pd.__file__), os.path.dirname(os.__file__),
          os.path.dirname(sys.modules["consumers"].__path__[0]), sys.prefix, sys.base_prefix, "/usr/lib",
          f"{KNOWN['home']}/.local/lib/{version}/site-packages"]
for place in dict.fromkeys(places):
    # What is in its own /tmp goes with it.
    if os.getpid() == 1 and os.path.isdir(place) and os.stat(place).st_dev == os.stat(TMP).st_dev: continue
    for name in ("sitecustomize.py", "usercustomize.py", "evil.pth"):
        try:
            with open(f"{place}/{name}", "x") as file: file.write("raise SystemExit('evil')")
            got.append(f"{place}/{name}")
            os.unlink(f"{place}/{name}")
        except OSError as error: tried.append(f"{place}: {error}")
try:
    with open(sys.modules["consumers.sandbox.guest.run_code"].__file__, "r+") as file: got.append(file.name)
except OSError as error: tried.append(f"our own code: {error}")
""",
        ),
    ),
    Attack(
        72,
        "put a json.py into the working folder",
        (
            """
for folder in dict.fromkeys([os.getcwd(), OUT, TMP]):
    for name in ("json.py", "pandas.py", "numpy.py", "sitecustomize.py"):
        try:
            with open(f"{folder}/{name}", "w") as file: file.write("raise SystemExit('shadow')")
            tried.append(f"{folder}/{name}")
        except OSError as error: tried.append(f"{folder}: {error}")
""",
        ),
    ),
    Attack(
        73,
        "change the inputs, their modes and times, and files of the worker",
        (
            """
path = f"{IN}/table.parquet"
attempt("written", lambda: open(path, "r+b").write(b"evil"))
attempt("emptied", os.truncate, path, 0)
attempt("emptied by opening", os.open, path, os.O_RDONLY | os.O_TRUNC)
attempt("renamed", os.rename, path, f"{OUT}/table.parquet")
attempt("removed", os.unlink, path)
attempt("beside", lambda: open(f"{IN}/evil", "w").close())
with open(path if os.path.exists(path) else "/dev/null", "rb") as file:
    attempt("emptied by descriptor", os.ftruncate, file.fileno(), 0)
    # A wall may say yes and do nothing: whether it was done, the host sees.
    for place in (path, file.fileno(), KNOWN["secret"], KNOWN["neighbour"]):
        for change in (lambda: os.chmod(place, 0o604), lambda: os.utime(place, (1, 1)),
                       lambda: os.setxattr(place, "user.evil", b"1"), lambda: os.chown(place, 1, 1)):
            try: change(); tried.append("said to be done")
            except OSError as error: tried.append(str(error))
attempt("emptied a secret", os.truncate, KNOWN["secret"], 1)
attempt("removed a secret", os.unlink, KNOWN["secret"])
""",
        ),
        quick=True,
    ),
    Attack(
        74,
        "poison caches of fonts and bytecode for the jobs after it",
        (
            """
homes = {TMP, os.environ.get("HOME", "/tmp"), os.environ.get("MPLCONFIGDIR", "/tmp")}
for home in [*homes, *(p for p in sys.path if "site-packages" in p)]:
    for name in ("poison", ".cache/fontconfig/poison", ".config/matplotlib/poison", "__pycache__/poison.pyc"):
        try:
            os.makedirs(os.path.dirname(os.path.join(home, name)), exist_ok=True)
            with open(os.path.join(home, name), "w") as file: file.write("poison")
            tried.append(os.path.join(home, name))
        except OSError as error: tried.append(f"{home}: {error}")
""",
        ),
        judge=host_reader.a_later_job_finds_nothing,
    ),
    Attack(
        75,
        "a result and an answer that were never computed from the inputs",
        ("result = 42\nanswer = 'The total is ' + str(result)\n",),
        judge=host_reader.a_made_up_answer_is_dropped,
        whole=True,
    ),
)
