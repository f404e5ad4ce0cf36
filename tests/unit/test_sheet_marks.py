"""Marks: derived from the job alone, short, and removed when their job is forgotten."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.delivery.sheet import marks
from consumers.delivery.sheet.book import Book
from events.keys import JobRef

JOB, OTHER = JobRef("session-0001", "job-0000001"), JobRef("session-0001", "job-0000002")


def day(ago=0):
    return (datetime.now(UTC).date() - timedelta(days=ago)).isoformat()


def book(records=(), tabs=()):
    """A spreadsheet with marks, as (key, value), and with tabs, as (id, title, hidden)."""
    metadata = [
        {"metadataId": number, "metadataKey": key, "metadataValue": value, "visibility": "PROJECT"}
        for number, (key, value) in enumerate(records, start=1)
    ]
    sheets = [{"properties": {"sheetId": tab, "title": title, "hidden": hidden}} for tab, title, hidden in tabs]
    return Book.model_validate({"developerMetadata": metadata, "sheets": sheets})


def record(hours=0, **facts):
    return marks.new_record("rows", **facts).model_copy(update={"at": int(time.time() - hours * 3600)}).value


def test_marks_are_the_jobs_own_and_tell_nothing_of_it():
    ids = {make(job) for make in (marks.mark_id, marks.undo_id) for job in (JOB, OTHER)}

    assert len(ids) == 4
    assert marks.tab_id(JOB, 1) != marks.tab_id(JOB, 2)
    assert all(0 < each < 2**31 for each in [*ids, marks.tab_id(JOB, 1)])
    assert JOB.session_id not in marks.key_of(JOB) + marks.hidden_title(JOB, 1)
    assert len(marks.key_of(JOB)) == 26


def test_a_record_says_what_it_was_told_in_few_characters():
    told = marks.new_record("rows", epoch=3, tab_id=7, rows=10, places="0-4", digest="d" * 16, header=True)
    (found,) = book([(marks.key_of(JOB), told.value)]).developer_metadata
    mine = found.model_copy(update={"metadata_id": marks.mark_id(JOB)})

    assert marks.record_of([mine], JOB) == told
    assert len(told.value) < 115


def test_a_record_is_the_jobs_by_key_and_id():
    key, number = marks.key_of(JOB), marks.mark_id(JOB)
    (found,) = book([(key, record())]).developer_metadata

    assert marks.record_of([found.model_copy(update={"metadata_id": number})], JOB) is not None
    assert marks.record_of([found], JOB) is None
    assert marks.record_of([found.model_copy(update={"metadata_id": number})], OTHER) is None


def test_a_record_that_nobody_can_read_is_none():
    (found,) = book([(marks.key_of(JOB), "nonsense")]).developer_metadata

    assert marks.record_of([found.model_copy(update={"metadata_id": marks.mark_id(JOB)})], JOB) is None


def planted(value, **facts):
    """A mark of the job with this value, as its record."""
    (found,) = book([(marks.key_of(JOB), value)]).developer_metadata
    return found.model_copy(update={"metadata_id": marks.mark_id(JOB), **facts})


@pytest.mark.parametrize(
    "facts",
    [
        {"c": "x"},
        {"c": "0-99999999999"},
        {"c": "5-1"},
        {"c": "18278"},
        {"c": "0-18277,0-18277"},
        {"c": "0,"},
        {"c": "٣"},
        {"n": -1},
        {"n": 10**9},
        {"t": 2**31},
        {"e": -1},
        {"at": -1},
        {"at": 10**30},
    ],
)
def test_a_record_that_cannot_be_ours_is_none(facts):
    fair = {"at": 1, "s": "rows", "c": "0-18277", "n": 1, "t": 0, "e": 1}

    assert marks.record_of([planted(json.dumps(fair))], JOB) is not None
    assert marks.record_of([planted(json.dumps(fair | facts))], JOB) is None


def test_a_record_that_anybody_may_have_written_is_none():
    assert marks.record_of([planted(record())], JOB) is not None
    assert marks.record_of([planted(record(), visibility="DOCUMENT")], JOB) is None


def test_marks_of_forgotten_jobs_are_outdated_and_no_others():
    here = [
        (marks.PREFIX + "now", record()),
        (marks.PREFIX + "almost two days", record(47)),
        (marks.PREFIX + "two days", record(49)),
        (marks.PREFIX + "a wrong clock", record(-49)),
        (marks.PREFIX + "broken", "nonsense"),
        ("somebody.else", "nonsense"),
        ("", ""),
    ]

    outdated = marks.outdated_keys(book(here), room=100)
    assert sorted(outdated) == [marks.PREFIX + name for name in ("a wrong clock", "broken", "two days")]


def test_the_oldest_marks_make_room_for_new_ones():
    here = [(f"{marks.PREFIX}{number:04}", record(47 - number / 10, places="0,2")) for number in range(400)]
    outdated = set(marks.outdated_keys(book(here), room=1_000))

    left = [(key, value) for key, value in here if key not in outdated]
    assert left == here[-len(left) :]
    assert marks.MAX_MARK_CHARS - 1_200 < sum(len(key) + len(value) for key, value in left) <= 19_000


def test_young_marks_stay_whatever_their_order_and_old_ones_go_first():
    here = [(f"{marks.PREFIX}{number:04}", record(7 if number % 2 else 5)) for number in range(500)]
    outdated = set(marks.outdated_keys(book(here), room=100))

    assert outdated
    assert outdated < {key for key, _ in here[1::2]}


def test_where_all_marks_are_young_there_is_no_room():
    here = [(f"{marks.PREFIX}{number:04}", record(5)) for number in range(600)]

    assert marks.outdated_keys(book(here), room=100) is None


def test_hidden_tabs_are_known_by_their_titles():
    tabs = [
        (1, marks.hidden_title(JOB, 1), True),
        (2, marks.hidden_title(JOB, 12), True),
        (3, marks.hidden_title(OTHER, 1), True),
        (4, marks.hidden_title(JOB, 2), False),
        (5, f"dropchute {day(3)} {'0' * 16} 1", True),
        (6, f"dropchute {day(2)} {'0' * 16} 1", True),
        (7, f"dropchute 2026-13-01 {'0' * 16} 1", True),
        (8, "dropchute", True),
        (9, f"dropchute {day(3)} token x", True),
        (10, f"my dropchute {day(3)} token 1", True),
    ]

    assert marks.own_hidden_tabs(book(tabs=tabs), JOB) == [1, 2]
    assert marks.forgotten_tabs(book(tabs=tabs)) == [5]


@pytest.mark.parametrize(
    ("places", "text"), [([], ""), ([4], "4"), ([0, 1, 2], "0-2"), ([2, 1, 0], "2,1,0"), ([0, 1, 5, 6, 3], "0-1,5-6,3")]
)
def test_places_are_spelled_shortly(places, text):
    assert marks.spelled(places) == text


@given(st.lists(st.integers(0, 18_277), unique=True))
def test_places_are_read_back(places):
    assert marks.places_of(marks.spelled(places)) == places
