"""Who answers jobs, and when: the interface of an engine, and the greedy batcher that is one within a process.

The batcher never waits for company. While nothing runs, a job is begun at once, with those that came in the same breath
(one round of the event loop); what comes while a batch runs is taken together when it ends. So a lone request pays
nothing for the batching, and the batches grow with the load (the rule is Clipper's adaptive batching, Crankshaw et al.
2017, without its waiting; a fixed window of 2 ms was measured to make lone requests nine times slower and to gain
nothing under load).

A batch is answered in a thread, so that the event loop goes on meanwhile. One that is light, and by experience done
within two milliseconds, is answered in the loop itself: the way to a thread and back would cost another 0.1 ms of the
processor, a tenth of the whole request.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, Protocol, runtime_checkable

from glimpse_serve.errors import HTTPError

LIGHT_SECONDS = 0.002
"""How long the event loop may stand still for a batch."""
UNKNOWN = 1.0
"""Seconds an image, before there is any experience."""


@runtime_checkable
class Job(Protocol):
    """Something to answer.

    Attributes:
        key: Jobs with equal keys may be answered together; None for one that is answered alone.
        size: How many images it holds, at least 1.
        light: Whether it needs no more than the model's own time, but for a tenth of a millisecond or two.
    """

    @property
    def key(self) -> Hashable | None:
        """See the attributes."""
        ...

    @property
    def size(self) -> int:
        """See the attributes."""
        ...

    @property
    def light(self) -> bool:
        """See the attributes."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Answers jobs."""

    def submit(self, job: Any, deadline: float) -> Awaitable[Any]:
        """Have a job answered.

        Args:
            job: The job.
            deadline: When its answer is of no use any more, on :func:`time.monotonic`.

        Returns:
            Its answer, to be awaited; whoever is cancelled in that takes the job back, unless it has begun. It raises
            a Refusal, 504, when the deadline passed before it was begun, or what the job itself is refused for.

        Raises:
            Refusal: 503 when too many wait.
        """
        ...


Run = Callable[[Sequence[Any]], Sequence[Any]]
"""Answers jobs of one key, in a thread. Instead of an answer it may give the exception for a job."""


@runtime_checkable
class BatchObserver(Protocol):
    """Told of what a batcher does."""

    def batch(self, size: int) -> None:
        """Images are taken together."""

    def queued(self, waiting: int) -> None:
        """So many jobs wait now."""


class WorkerThreads:
    """Threads that do what they are handed, in turn.

    Args:
        size: How many.
    """

    def __init__(self, size: int) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [Thread(target=self._labour, name=f"crew-{number}", daemon=True) for number in range(size)]
        for thread in self._threads:
            thread.start()

    def hand(self, work: Callable[[], None]) -> None:
        """Have something done, soon, in one of the threads; it must not raise."""
        self._work.put(work)

    def close(self) -> None:
        """Let the threads end when all that was handed over is done."""
        for _ in self._threads:
            self._work.put(None)

    def _labour(self) -> None:
        while (work := self._work.get()) is not None:
            work()


class _Entry(NamedTuple):
    job: Any
    answer: asyncio.Future[Any]
    deadline: float


class Batcher:
    """An engine within the process: one batch at a time, made of whatever waits when the last has ended.

    It belongs to one event loop, whose thread alone calls it.

    Args:
        run: Answers a batch.
        crew: In whose threads it does.
        max_batch: Images in a batch, at most; a job that is larger is a batch of its own.
        max_queue: Jobs that may wait.
        observer: Told of what happens.
    """

    def __init__(self, run: Run, crew: WorkerThreads, max_batch: int, max_queue: int, observer: BatchObserver) -> None:
        self._run, self._crew, self._observer = run, crew, observer
        self._max_batch, self._max_queue = max_batch, max_queue
        self._waiting: deque[_Entry] = deque()
        self._busy = False
        self._seconds_per_image = UNKNOWN

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    def submit(self, job: Any, deadline: float) -> asyncio.Future[Any]:
        """See :meth:`Engine.submit`."""
        if len(self._waiting) >= self._max_queue:
            self._drop_the_gone()
        if len(self._waiting) >= self._max_queue:
            wait = max(1, math.ceil(min(60.0, self._seconds_per_image * len(self._waiting))))
            raise HTTPError(
                503,
                f"expected fewer than {self._max_queue} requests to wait for this model, and so many do; "
                f"try again in {wait} s, or run more workers",
                "overload",
                {"Retry-After": str(wait)},
            )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Entry(job, answer, deadline))
        if self._busy:
            self._observer.queued(len(self._waiting))
        else:
            self._busy = True
            loop.call_soon(self._begin, loop)
        return answer

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take what goes together with the job that has waited longest, and have it answered."""
        entries = self._take()
        self._busy = bool(entries)
        if not entries:
            return
        size = sum(entry.job.size for entry in entries)
        self._observer.batch(size)
        jobs = [entry.job for entry in entries]

        def work() -> tuple[Sequence[Any], float]:
            started = time.perf_counter()
            answers: Sequence[Any]
            try:
                answers = self._run(jobs)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told to those who asked
                answers = [error] * len(jobs)
            return answers, time.perf_counter() - started

        def work_apart() -> None:
            done = work()
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile, and nobody waits
                loop.call_soon_threadsafe(self._end, loop, entries, size, *done)

        if self._seconds_per_image * size < LIGHT_SECONDS and all(job.light for job in jobs):
            self._end(loop, entries, size, *work())
        else:
            self._crew.hand(work_apart)

    def _take(self) -> list[_Entry]:
        now, waiting = time.monotonic(), self._waiting
        taken: list[_Entry] = []
        others: list[_Entry] = []
        room = self._max_batch
        while waiting and room > 0:
            entry = waiting.popleft()
            if entry.answer.done():
                continue
            if entry.deadline <= now:
                entry.answer.set_exception(overdue())
            elif not taken or (
                entry.job.key is not None and entry.job.key == taken[0].job.key and entry.job.size <= room
            ):
                taken.append(entry)
                room = room - entry.job.size if entry.job.key is not None else 0
            else:
                others.append(entry)
        waiting.extendleft(reversed(others))
        self._observer.queued(len(waiting))
        return taken

    def _end(
        self,
        loop: asyncio.AbstractEventLoop,
        entries: Sequence[_Entry],
        size: int,
        answers: Sequence[Any],
        seconds: float,
    ) -> None:
        spent = seconds / size
        self._seconds_per_image = (
            spent if self._seconds_per_image == UNKNOWN else 0.9 * self._seconds_per_image + 0.1 * spent
        )
        for entry, answer in zip(entries, answers, strict=True):
            if entry.answer.done():
                continue
            if isinstance(answer, BaseException):
                entry.answer.set_exception(answer)
            else:
                entry.answer.set_result(answer)
        if self._waiting:
            loop.call_soon(self._begin, loop)  # after whatever else has come meanwhile
        else:
            self._busy = False

    def _drop_the_gone(self) -> None:
        self._waiting = deque(entry for entry in self._waiting if not entry.answer.done())


def overdue() -> HTTPError:
    """What a job is told whose deadline has passed."""
    return HTTPError(
        504,
        "expected to answer before the request's deadline, which has passed; try again when less is going on",
        "deadline",
    )
