"""Marks: derived from the job alone, short, and removed when their job is forgotten."""

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
        {"metadataId": number, "metadataKey": key, "metadataValue": value}
        for number, (key, value) in enumerate(records, start=1)
    ]
    sheets = [{"properties": {"sheetId": tab, "title": title, "hidden": hidden}} for tab, title, hidden in tabs]
    return Book.model_validate({"developerMetadata": metadata, "sheets": sheets})


def record(ago=0, **facts):
    return marks.new_record("rows", **facts).model_copy(update={"on": datetime.now(UTC).date() - timedelta(ago)}).value


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
    assert len(told.value) < 110


def test_a_record_is_the_jobs_by_key_and_id():
    key, number = marks.key_of(JOB), marks.mark_id(JOB)
    (found,) = book([(key, record())]).developer_metadata

    assert marks.record_of([found.model_copy(update={"metadata_id": number})], JOB) is not None
    assert marks.record_of([found], JOB) is None
    assert marks.record_of([found.model_copy(update={"metadata_id": number})], OTHER) is None


def test_a_record_that_nobody_can_read_is_none():
    (found,) = book([(marks.key_of(JOB), "nonsense")]).developer_metadata

    assert marks.record_of([found.model_copy(update={"metadata_id": marks.mark_id(JOB)})], JOB) is None


def test_marks_of_forgotten_jobs_are_outdated_and_no_others():
    here = [
        (marks.PREFIX + "today", record()),
        (marks.PREFIX + "two days", record(2)),
        (marks.PREFIX + "three days", record(3)),
        (marks.PREFIX + "broken", "nonsense"),
        ("somebody.else", "nonsense"),
        ("", ""),
    ]

    assert sorted(marks.outdated_keys(book(here))) == [marks.PREFIX + "broken", marks.PREFIX + "three days"]


def test_the_oldest_marks_make_room_for_new_ones():
    here = [(f"{marks.PREFIX}{number:04}", record(1 if number < 10 else 0)) for number in range(160)]
    outdated = marks.outdated_keys(book(here))

    assert len(here) - len(outdated) == marks.MAX_MARKS - 1
    assert {f"{marks.PREFIX}{number:04}" for number in range(10)} <= set(outdated)


def test_long_marks_make_room_sooner():
    here = [(f"{marks.PREFIX}{number:04}", record(places="0,2," * 500)) for number in range(20)]
    left = len(here) - len(marks.outdated_keys(book(here)))

    assert 0 < left * len(here[0][1]) < marks.MAX_MARK_CHARS


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
