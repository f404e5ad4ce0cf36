"""Locks of ``multiprocessing`` that are locks between threads."""

import threading

import pytest

from consumers.sandbox.guest.one_process import ThreadSemaphore

RECURSIVE, COUNTING = 0, 1


def semaphore(kind: int = COUNTING, value: int = 1) -> ThreadSemaphore:
    return ThreadSemaphore(kind, value, value, "/unused", True)


def elsewhere(work) -> list:
    """What a call in another thread returns, or the class of what it raises."""
    found: list = []

    def call() -> None:
        try:
            found.append(work())
        except AssertionError as error:
            found.append(type(error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(10)
    return found


def test_a_lock_that_is_held_is_had_by_no_other_thread_until_it_is_released():
    lock = semaphore()
    lock.acquire()
    refused = elsewhere(lambda: lock.acquire(block=False)) + elsewhere(lambda: lock.acquire(timeout=0.01))
    lock.release()

    assert refused == [False, False]
    assert elsewhere(lambda: lock.acquire(timeout=10)) == [True]


def test_a_recursive_lock_is_had_again_by_its_own_thread_and_released_as_often():
    lock = semaphore(RECURSIVE)
    lock.acquire()
    lock.acquire()
    lock.release()
    held = elsewhere(lambda: lock.acquire(block=False))
    stolen = elsewhere(lock.release)
    lock.release()

    assert (held, stolen) == ([False], [AssertionError])
    assert elsewhere(lambda: lock.acquire(block=False)) == [True]


def test_a_semaphore_counts_and_is_not_released_more_often_than_it_was_had():
    counted = semaphore(value=2)

    assert [counted.acquire(block=False) for _ in range(3)] == [True, True, False]
    assert (counted._get_value(), counted._is_zero()) == (0, True)
    counted.release()
    counted.release()
    with pytest.raises(ValueError, match="too many times"):
        counted.release()
