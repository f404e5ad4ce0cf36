"""Ordinary programs with Python's own library."""

from decimal import Decimal

from ordinary_program import ORDERS, Program

PROGRAMS = [
    Program(
        "csv and json in memory, with Decimal",
        """
import csv, io, json
from decimal import Decimal, ROUND_HALF_UP
text = io.StringIO()
writer = csv.writer(text)
writer.writerow(["item", "net"])
writer.writerows([["a", "19.995"], ["b", "0.105"]])
rows = list(csv.DictReader(io.StringIO(text.getvalue())))
gross = [(Decimal(r["net"]) * Decimal("1.19")).quantize(Decimal("0.01"), ROUND_HALF_UP) for r in rows]
result = pd.DataFrame({"item": [r["item"] for r in json.loads(json.dumps(rows))], "gross": gross})
""",
        {"item": ["a", "b"], "gross": [Decimal("23.79"), Decimal("0.12")]},
    ),
    Program(
        "counting words by re, collections and itertools",
        r"""
import re
from collections import Counter, defaultdict
from itertools import groupby, pairwise
words = re.findall(r"[a-zà-ÿ]+", "Der Tee, der Kaffee und die Tasse; der Tee!".lower())
count = Counter(words)
pairs = Counter(pairwise(words))
by_length = {k: len(list(g)) for k, g in groupby(sorted(set(words), key=len), key=len)}
result = pd.DataFrame([("der", count["der"]), ("der tee", pairs["der", "tee"]), ("of three", by_length[3])],
                      columns=["what", "n"])
""",
        {"what": ["der", "der tee", "of three"], "n": [3, 2, 4]},
    ),
    Program(
        "a join in SQLite, in memory and in a file",
        """
import os, sqlite3, tempfile
answers = []
for place in (":memory:", os.path.join(tempfile.mkdtemp(), "work.db")):
    with sqlite3.connect(place) as db:
        df.assign(day=df["day"].astype(str)).to_sql("orders", db, index=False)
        db.execute("create table regions as select distinct region from orders")
        answers.append(pd.read_sql("select r.region, sum(o.units) as units from regions r join orders o using (region)"
                                   " group by 1 order by 1", db))
    db.close()
assert answers[0].equals(answers[1])
result = answers[0]
""",
        {
            "region": ["East", "North", "South", "West"],
            "units": [sum(o.units for o in ORDERS if o.region == r) for r in ("East", "North", "South", "West")],
        },
    ),
    Program(
        "time zones by zoneinfo",
        """
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo
places = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]
moment = datetime(2025, 7, 1, 12, tzinfo=ZoneInfo("UTC"))
result = pd.DataFrame({"place": places,
                       "local": [moment.astimezone(ZoneInfo(p)).strftime("%d %H:%M") for p in places]})
""",
        {
            "place": ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"],
            "local": ["01 14:00", "01 08:00", "01 17:30", "01 22:30"],
        },
    ),
    Program(
        "threads in a pool, with a lock",
        """
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
lock, done = threading.Lock(), []
def work(n):
    with lock:
        done.append(n)
    return sum(range(n))
with ThreadPoolExecutor(max_workers=8) as pool:
    sums = sorted(f.result() for f in as_completed([pool.submit(work, n) for n in range(0, 1000, 100)]))
result = pd.DataFrame({"sum": sums})
assert sorted(done) == list(range(0, 1000, 100))
""",
        {"sum": [n * (n - 1) // 2 for n in range(0, 1000, 100)]},
    ),
    Program(
        "threads in a pool of multiprocessing's",
        """
from multiprocessing import cpu_count
from multiprocessing.dummy import Pool
from multiprocessing.pool import ThreadPool
with ThreadPool(4) as pool, Pool(cpu_count()) as other:
    result = pd.DataFrame({"square": pool.map(lambda n: n * n, range(5)),
                           "word": other.starmap("{}{}".format, zip("abcde", range(5)))})
""",
        {"square": [0, 1, 4, 9, 16], "word": ["a0", "b1", "c2", "d3", "e4"]},
    ),
    Program(
        "a pool as wide as the machine, and asyncio",
        """
import asyncio, os
from concurrent.futures import ThreadPoolExecutor
async def one(n):
    await asyncio.sleep(0)
    return n * n
async def main():
    return await asyncio.gather(*(one(n) for n in range(5)), asyncio.to_thread(pow, 5, 2))
with ThreadPoolExecutor() as pool:
    cubes = list(pool.map(lambda n: n**3, range(6)))
assert os.cpu_count() >= 1
result = pd.DataFrame({"square": asyncio.run(main()), "cube": cubes})
""",
        {"square": [0, 1, 4, 9, 16, 25], "cube": [0, 1, 8, 27, 64, 125]},
    ),
    Program(
        "temporary files and folders",
        """
import glob, os, pathlib, shutil, tempfile
with tempfile.TemporaryDirectory() as folder:
    for n in range(3):
        df.head(n + 1).to_csv(os.path.join(folder, f"part{n}.csv"), index=False)
    shutil.copy(os.path.join(folder, "part2.csv"), os.path.join(folder, "copy.csv"))
    os.rename(os.path.join(folder, "copy.csv"), os.path.join(folder, "part3.csv"))
    parts = [pd.read_csv(p) for p in sorted(glob.glob(folder + "/part*.csv"))]
with tempfile.NamedTemporaryFile("w+", suffix=".txt") as file, tempfile.TemporaryFile() as other:
    file.write("hello"); file.seek(0); other.write(b"x")
    text = pathlib.Path(file.name).read_text() or file.read()
home = pathlib.Path.home() / "notes.txt"
home.write_text("kept")
result = pd.DataFrame({"rows": [len(pd.concat(parts))], "text": [text], "gone": [not os.path.exists(folder)],
                       "home": [home.read_text()]})
home.unlink()
""",
        {"rows": [1 + 2 + 3 + 3], "text": ["hello"], "gone": [True], "home": ["kept"]},
    ),
    Program(
        "archives in memory: zip, gzip, bz2 and xz",
        """
import bz2, gzip, io, lzma, zipfile
text = df.to_csv(index=False).encode()
buffer = io.BytesIO()
with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("orders.csv", text)
    archive.writestr("packed/orders.csv.gz", gzip.compress(text))
with zipfile.ZipFile(buffer) as archive:
    plain = pd.read_csv(archive.open("orders.csv"))
    packed = pd.read_csv(io.BytesIO(archive.read("packed/orders.csv.gz")), compression="gzip")
same = bz2.decompress(bz2.compress(text)) == lzma.decompress(lzma.compress(text)) == text
result = pd.DataFrame({"units": [plain["units"].sum(), packed["units"].sum()], "same": same})
""",
        {"units": [47, 47], "same": [True, True]},
    ),
    Program(
        "logging, printing and caught warnings",
        """
import logging, warnings
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", force=True)
logging.info("rows: %d", len(df))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    mean = np.float64(1.0) / np.float64(0.0)
print("mean", mean)
warnings.filterwarnings("ignore")
warnings.warn("not shown")
result = len(caught)
""",
        {"result": [1]},
        printed="INFO rows: 12\nmean inf\n",
    ),
    Program(
        "the locale, statistics, fractions and formatting",
        """
import locale, statistics, textwrap
from fractions import Fraction
locale.setlocale(locale.LC_ALL, "")
numbers = df["units"].tolist()
result = pd.DataFrame({
    "what": ["median", "stdev", "third", "money", "short"],
    "value": [f"{statistics.median(numbers)}", f"{statistics.stdev(numbers):.6f}", str(sum([Fraction(1, 3)] * 2)),
              f"{1234567.891:,.2f} €", textwrap.shorten("a rather long text", 12, placeholder="…")],
})
""",
        {
            "what": ["median", "stdev", "third", "money", "short"],
            "value": [
                "3.0",
                f"{(sum((o.units - 47 / 12) ** 2 for o in ORDERS) / 11) ** 0.5:.6f}",
                "2/3",
                "1,234,567.89 €",
                "a rather…",
            ],
        },
    ),
    Program(
        "hashes, identifiers, copies and functional tools",
        """
import copy, functools, hashlib, operator, platform, secrets, time, uuid
from dataclasses import asdict, dataclass
@dataclass
class Point:
    x: int
    y: int
@functools.lru_cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
began = time.perf_counter()
result = pd.DataFrame({
    "what": ["hash", "fib", "product", "point", "id", "token", "system", "clock"],
    "value": [hashlib.sha256(b"abc").hexdigest()[:8], str(fib(60)), str(functools.reduce(operator.mul, range(1, 11))),
              str(asdict(copy.deepcopy(Point(1, 2)))), str(len({str(uuid.uuid4()), str(uuid.uuid1())})),
              str(len(secrets.token_hex(8))), platform.system(), str(0 <= time.perf_counter() - began < 60)],
})
""",
        {
            "what": ["hash", "fib", "product", "point", "id", "token", "system", "clock"],
            "value": ["ba7816bf", "1548008755920", "3628800", "{'x': 1, 'y': 2}", "2", "16", "Linux", "True"],
        },
    ),
    Program(
        "a program of functions with a main",
        """
import sys
from typing import Iterable
def total(values: Iterable[float]) -> float:
    return float(sum(values))
def main():
    global result
    result = pd.DataFrame({"region": ["all"], "revenue": [total(df["units"] * df["price"])]})
if __name__ == "__main__":
    main()
    sys.stdout.write("done\\n")
""",
        {"region": ["all"], "revenue": [sum(o.units * o.price for o in ORDERS)]},
        printed="done\n",
    ),
]
