"""How columns of text are typed: what every value allows, and text where that leaves a doubt."""

from datetime import date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.preprocessing.guest.columns import convert, decide
from consumers.preprocessing.guest.readings import dates
from consumers.preprocessing.guest.votes import ColumnFacts

# Times on a busy machine say nothing about the code.
calmly = settings(deadline=None, max_examples=50)


def typed(*columns, delimiter=None, cells=frozenset()):
    """The decision and the typed values of the first column; the others stand beside it."""
    facts = [ColumnFacts(f"c{i}") for i in range(len(columns))]
    arrays = [pa.array([value or None for value in column], pa.string()) for column in columns]
    for one, array in zip(facts, arrays, strict=True):
        one.cells |= cells
        one.add(array)
    decision = decide(facts, delimiter=delimiter)[0]
    return decision, convert(arrays[0], decision).to_pylist()


def words(decision):
    return " ".join(str(note) for note in decision.notes)


# Thousands separator and decimal sign, as CLDR gives them for en, de, fr, de-CH, sv (with a plain space) and none.
LOCALES = {
    "en": (",", "."),
    "de": (".", ","),
    "fr": ("\u202f", ","),
    "fr with a no-break space": ("\u00a0", ","),
    "de-CH": ("’", "."),
    "de-CH with a plain apostrophe": ("'", "."),
    "sv": (" ", ","),
    "plain point": ("", "."),
    "plain comma": ("", ","),
}
UNITS = {
    "none": "{}",
    "percent": "{} %",
    "euro after": "{} €",
    "dollar before": "${}",
    "code before": "CHF {}",
    "code after": "{}USD",
}
NEGATIVES = {
    "minus": "-{}",
    "typographic minus": "−{}",
    "parentheses": "({})",
    "trailing minus": "{}-",
}

AMOUNTS = st.lists(st.decimals(-(10**9), 10**9, places=2), min_size=1, max_size=6)


def written(number, locale, unit, negative):
    group, point = LOCALES[locale]
    digits = f"{abs(number):,.2f}".replace(",", "\0").replace(".", point).replace("\0", group)
    text = UNITS[unit].format(digits)
    return NEGATIVES[negative].format(text) if number < 0 else text


@pytest.mark.parametrize("locale", LOCALES)
@calmly
@given(amounts=AMOUNTS, unit=st.sampled_from(sorted(UNITS)), negative=st.sampled_from(sorted(NEGATIVES)))
def test_amounts_come_back_equal_however_they_are_written(locale, amounts, unit, negative):
    decision, values = typed([written(amount, locale, unit, negative) for amount in amounts])

    assert decision.type == "decimal"
    assert values == [float(amount) for amount in amounts]
    assert decision.unit == UNITS[unit].replace("{}", "").strip() or unit == "none"


@calmly
@given(st.lists(st.integers(-(10**15) + 1, 10**15 - 1), min_size=1), st.sampled_from(["", ",", "'", " "]))
def test_whole_numbers_come_back_equal_with_and_without_groups(numbers, group):
    # One number that says that a comma makes no decimals.
    decision, values = typed([f"{n:,}".replace(",", group) for n in (*numbers, 1_234_567)])

    assert decision.type == "integer"
    assert values == [*numbers, 1_234_567]


@calmly
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_as_programs_write_them_come_back_equal(floats):
    decision, values = typed([repr(number) for number in floats], cells={"number"})

    assert decision.type in ("decimal", "integer")
    assert values == floats


DAYS = st.lists(st.dates(date(1000, 1, 1)), max_size=6)


@pytest.mark.parametrize(
    ("pattern", "order"),
    [("%Y-%m-%d", "ymd"), ("%Y/%m/%d", "ymd"), ("%d.%m.%Y", "dmy"), ("%d/%m/%Y", "dmy"), ("%m/%d/%Y", "mdy")],
)
@calmly
@given(days=DAYS)
def test_dates_come_back_equal_when_one_day_is_above_twelve(pattern, order, days):
    days = [*days, date(2024, 12, 31)]
    decision, values = typed([day.strftime(pattern) for day in days])

    assert (decision.type, decision.order) == ("date", order)
    assert values == days


@calmly
@given(st.lists(st.datetimes(datetime.fromisoformat("1000-01-01")), min_size=1))
def test_iso_moments_come_back_equal_to_the_microsecond(moments):
    decision, values = typed([moment.isoformat(timespec="microseconds") for moment in moments])

    assert decision.type == "datetime"
    assert values == moments


