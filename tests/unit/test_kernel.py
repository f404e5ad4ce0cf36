"""The kernel calls that a jail is built with, made in children."""

import errno

from in_child import child, returned
from walled_programs import close_descriptors, fork_into_namespaces, move_into_a_root, unshare_nothing_known


def test_a_root_of_its_own_holds_what_was_mounted_there_and_no_more(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("kept")

    # Where the user is root, it takes a capability to map that user (user_namespaces(7), CAP_SETFCAP).
    seen, refused, user = returned(move_into_a_root, str(tmp_path), capabilities=True)

    assert seen == ["/in", "/in/file", "/large"]
    assert refused == [errno.EROFS, errno.ENOSPC]
    assert user == 65534


def test_descriptors_from_one_on_are_closed_and_the_process_is_nobody_s_to_look_into():
    open_ones, owner = returned(close_descriptors)

    assert open_ones == [True, False]
    # What is not dumpable belongs to root in /proc, whoever runs it.
    assert owner == 0


def test_an_error_says_what_was_tried():
    ended = child(unshare_nothing_known)

    assert "unshare: Invalid argument" in ended.stderr


def test_a_child_is_born_as_the_first_of_its_namespace_and_libc_knows_its_thread():
    assert returned(fork_into_namespaces, capabilities=True) == ["1 True", 7, False]
