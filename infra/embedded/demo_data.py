"""The demo's data: a messy sales export and a workbook that explains its numbers; the same to the byte each time.

Only ``Random.random`` is used: it alone yields the same sequence in every Python (library reference, "random").
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TypeVar

import xlsxwriter

T = TypeVar("T")

SALES_NAME = "sales-2025.csv"
MASTER_DATA_NAME = "master-data.xlsx"

SEED = 2025
ORDERS = 50_000
CUSTOMERS = 800
MOST_AT_ONCE = 60
FIRST_DAY = date(2025, 1, 1)
DAYS = 365

REGIONS = ("North", "South", "East", "West")
SEGMENTS = ("Retail", "Wholesale", "Online")
PRODUCTS = {
    "Coffee": ("House blend", "Espresso", "Decaf", "Single origin", "Cold brew"),
    "Tea": ("Assam", "Earl Grey", "Sencha", "Rooibos", "Peppermint"),
    "Equipment": ("Grinder", "Kettle", "French press", "Scale", "Teapot"),
    "Sweets": ("Shortbread", "Truffles", "Biscotti", "Caramels", "Nougat"),
}
# In quarters of the currency: they are exact in binary, so a sum is the same in whatever order it is taken.
CHEAPEST_QUARTERS = {"Coffee": 26, "Tea": 15, "Equipment": 78, "Sweets": 11}

PREAMBLE = "Sales export;Year 2025;generated 2026-01-05 06:00"
HEADER = "order_id;order_date;customer_id;product_id;quantity;unit_price;revenue"


def write_demo_files(folder: Path) -> tuple[Path, Path]:
    """Write both files into an existing folder; returns the sales export and the workbook."""
    chance = Random(SEED)  # noqa: S311 - repeatable on purpose
    sales, workbook = folder / SALES_NAME, folder / MASTER_DATA_NAME
    customers = [
        (f"{7 * number:06d}", _pick(chance, REGIONS), _pick(chance, SEGMENTS)) for number in range(1, CUSTOMERS + 1)
    ]
    products = [
        (f"{11 * number:04d}", name, category)
        for number, (name, category) in enumerate(
            ((name, category) for category, names in PRODUCTS.items() for name in names), start=1
        )
    ]
    sales.write_text(
        "".join(f"{line}\r\n" for line in _sales_lines(chance, customers, products)), encoding="utf-8", newline=""
    )
    _write_workbook(workbook, customers, products)
    return sales, workbook


def _sales_lines(
    chance: Random, customers: Sequence[tuple[str, str, str]], products: Sequence[tuple[str, str, str]]
) -> Iterator[str]:
    yield PREAMBLE
    yield HEADER
    for number in range(1, ORDERS + 1):
        day = FIRST_DAY + timedelta(days=(number - 1) * DAYS // ORDERS)
        customer_id, _, _ = _pick(chance, customers)
        product_id, _, category = _pick(chance, products)
        quantity = 1 + int(chance.random() * MOST_AT_ONCE)
        price = CHEAPEST_QUARTERS[category] + int(chance.random() * 20)
        ids = f"{number:08d};{day:%d.%m.%Y};{customer_id};{product_id}"
        yield f"{ids};{quantity};{_with_comma(price)};{_with_comma(quantity * price)}"


def _with_comma(quarters: int) -> str:
    whole = f"{quarters // 4:,}".replace(",", ".")
    return f"{whole},{quarters % 4 * 25:02d}"


def _pick(chance: Random, values: Sequence[T]) -> T:
    return values[int(chance.random() * len(values))]


def _write_workbook(
    path: Path, customers: Sequence[tuple[str, str, str]], products: Sequence[tuple[str, str, str]]
) -> None:
    with xlsxwriter.Workbook(path) as workbook:
        workbook.set_properties({"title": "Master data", "created": datetime(2026, 1, 5, tzinfo=UTC)})
        bold = workbook.add_format({"bold": True})
        for name, header, rows in (
            ("Customers", ("customer_id", "region", "segment"), customers),
            ("Products", ("product_id", "product", "category"), products),
        ):
            sheet = workbook.add_worksheet(name)
            sheet.write_row(0, 0, header, bold)
            for number, row in enumerate(rows, start=1):
                for column, text in enumerate(row):
                    sheet.write_string(number, column, text)
            sheet.set_column(0, len(header) - 1, 16)
            sheet.freeze_panes(1, 0)