@calmly
@given(st.lists(st.text(st.sampled_from("0123456789.,-/() €%eE:TZax'"), max_size=12), max_size=8))
def test_no_value_is_ever_lost(texts):
    texts = [text.strip() for text in texts]
    decision, values = typed(texts, delimiter=",")

    assert [value is None for value in values] == [not text for text in texts]
    if decision.type == "text":
        assert values == [text or None for text in texts]


@calmly
@given(st.lists(st.text(st.sampled_from("0123456789.,-/"), min_size=1, max_size=10), min_size=2, max_size=6))
def test_batches_do_not_change_the_decision(texts):
    whole, parts = ColumnFacts("c"), ColumnFacts("c")
    whole.add(pa.array(texts))
    for text in texts:
        parts.add(pa.array([text]))

    assert decide([whole], delimiter=None)[0].type == decide([parts], delimiter=None)[0].type


AS_TEXT = {
    "leading zeros": (["007", "12"], "leading zeros"),
    "sixteen digits": (["1234567890123456", "1"], "more than 15 digits"),
    "two units": (["5 €", "5 $"], "different units"),
    "a unit here and there": (["5 €", "6"], "different units (none, €)"),
    "day and month alike": (["03/04/2024", "05/06/2024"], "day and month cannot be told apart"),
    "one separator, two meanings": (["1.234", "5.678"], "decimals or thousands"),
    "both styles": (["1.5", "2,5", "3"], "written in two ways"),
    "a day that never was": (["30.02.2024", "01.02.2024"], "only 50.0% of its values are dates (30.02.2024)"),
    "a word among numbers": (["1", "2", "n/a"], "only 66.7% of its values are numbers (n/a)"),
    "yes and no": (["Yes", "no", "yes"], "yes/no"),
    "two signs": (["(-5)", "1", "2"], "66.7%"),
}


@pytest.mark.parametrize(("texts", "why"), AS_TEXT.values(), ids=AS_TEXT.keys())
def test_what_is_in_doubt_stays_text_and_says_why(texts, why):
    decision, values = typed(texts)

    assert decision.type == "text"
    assert values == texts
    assert why.partition("(")[0].strip() in words(decision)
    assert why.partition("(")[2].strip(")") in words(decision)


def test_article_numbers_with_an_e_are_no_numbers():
    assert typed(["12E3", "13E4"])[0].type == "text"


def test_another_column_settles_what_a_separator_means():
    german, _ = typed(["1.234", "5.678"], ["0,5", "7,25"])
    english, values = typed(["1.234", "5.678"], ["0.5", "7.25"])

    assert german.type == "integer"
    assert english.type == "decimal"
    assert values == [1.234, 5.678]


def test_in_comma_delimited_text_the_point_begins_the_decimals():
    assert typed(["1.234", "5.678"], delimiter=",")[1] == [1.234, 5.678]
    assert typed(["1,234", "5,678"], delimiter=",")[1] == [1234, 5678]


def test_moments_with_a_zone_become_utc():
    decision, values = typed(["2024-01-01T12:00:00+02:00", "2024-01-01T12:00:00Z"])

    assert values == [datetime.fromisoformat(moment) for moment in ("2024-01-01T10:00", "2024-01-01T12:00")]
    assert "UTC" in words(decision)


def test_a_mixed_column_of_a_workbook_takes_its_numbers_with_a_point():
    assert typed(["1.234", "x"], cells={"number", "text"})[0].type == "text"
    assert typed(["1.234", "5"], cells={"number", "text"})[1] == [1.234, 5.0]


def test_an_empty_column_says_so():
    decision, values = typed(["", ""])

    assert values == [None, None]
    assert "no values" in words(decision)


def test_nothing_but_a_zero_before_a_separator_is_a_fraction():
    assert typed(["0,123", "0,456"])[1] == [0.123, 0.456]
    assert typed(["0.123", "0.456"])[1] == [0.123, 0.456]


def test_indian_groups_are_groups():
    assert typed(["12,34,567.50", "1,00,000.00"])[1] == [1234567.5, 100000.0]


def test_every_day_of_four_years_is_a_day_and_no_other():
    first = date(1999, 1, 1)
    real = {first + timedelta(days=i) for i in range(365 * 3 + 366)}
    texts = [f"{y}-{m:02d}-{d:02d}" for y in range(1999, 2003) for m in range(13) for d in range(33)]
    found = dates(pa.array(texts), "ymd", zoned=False).drop_null().to_pylist()

    assert set(found) == {day.isoformat() for day in real}


def test_a_decimal_with_two_places_is_exactly_the_double_next_to_it():
    assert typed(["0,10", "1.234.567,89"])[1] == [float(Decimal("0.10")), float(Decimal("1234567.89"))]
