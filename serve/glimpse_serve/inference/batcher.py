"""The greedy batcher, and the protocols of jobs and of executors that run them.

The batcher never waits for a batch to fill. While nothing runs, a job starts at once, together with the jobs that were
submitted in the same iteration of the event loop. Jobs that are submitted while a batch runs form the next batch when
it ends. So a single request pays nothing for the batching, and batches grow with the load. The rule is Clipper's
adaptive batching (Crankshaw et al. 2017) without its waiting time: a fixed window of 2 ms was measured to make single
requests nine times slower and to gain nothing under load.

A batch runs in a worker thread, so that the event loop is not blocked. A batch that is light, and by the measured time
an image will take less than two milliseconds, runs in the event loop itself: a thread would cost another 0.1 ms of
processor time, a tenth of the whole request.
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
"""How long a batch may block the event loop."""
UNKNOWN_SECONDS = 1.0
"""Assumed seconds an image before the first measurement."""


@runtime_checkable
class Job(Protocol):
    """Work for a model.

    Attributes:
        key: Jobs with equal keys may run in one batch; None for a job that runs alone.
        size: Number of images, at least 1.
        light: Whether it takes little more than the model's own time: one or two tenths of a millisecond.
    """

    @property
    def key(self) -> Hashable | None:
        """Jobs with equal keys may run in one batch; None for a job that runs alone."""
        ...

    @property
    def size(self) -> int:
        """Number of images, at least 1."""
        ...

    @property
    def light(self) -> bool:
        """Whether it takes little more than the model's own time."""
        ...


@runtime_checkable
class JobExecutor(Protocol):
    """Runs jobs on a model."""

    def submit(self, job: Any, deadline: float) -> Awaitable[Any]:
        """Run a job.

        Args:
            job: The job.
            deadline: Time after which the result is not needed any more, by :func:`time.monotonic`.

        Returns:
            An awaitable of the result. Cancelling it withdraws the job unless it has started. It raises an HTTPError:
            504 when the deadline passed before the job started, or the error of the job itself.

        Raises:
            HTTPError: 503 when too many wait.
        """
        ...


RunBatch = Callable[[Sequence[Any]], Sequence[Any]]
"""Runs jobs of one key as a batch, in a thread. A job's result may be an exception, which that job raises."""


@runtime_checkable
class BatchObserver(Protocol):
    """Receives the events of a batcher."""

    def batch(self, size: int) -> None:
        """A batch of so many images starts."""

    def queued(self, waiting: int) -> None:
        """The number of waiting jobs changed."""


class WorkerThreads:
    """A pool of daemon threads with a queue of functions.

    Args:
        size: Number of threads.
    """

    def __init__(self, size: int) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = [Thread(target=self._run, name=f"worker-{number}", daemon=True) for number in range(size)]
        for thread in self._threads:
            thread.start()

    def submit(self, work: Callable[[], None]) -> None:
        """Queue a function for one of the threads; it must not raise."""
        self._work.put(work)

    def close(self) -> None:
        """Stop the threads after all queued functions have run."""
        for _ in self._threads:
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # what it holds is let go before the next comes


class _QueuedJob(NamedTuple):
    job: Any
    future: asyncio.Future[Any]
    deadline: float


