"""Daemon threads for calls that block: the process ends without waiting for the last of them."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class DaemonThreads(Generic[T]):
    """At most ``number`` threads, started when they are needed.

    Python joins the threads of a ``ThreadPoolExecutor`` before it exits, for as long as a server is silent.
    """

    def __init__(self, number: int, *, name: str) -> None:
        self._number = number
        self._name = name
        self._started = 0
        self._calls: SimpleQueue[tuple[Future[T], Callable[[], T]] | None] = SimpleQueue()

    async def run(self, call: Callable[[], T]) -> T:
        """The call's value, or what it raises. Cancelled, a call that has begun goes on unheard."""
        future: Future[T] = Future()
        self._calls.put((future, call))
        if self._started < self._number:
            self._started += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Begin no other call; the threads end when they are done with theirs."""
        while True:
            try:
                waiting = self._calls.get_nowait()
            except Empty:
                break
            if waiting is not None:
                waiting[0].cancel()
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (waiting := self._calls.get()) is not None:
            future, call = waiting
            if not future.set_running_or_notify_cancel():
                continue
            try:
                value = call()
            except BaseException as error:  # noqa: BLE001
                future.set_exception(error)
            else:
                future.set_result(value)
