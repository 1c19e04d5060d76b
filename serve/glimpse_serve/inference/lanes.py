"""A lane: a queue before a few threads, bounded by number and by estimated time, whose entries can be withdrawn.

Work that nobody waits for any more is taken out of the queue at once, with all that it holds. Work of different size
stands in different lanes, so that small work never waits behind large.
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from glimpse_serve.errors import HTTPError
from glimpse_serve.inference.batcher import WorkerThreads

_Result = TypeVar("_Result")


@dataclass(slots=True, eq=False)
class _Entry:
    work: Callable[[int], Any] | None
    future: asyncio.Future[Any]
    seconds: float
    stop: Callable[[int], None] | None
    slot: int | None = None
    timer: asyncio.TimerHandle | None = None


class Lane:
    """Runs functions in threads, in the order of their coming.

    It belongs to one event loop and must be called from its thread only.

    Args:
        what: What waits here, in error messages.
        slots: Number of threads.
        max_entries: Functions that run or wait, at most.
        run_seconds: Longest time of a function from its start.
        max_seconds: Longest time until the end of a function, by the estimates; a function is always taken when there
            is no other.
    """

    def __init__(
        self, what: str, slots: int, max_entries: int, run_seconds: float, max_seconds: float = math.inf
    ) -> None:
        self._what, self._slots = what, slots
        self._max_entries, self._run_seconds, self._max_seconds = max_entries, run_seconds, max_seconds
        self._threads = WorkerThreads(slots)  # daemon threads: what still runs does not delay the exit
        self._free = list(reversed(range(slots)))
        self._waiting: deque[_Entry] = deque()
        self._running = 0
        self._pending = 0.0

    @property
    def entries(self) -> int:
        """Number of functions that run or wait."""
        return len(self._waiting) + self._running

    @property
    def seconds(self) -> float:
        """Estimated time until all of them have ended."""
        return self._pending / self._slots

    async def run(
        self, work: Callable[[int], _Result], seconds: float = 0.0, stop: Callable[[int], None] | None = None
    ) -> _Result:
        """Run a function in a thread. When the caller is cancelled it is withdrawn, or stopped if it can be.

        Args:
            work: The function; it gets the number of its thread, from 0.
            seconds: Estimate of its time.
            stop: Called with the number of the thread when the result of the running function is not needed any more.

        Raises:
            TimeoutError: When it runs too long.
            HTTPError: 503 when too many wait.
        """
        self._admit(seconds)
        entry = _Entry(work, asyncio.get_running_loop().create_future(), seconds, stop)
        del work  # the entry alone holds it, so that it is let go with it
        self._waiting.append(entry)
        self._pending += seconds
        self._start()
        try:
            result: _Result = await entry.future
        except asyncio.CancelledError:
            if entry.slot is None:
                entry.work = None
                self._waiting.remove(entry)
                self._pending -= seconds
            elif stop is not None and entry.future.cancelled():  # else it has ended, and the thread does other work
                stop(entry.slot)
            raise
        finally:
            del entry  # an error holds this frame, and the entry holds the error: a circle, with all that was decoded
        return result

    def close(self) -> None:
        """Withdraw what waits, and stop the threads after what runs."""
        for entry in self._waiting:
            entry.future.cancel()
        self._threads.close()

    def _admit(self, seconds: float) -> None:
        if self.entries < self._max_entries and (not self.entries or self.seconds + seconds <= self._max_seconds):
            return
        wait = max(1, math.ceil(min(60.0, self.seconds / 2)))
        raise HTTPError(
            503,
            f"expected fewer {self._what} to be worked on; try again in {wait} s",
            "overload",
            {"Retry-After": str(wait)},
        )

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        while self._free and self._waiting:
            entry = self._waiting.popleft()
            entry.slot = self._free.pop()
            self._running += 1
            entry.timer = loop.call_later(self._run_seconds, self._expire, entry)
            self._threads.submit(partial(self._work, loop, entry))

    def _expire(self, entry: _Entry) -> None:
        if entry.future.done() or entry.slot is None:
            return
        entry.future.set_exception(TimeoutError())
        if entry.stop is not None:
            entry.stop(entry.slot)

    def _work(self, loop: asyncio.AbstractEventLoop, entry: _Entry) -> None:
        result: Any = None
        error: Exception | None = None
        work, entry.work = entry.work, None
        if work is not None and entry.slot is not None and not entry.future.cancelled():
            try:
                result = work(entry.slot)
            except Exception as raised:  # noqa: BLE001 - any exception is passed to the caller
                error = raised
        del work
        with contextlib.suppress(RuntimeError):  # the event loop was closed meanwhile
            loop.call_soon_threadsafe(self._finish, entry, result, error)
        del entry, error  # the error holds this frame

    def _finish(self, entry: _Entry, result: Any, error: Exception | None) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
        if entry.slot is not None:
            self._free.append(entry.slot)
        self._running -= 1
        self._pending = max(0.0, self._pending - entry.seconds) if self.entries else 0.0
        if not entry.future.done():
            if error is None:
                entry.future.set_result(result)
            else:
                entry.future.set_exception(error)
        self._start()
