import csv
import hashlib
from collections import Counter
from decimal import Decimal

import openpyxl
import pytest

from infra.embedded.demo_data import HEADER, ORDERS, PREAMBLE, write_demo_files

# The recorded replies answer questions about exactly these bytes.
SALES_SHA256 = "7afa56b77f286a0b748164060fdaa67801f36f12b7a0d71a692e98302b500192"


@pytest.fixture(scope="module")
def demo_files(tmp_path_factory):
    return write_demo_files(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def orders(demo_files):
    with demo_files[0].open(encoding="utf-8", newline="") as file:
        next(file)
        return list(csv.DictReader(file, delimiter=";"))


@pytest.fixture(scope="module")
def workbook(demo_files):
    sheets = openpyxl.load_workbook(demo_files[1])
    return {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in sheets}


def test_the_files_are_the_same_to_the_byte_each_time(demo_files, tmp_path):
    again = write_demo_files(tmp_path)

    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in demo_files]


def test_the_sales_are_the_ones_that_the_replies_were_recorded_for(demo_files):
    assert hashlib.sha256(demo_files[0].read_bytes()).hexdigest() == SALES_SHA256


def test_the_sales_export_is_as_messy_as_exports_are(demo_files, orders):
    begin = demo_files[0].read_text(encoding="utf-8").splitlines()[:2]

    assert begin == [PREAMBLE, HEADER]
    assert len(orders) == ORDERS == 50_000
    assert all(order["customer_id"].startswith("0") and order["product_id"].startswith("0") for order in orders)
    assert all("," in order["unit_price"] and "," in order["revenue"] for order in orders)
    assert any("." in order["revenue"] for order in orders)


def test_a_revenue_is_its_quantity_times_its_price(orders):
    def number(text):
        return Decimal(text.replace(".", "").replace(",", "."))

    assert all(number(o["revenue"]) == int(o["quantity"]) * number(o["unit_price"]) for o in orders)


def test_every_revenue_is_exact_in_binary_so_that_sums_do_not_depend_on_their_order(orders):
    cents = Counter(order["revenue"][-3:] for order in orders)

    assert set(cents) == {",00", ",25", ",50", ",75"}


def test_the_workbook_knows_every_customer_and_product_once_and_as_text(orders, workbook):
    customers = [row[0] for row in workbook["Customers"][1:]]
    products = [row[0] for row in workbook["Products"][1:]]

    assert len(set(customers)) == len(customers)
    assert len(set(products)) == len(products)
    assert {order["customer_id"] for order in orders} <= set(customers)
    assert {order["product_id"] for order in orders} <= set(products)
    assert all(isinstance(value, str) for rows in workbook.values() for row in rows for value in row)
