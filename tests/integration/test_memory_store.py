"""The object store that tests keep in memory, held to what S3's keeps to: the same tests, another store."""

import pytest
import test_object_store_contract as contract
from memory_store import MemoryStore


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def begin(store):
    async def begin(key):
        return store.begin(key).upload_id

    return begin


@pytest.fixture
def begun(store):
    async def begun():
        return sorted([upload.key async for upload in store.uploads("")])

    return begun


test_what_was_put_can_be_read = contract.test_what_was_put_can_be_read
test_a_body_that_is_too_long_is_cut = contract.test_a_body_that_is_too_long_is_cut_one_byte_later
test_only_the_first_of_two_new_objects_is_written = contract.test_only_the_first_of_two_new_objects_is_written
test_even_the_same_body_is_new_only_once = contract.test_even_the_same_body_is_new_only_once
test_of_many_at_once_exactly_one_wins = contract.test_of_many_at_once_exactly_one_wins
test_the_expected_version_is_replaced = contract.test_the_expected_version_is_replaced
test_another_version_is_not_replaced = contract.test_another_version_is_not_replaced
test_an_object_that_is_gone_is_not_replaced = contract.test_an_object_that_is_gone_is_not_replaced
test_a_listing_tells_every_object_under_the_prefix = contract.test_a_listing_tells_every_object_under_the_prefix
test_deleting_takes_what_is_there = contract.test_deleting_takes_what_is_there_and_minds_nothing_else
test_a_listing_may_be_left_early = contract.test_a_listing_may_be_left_early
test_a_missing_object_is_missing = contract.test_a_missing_object_is_missing
test_an_object_is_streamed_with_its_facts = contract.test_an_object_is_streamed_with_its_facts
test_an_upload_tells_its_size = contract.test_an_upload_tells_its_size
test_an_upload_that_fails_leaves_nothing = contract.test_an_upload_that_fails_leaves_nothing
test_uploads_under_the_prefix_are_aborted = contract.test_uploads_under_the_prefix_are_aborted_and_no_others
test_aborting_uploads_where_there_are_none = contract.test_aborting_uploads_where_there_are_none_finds_none
test_uploads_are_aborted_only_once = contract.test_uploads_are_aborted_only_once
test_aborting_uploads_leaves_objects_alone = contract.test_aborting_uploads_leaves_objects_alone
test_open_uploads_are_listed = contract.test_open_uploads_are_listed_with_when_their_latest_part_came
test_one_upload_is_aborted_once = contract.test_one_upload_is_aborted_once
