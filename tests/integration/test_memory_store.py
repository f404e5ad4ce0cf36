"""The object store that tests keep in memory, held to what S3's keeps to: the same tests, another store."""

import pytest
import test_object_store_contract as contract
from memory_store import MemoryStore


@pytest.fixture
def store():
    return MemoryStore()


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


async def test_an_upload_that_fails_leaves_nothing(store):
    async def chunks():
        yield b"part"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.upload("a/k", chunks(), media_type="text/plain")

    assert [upload async for upload in store.uploads("")] == []
    assert [found async for found in store.list("")] == []


async def test_uploads_that_were_begun_are_listed_and_aborted_once(store):
    begun = store.begin("a/k")
    store.begin("b/k")
    listed = [upload async for upload in store.uploads("a/")]

    assert listed == [begun]
    assert await store.abort_uploads("a/") == 1
    assert not await store.abort_upload(begun)