class Batcher:
    """An executor within the process: one batch at a time, made of the jobs that wait when the last batch has ended.

    It belongs to one event loop and must be called from its thread only.

    Args:
        run: Runs a batch.
        workers: The threads in which it runs.
        max_batch: Images in a batch, at most; a larger job is a batch of its own.
        max_queue: Jobs that may wait.
        observer: Receives the events.
    """

    def __init__(
        self, run: RunBatch, workers: WorkerThreads, max_batch: int, max_queue: int, observer: BatchObserver
    ) -> None:
        self._run, self._workers, self._observer = run, workers, observer
        self._max_batch, self._max_queue = max_batch, max_queue
        self._waiting: deque[_QueuedJob] = deque()
        self._busy = False
        self._seconds_per_image = UNKNOWN_SECONDS

    @property
    def waiting(self) -> int:
        """Number of waiting jobs."""
        return len(self._waiting)

    def submit(self, job: Any, deadline: float) -> asyncio.Future[Any]:
        """Queue a job; see :meth:`JobExecutor.submit`."""
        if len(self._waiting) >= self._max_queue:
            self._drop_cancelled()
        if len(self._waiting) >= self._max_queue:
            wait = max(1, math.ceil(min(60.0, self._seconds_per_image * len(self._waiting))))
            raise HTTPError(
                503,
                f"expected fewer than {self._max_queue} waiting requests for this model, got one more; "
                f"try again in {wait} s, or run more workers",
                "overload",
                {"Retry-After": str(wait)},
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_QueuedJob(job, future, deadline))
        if self._busy:
            self._observer.queued(len(self._waiting))
        else:
            self._busy = True
            loop.call_soon(self._start_batch, loop)
        return future

    def _start_batch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a batch of the job that has waited longest and of the jobs with its key."""
        queued_jobs = self._next_batch()
        self._busy = bool(queued_jobs)
        if not queued_jobs:
            return
        size = sum(queued_job.job.size for queued_job in queued_jobs)
        self._observer.batch(size)
        jobs = [queued_job.job for queued_job in queued_jobs]

        def work() -> tuple[Sequence[Any], float]:
            started = time.perf_counter()
            results: Sequence[Any]
            try:
                results = self._run(jobs)
            except Exception as error:  # noqa: BLE001 - any exception is passed to the requests of this batch
                results = [error] * len(jobs)
            return results, time.perf_counter() - started

        def work_in_thread() -> None:
            outcome = work()
            with contextlib.suppress(RuntimeError):  # the event loop was closed meanwhile
                loop.call_soon_threadsafe(self._finish_batch, loop, queued_jobs, size, *outcome)

        if self._seconds_per_image * size < LIGHT_SECONDS and all(job.light for job in jobs):
            self._finish_batch(loop, queued_jobs, size, *work())
        else:
            self._workers.submit(work_in_thread)

    def _next_batch(self) -> list[_QueuedJob]:
        now, waiting = time.monotonic(), self._waiting
        batch: list[_QueuedJob] = []
        others: list[_QueuedJob] = []
        room = self._max_batch
        while waiting and room > 0:
            queued_job = waiting.popleft()
            if queued_job.future.done():
                continue
            if queued_job.deadline <= now:
                queued_job.future.set_exception(deadline_error())
            elif not batch or (
                queued_job.job.key is not None
                and queued_job.job.key == batch[0].job.key
                and queued_job.job.size <= room
            ):
                batch.append(queued_job)
                room = room - queued_job.job.size if queued_job.job.key is not None else 0
            else:
                others.append(queued_job)
        waiting.extendleft(reversed(others))
        self._observer.queued(len(waiting))
        return batch

    def _finish_batch(
        self,
        loop: asyncio.AbstractEventLoop,
        queued_jobs: Sequence[_QueuedJob],
        size: int,
        results: Sequence[Any],
        seconds: float,
    ) -> None:
        seconds_per_image = seconds / size
        self._seconds_per_image = (
            seconds_per_image
            if self._seconds_per_image == UNKNOWN_SECONDS
            else 0.9 * self._seconds_per_image + 0.1 * seconds_per_image
        )
        for queued_job, future in zip(queued_jobs, results, strict=True):
            if queued_job.future.done():
                continue
            if isinstance(future, BaseException):
                queued_job.future.set_exception(future)
            else:
                queued_job.future.set_result(future)
        if self._waiting:
            loop.call_soon(self._start_batch, loop)  # after the callbacks that are due now
        else:
            self._busy = False

    def _drop_cancelled(self) -> None:
        self._waiting = deque(queued_job for queued_job in self._waiting if not queued_job.future.done())


def deadline_error() -> HTTPError:
    """The error of a job whose deadline has passed."""
    return HTTPError(
        504,
        "expected a result before the request's deadline, which has passed; try again when the load is lower",
        "deadline",
    )
