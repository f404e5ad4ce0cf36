"""Ordinary programs over tables: pandas, numpy and pyarrow."""

import statistics

from ordinary_program import ORDERS, Program, totals

BY_REGION = totals("region")
REGIONS, PRODUCTS = ["East", "North", "South", "West"], ["Coffee", "Mugs", "Tea"]
UNITS = [order.units for order in ORDERS]


def units(region: str, product: str) -> int:
    return sum(order.units for order in ORDERS if (order.region, order.product) == (region, product))


def of_month(month: int) -> float:
    return sum(order.units * order.price for order in ORDERS if order.day.month == month)


PROGRAMS = [
    Program(
        "group by, sum and sort",
        """
df["revenue"] = df["units"] * df["price"]
result = df.groupby("region", as_index=False)["revenue"].sum().sort_values("revenue", ascending=False)
""",
        {
            "region": sorted(REGIONS, key=lambda region: -BY_REGION[region]),
            "revenue": sorted(BY_REGION.values(), reverse=True),
        },
    ),
    Program(
        "named aggregations",
        """
result = (
    df.groupby("product")
    .agg(orders=("number", "count"), middle=("units", "median"), dearest=("price", "max"), first=("day", "min"))
    .reset_index()
)
""",
        {
            "product": PRODUCTS,
            "orders": [4, 3, 5],
            "middle": [2.0, 2.0, 5.0],
            "dearest": [8.5, 12.5, 2.75],
            "first": ["2025-01-09 00:00:00", "2025-02-28 00:00:00", "2025-01-03 00:00:00"],
        },
    ),
    Program(
        "a pivot table with margins",
        """
result = pd.pivot_table(df, index="region", columns="product", values="units", aggfunc="sum", fill_value=0,
                        margins=True, margins_name="All")
""",
        {
            "region": [*REGIONS, "All"],
            **{
                product: [units(region, product) for region in REGIONS] + [sum(units(r, product) for r in REGIONS)]
                for product in PRODUCTS
            },
            "All": [sum(units(region, product) for product in PRODUCTS) for region in REGIONS] + [sum(UNITS)],
        },
    ),
    Program(
        "resampling by month",
        """
df["day"] = pd.to_datetime(df["day"])
monthly = df.assign(revenue=df["units"] * df["price"]).set_index("day")["revenue"].resample("ME").sum()
result = pd.DataFrame({"month": monthly.index.strftime("%Y-%m"), "revenue": monthly.values,
                       "change": monthly.pct_change().values})
""",
        {
            "month": ["2025-01", "2025-02", "2025-03", "2025-04"],
            "revenue": [of_month(month) for month in (1, 2, 3, 4)],
            "change": [None, *(of_month(month) / of_month(month - 1) - 1 for month in (2, 3, 4))],
        },
    ),
    Program(
        "a rolling mean and an expanding maximum",
        'result = pd.DataFrame({"mean": df["units"].rolling(3).mean(), "most": df["units"].expanding().max()})',
        {
            "mean": [None, None] + [statistics.fmean(UNITS[end - 3 : end]) for end in range(3, 13)],
            "most": [max(UNITS[:end]) for end in range(1, 13)],
        },
    ),
    Program(
        "the latest price before each sale (merge_asof)",
        """
prices = pd.DataFrame({"at": pd.to_datetime(["2025-01-01", "2025-02-10", "2025-03-10"]), "list": [10.0, 11.0, 12.5]})
sales = df[["number", "day"]].assign(day=pd.to_datetime(df["day"])).sort_values("day")
prices["at"] = prices["at"].astype(sales["day"].dtype)
result = pd.merge_asof(sales, prices, left_on="day", right_on="at")[["number", "list"]]
""",
        {"number": list(range(1, 13)), "list": [10.0] * 4 + [11.0] * 4 + [12.5] * 4},
    ),
    Program(
        "a left join that finds what is missing",
        """
managers = pd.DataFrame({"region": ["North", "South", "West"], "manager": ["Ada", "Bo", "Cy"]})
merged = df.merge(managers, on="region", how="left", indicator=True, validate="many_to_one")
result = merged.loc[merged["_merge"] == "left_only", ["number", "region"]]
""",
        {"number": [4, 6, 11], "region": ["East"] * 3},
    ),
    Program(
        "query and eval without numexpr",
        """
result = df.query("units > 2 and product != 'Tea'").eval("revenue = units * price")[["number", "revenue"]]
""",
        {"number": [8, 10], "revenue": [46.5, 37.5]},
    ),
    Program(
        "bands by cut, quarters by qcut",
        """
bands = pd.cut(df["units"], [0, 2, 5, 100], labels=["small", "middle", "large"])
result = pd.concat([bands.value_counts(sort=False).rename("orders"),
                    pd.qcut(df["number"], 3, labels=["small", "middle", "large"]).value_counts(sort=False)], axis=1)
""",
        {"index": ["small", "middle", "large"], "orders": [5, 4, 3], "count": [4, 4, 4]},
    ),
    Program(
        "a crosstab in shares",
        'result = pd.crosstab(df["product"], df["region"], normalize="index")',
        {
            "product": PRODUCTS,
            "East": [0.25, 1 / 3, 0.2],
            "North": [0.25, 1 / 3, 0.4],
            "South": [0.25, 1 / 3, 0.2],
            "West": [0.25, 0, 0.2],
        },
    ),
    Program(
        "ordered categories and a MultiIndex",
        """
df["product"] = pd.Categorical(df["product"], ["Tea", "Coffee", "Mugs"], ordered=True)
table = df.groupby(["product", "region"], observed=True)["units"].sum().unstack("region").fillna(0)
result = table.stack().loc[("Tea",)].astype(int).rename("units")
""",
        {"region": REGIONS, "units": [units(region, "Tea") for region in REGIONS]},
    ),
    Program(
        "messy text by str methods",
        r"""
raw = pd.Series(["  Anna SMITH <anna@x.org> ", "bob jones", None, "Zoë O'Neil <zoe@y.org>"])
clean = raw.str.strip()
result = pd.DataFrame({
    "name": clean.str.replace(r"\s*<.*>", "", regex=True).str.title(),
    "host": clean.str.extract(r"@([\w.]+)", expand=False).fillna("none"),
    "long": clean.str.len().gt(12).fillna(False).astype(bool),
})
""",
        {
            "name": ["Anna Smith", "Bob Jones", None, "Zoë O'Neil"],
            "host": ["x.org", "none", "none", "y.org"],
            "long": [True, False, False, True],
        },
    ),
    Program(
        "dates in several formats and time zones",
        """
mixed = pd.to_datetime(pd.Series(["31.01.2025", "01.02.2025", "nonsense"]), format="%d.%m.%Y", errors="coerce")
zoned = pd.to_datetime(["2025-03-30 00:30", "2025-03-30 01:30"]).tz_localize("UTC").tz_convert("Europe/Berlin")
result = pd.DataFrame({"day": mixed.dt.day_name().fillna("?"), "local": [*zoned.strftime("%H:%M %z"), ""]})
""",
        {"day": ["Friday", "Saturday", "?"], "local": ["01:30 +0100", "03:30 +0200", ""]},
    ),
    Program(
        "a CSV in memory, read, written and read again",
        """
from io import StringIO
text = "when;what;amount\\n2025-01-01;a;1.234,50\\n2025-01-02;b;-3,25\\n"
frame = pd.read_csv(StringIO(text), sep=";", decimal=",", thousands=".", parse_dates=["when"])
again = pd.read_csv(StringIO(frame.to_csv(index=False)))
result = again
""",
        {"when": ["2025-01-01", "2025-01-02"], "what": ["a", "b"], "amount": [1234.5, -3.25]},
    ),
    Program(
        "a workbook in memory, two sheets",
        """
from io import BytesIO
buffer = BytesIO()
with pd.ExcelWriter(buffer, engine="xlsxwriter") as writer:
    df.to_excel(writer, sheet_name="Orders", index=False)
    df.describe().to_excel(writer, sheet_name="Summary")
sheets = pd.read_excel(buffer, sheet_name=None, engine="calamine")
result = pd.DataFrame({"sheet": list(sheets), "rows": [len(s) for s in sheets.values()],
                       "units": [sheets["Orders"]["units"].sum(), sheets["Summary"]["units"].max()]})
""",
        {"sheet": ["Orders", "Summary"], "rows": [12, 8], "units": [47.0, 12.0]},
    ),
    Program(
        "a workbook in the folder for temporary files",
        """
import os, tempfile
path = os.path.join(tempfile.gettempdir(), "orders.xlsx")
df.to_excel(path, index=False)
result = pd.read_excel(path, engine="calamine")["price"].sum()
os.remove(path)
""",
        {"result": [sum(order.price for order in ORDERS)]},
    ),
    Program(
        "Parquet and feather in the working folder",
        """
df.to_parquet("orders.parquet")
df.to_feather("orders.feather")
result = pd.concat([pd.read_parquet("orders.parquet", columns=["units"]), pd.read_feather("orders.feather")[["units"]]]
                   ).groupby(level=0).sum()
""",
        {"units": [2 * each for each in UNITS]},
    ),
    Program(
        "melt, explode and get_dummies",
        """
wide = pd.DataFrame({"id": [1, 2], "2024": [5, 6], "2025": [7, 8]})
long = wide.melt(id_vars="id", var_name="year", value_name="n")
tags = pd.Series(["a|b", "b"]).str.split("|").explode()
dummies = pd.get_dummies(tags).groupby(level=0).sum()
result = {"long": long, "tags": dummies.rename_axis("row").reset_index()}
""",
        {"id": [1, 2, 1, 2], "year": ["2024", "2024", "2025", "2025"], "n": [5, 6, 7, 8]},
    ),
    Program(
        "linear algebra and percentiles in numpy",
        """
matrix = np.array([[4.0, 1, 0], [1, 3, 1], [0, 1, 2]])
x = np.linalg.solve(matrix, [6.0, 10.0, 8.0])
result = pd.DataFrame({"x": x, "back": np.linalg.inv(matrix) @ matrix @ x, "det": np.linalg.det(matrix),
                       "p": np.percentile([1, 2, 3, 4, 10], [25, 50, 75]),
                       "large": (np.ones((600, 600)) @ np.ones((600, 3)))[0]})
""",
        {"x": [1.0, 2.0, 3.0], "back": [1.0, 2.0, 3.0], "det": [18.0] * 3, "p": [2.0, 3.0, 4.0], "large": [600.0] * 3},
    ),
    Program(
        "random numbers that are the same each time",
        """
rng = np.random.default_rng(42)
import random
random.seed(7); first = [random.randint(1, 100) for _ in range(3)]
random.seed(7); second = [random.randint(1, 100) for _ in range(3)]
sample = rng.normal(10, 2, 100_000)
result = pd.DataFrame({"same": [first == second], "mean": [sample.mean()], "deviation": [sample.std()],
                       "drawn": [df.sample(5, random_state=1)["number"].is_unique]})
""",
        {"same": [True], "mean": [10.0], "deviation": [2.0], "drawn": [True]},
        within=0.01,
    ),
    Program(
        "Arrow's own CSV, compute and grouping, on its threads",
        """
import io
import pyarrow as pa, pyarrow.compute as pc, pyarrow.csv as pv
text = "k,v\\n" + "".join(f"{n % 3},{n}\\n" for n in range(30_000))
table = pv.read_csv(io.BytesIO(text.encode()), read_options=pv.ReadOptions(block_size=20_000))
grouped = table.group_by("k").aggregate([("v", "sum")]).sort_by("k")
result = pd.DataFrame({"k": grouped["k"].to_pylist(), "v": grouped["v_sum"].to_pylist(),
                       "above": pc.sum(pc.greater(table["v"], 29_990)).as_py()})
""",
        {"k": [0, 1, 2], "v": [sum(range(start, 30_000, 3)) for start in range(3)], "above": [9] * 3},
    ),
    Program(
        "a million rows, grouped and ranked",
        """
n = 1_000_000
big = pd.DataFrame({"k": np.arange(n) % 1000, "v": np.arange(n, dtype="float64")})
top = big.groupby("k")["v"].sum().nlargest(2)
result = top.reset_index()
""",
        {"k": [999, 998], "v": [float(sum(range(999, 10**6, 1000))), float(sum(range(998, 10**6, 1000)))]},
    ),
]
