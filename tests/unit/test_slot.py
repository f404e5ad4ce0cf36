"""A slot: what is counted of it, what is taken out of it, and that it goes."""

import os

import pytest

from consumers.sandbox.slot import Slot


@pytest.fixture
def slot(tmp_path):
    return Slot(tmp_path / "slot")


def test_bytes_and_entries_are_counted_in_every_folder(slot):
    (slot.output / "a").write_bytes(b"x" * 100_000)
    (slot.tmp / "deep" / "er").mkdir(parents=True)
    (slot.tmp / "deep" / "er" / "b").write_bytes(b"x" * 100_000)

    size, entries = slot.used(at_most=10)

    assert 200_000 <= size <= 260_000
    assert entries == 4


def test_a_hole_in_a_file_counts_like_what_is_written(slot):
    with (slot.output / "sparse").open("wb") as file:
        file.truncate(10**10)

    assert slot.used(at_most=10)[0] == 10**10


def test_counting_ends_soon_after_the_limit(slot):
    for number in range(500):
        (slot.output / str(number)).touch()

    assert slot.used(at_most=499)[1] == 500
    assert slot.used(at_most=50)[1] == 51


def test_a_folder_too_deep_to_look_into_counts_as_too_many(slot):
    descriptor = os.open(slot.tmp, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("n" * 200, dir_fd=descriptor)
        below = os.open("n" * 200, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)

    assert slot.used(at_most=1_000)[1] == 1_001


async def test_whatever_became_of_it_it_goes(slot, tmp_path):
    folder = slot.tmp
    for _ in range(1_200):
        folder = folder / "n"
        folder.mkdir()
    (slot.output / "link").symlink_to("/etc/passwd")

    await slot.remove()

    assert list(tmp_path.iterdir()) == []


async def test_inputs_are_the_host_s_own_files_and_stay_when_the_slot_goes(slot, tmp_path):
    (tmp_path / "mine").write_text("kept")

    await slot.bring_in({"theirs": tmp_path / "mine"})
    seen = (slot.inputs / "theirs").read_text()
    await slot.remove()

    assert seen == (tmp_path / "mine").read_text() == "kept"


def test_regular_files_come_out_and_nothing_else(slot, tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    (slot.output / "result.parquet").write_text("result")
    (slot.output / "result.parquet").chmod(0)
    (slot.output / "link").symlink_to("/etc/passwd")
    (slot.output / "one").write_text("x")
    os.link(slot.output / "one", slot.output / "two")
    os.mkfifo(slot.output / "fifo")
    (slot.output / "folder").mkdir()
    (slot.output / ".hidden").touch()

    slot.take_out(output)

    assert [path.name for path in output.iterdir()] == ["result.parquet"]
    assert (output / "result.parquet").read_text() == "result"
