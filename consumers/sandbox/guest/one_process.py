"""Locks of ``multiprocessing`` in a guest: a job is one process, so they are locks between its threads.

The real ones are named files below /dev/shm, which guests do not have; and ``multiprocessing.pool.ThreadPool``, which
starts no process, makes one.
"""

import _multiprocessing  # type: ignore[import-not-found]  # typeshed leaves it out
import threading

_RECURSIVE = 0


class ThreadSemaphore:
    """What ``multiprocessing.synchronize`` needs of ``_multiprocessing.SemLock``, between threads."""

    SEM_VALUE_MAX = 2**31 - 1
    handle = 0
    # Named ones would be told to multiprocessing's tracker, which is a process.
    name = None

    def __init__(self, kind: int, value: int, maxvalue: int, _name: str, _unlink: bool) -> None:
        self.kind = kind
        self.maxvalue = maxvalue
        self._left = value
        self._held = 0
        self._owner: int | None = None
        self._changed = threading.Condition(threading.Lock())

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        with self._changed:
            if self.kind == _RECURSIVE and self._is_mine():
                self._held += 1
                return True
            if not self._changed.wait_for(lambda: self._left > 0, timeout if block else 0):
                return False
            self._left -= 1
            self._held += 1
            self._owner = threading.get_ident()
            return True

    def release(self) -> None:
        with self._changed:
            if self.kind == _RECURSIVE:
                assert self._is_mine(), "attempt to release recursive lock not owned by thread"
            elif self._left >= self.maxvalue:
                raise ValueError("semaphore or lock released too many times")
            self._held -= 1
            if self.kind == _RECURSIVE and self._held:
                return
            self._left += 1
            self._changed.notify()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_error: object) -> None:
        self.release()

    def _count(self) -> int:
        return self._held

    def _is_mine(self) -> bool:
        return self._held > 0 and self._owner == threading.get_ident()

    def _get_value(self) -> int:
        return self._left

    def _is_zero(self) -> bool:
        return self._left == 0

    def _after_fork(self) -> None:
        """Nothing: there is no fork."""


def share_locks_between_threads() -> None:
    """Before ``multiprocessing.synchronize`` is imported or used."""
    _multiprocessing.SemLock = ThreadSemaphore
