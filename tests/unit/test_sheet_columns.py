"""Columns are matched by what their headers mean, and none is used twice."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.delivery.sheet.columns import Headings, match_columns


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Name", "Name"),
        ("NAME", "name"),
        ("  first   name ", "First Name"),
        ("first_name", "First name"),
        ("firstName", "first name"),
        ("First-Name:", "first name"),
        ("Größe", "GRÖSSE"),
        ("Prénom", "prenom"),
        ("ｆｕｌｌ", "full"),
        ("E-Mail", "email"),
        ("e-mail address", "Email"),
        ("Tel.", "Phone number"),
        ("Qty", "quantity"),
        ("Order #", "order no"),
        ("orderNr", "Order Number"),
        ("Share %", "share pct"),
        ("Date of Birth", "DOB"),
        ("ZIP code", "postcode"),
        ("名前", "名前"),
        ("***", "***"),
    ],
)
def test_the_same_meaning_is_found(header, name):
    assert match_columns(["other", header], [name]) == [1]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Name", "Surname"),
        ("Amount", "Amount 2"),
        ("***", "---"),
        ("", " "),
        ("Date", "Day"),
        ("2025", "2026"),
        ("a", "b"),
    ],
)
def test_another_meaning_is_not_found(header, name):
    assert match_columns([header], [name]) == [None]


def test_the_closest_spelling_wins_whatever_the_order():
    assert match_columns(["e-mail", "Email", "email"], ["email", "Email", "E-Mail"]) == [2, 1, 0]


def test_no_header_is_used_twice():
    assert match_columns(["Name"], ["name", "NAME", "Name"]) == [None, None, 0]


def test_the_first_of_two_equal_headers_comes_first():
    assert match_columns(["x", "Total", "Total"], ["total", "Total"]) == [2, 1]


def test_blank_headers_are_nobodys():
    assert match_columns(["", " ", "\t"], ["", "a"]) == [None, None]


@given(st.lists(st.text(max_size=8), max_size=8), st.lists(st.text(max_size=8), max_size=8))
def test_any_texts_are_matched_one_to_one(header, names):
    found = match_columns(header, names)

    used = [place for place in found if place is not None]
    assert len(found) == len(names)
    assert len(used) == len(set(used))
    assert all(header[place].strip() for place in used)


@given(st.lists(st.text(min_size=1, max_size=8).filter(str.strip), max_size=8, unique=True), st.randoms())
def test_the_same_names_in_any_order_are_all_found(header, random):
    names = random.sample(header, len(header))

    assert [header[place] for place in match_columns(header, names)] == names


def test_two_thousand_columns_are_looked_for_in_twenty_rows_without_holding_others_up():
    names = [f"our column {number}" for number in range(2_000)]
    rows = [[f"{row} theirs {number}" for number in range(2_000)] for row in range(20)]
    began = time.process_time()
    headings = Headings(names)
    found = [headings.places_in(row) for row in [*rows, names]]
    took = time.process_time() - began

    assert found == [[None] * 2_000] * 20 + [list(range(2_000))]
    # Some 0.1 s; 6 s where each name is compared with each header.
    assert took < 1
