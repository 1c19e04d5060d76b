import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from glimpse_serve.errors import HTTPError
from glimpse_serve.inference.batcher import Batcher, WorkerThreads


class Job(NamedTuple):
    name: str
    key: str | None = "same"
    size: int = 1
    light: bool = False


class Counts:
    def __init__(self) -> None:
        self.batches: list[int] = []
        self.waiting: list[int] = []

    def batch(self, size: int) -> None:
        self.batches.append(size)

    def queued(self, waiting: int) -> None:
        self.waiting.append(waiting)


class Model:
    """Returns the jobs' names; the first batch waits until it is released."""

    def __init__(self, held: bool = False) -> None:
        self.go = threading.Event()
        self.begun = threading.Event()
        if not held:
            self.go.set()
        self.batches: list[list[str]] = []

    def __call__(self, jobs: Sequence[Any]) -> list[Any]:
        self.batches.append([job.name for job in jobs])
        self.begun.set()
        assert self.go.wait(10)
        return [ValueError(job.name) if job.name.startswith("bad") else job.name.upper() for job in jobs]


@pytest.fixture
def workers():
    made = WorkerThreads(1)
    yield made
    made.close()


def make_batcher(
    model: Model, workers: WorkerThreads, counts: Counts | None = None, max_batch: int = 4, max_queue: int = 100
) -> Batcher:
    return Batcher(model, workers, max_batch, max_queue, counts or Counts())


def soon() -> float:
    return time.monotonic() + 10.0


async def begun(model: Model) -> None:
    while not model.begun.is_set():
        await asyncio.sleep(0.001)


def test_a_lone_job_is_begun_at_once(workers):
    model, counts = Model(), Counts()

    async def main() -> None:
        assert await make_batcher(model, workers, counts).submit(Job("a"), soon()) == "A"

    asyncio.run(main())
    assert model.batches == [["a"]]
    assert counts.batches == [1]


def test_what_waits_is_taken_together_when_the_model_is_free(workers):
    model = Model(held=True)

    async def main() -> list[Any]:
        batcher = make_batcher(model, workers)
        first = batcher.submit(Job("a"), soon())
        await begun(model)
        rest = [batcher.submit(Job(name), soon()) for name in "bcdefg"]
        assert batcher.waiting == 6
        model.go.set()
        return await asyncio.gather(first, *rest)

    assert asyncio.run(main()) == list("ABCDEFG")
    assert model.batches == [["a"], list("bcde"), list("fg")]


def test_only_jobs_with_equal_keys_share_a_batch_and_none_is_overtaken_for_long(workers):
    model = Model(held=True)

    async def main() -> None:
        batcher = make_batcher(model, workers)
        jobs = [Job("a"), Job("x", "other"), Job("b"), Job("y", "other"), Job("n", None), Job("m", None), Job("c")]
        results = [batcher.submit(Job("first"), soon())]
        await begun(model)
        results += [batcher.submit(job, soon()) for job in jobs]
        model.go.set()
        await asyncio.gather(*results)

    asyncio.run(main())
    assert model.batches == [["first"], ["a", "b", "c"], ["x", "y"], ["n"], ["m"]]


def test_a_job_of_several_images_counts_as_many_and_a_larger_one_goes_alone(workers):
    model, counts = Model(held=True), Counts()

    async def main() -> None:
        batcher = make_batcher(model, workers, counts)
        results = [batcher.submit(Job("first"), soon())]
        await begun(model)
        results += [
            batcher.submit(Job(name, size=size), soon()) for name, size in (("a", 2), ("b", 3), ("c", 2), ("d", 9))
        ]
        model.go.set()
        await asyncio.gather(*results)

    asyncio.run(main())
    assert model.batches == [["first"], ["a", "c"], ["b"], ["d"]]
    assert counts.batches == [1, 4, 3, 9]


def test_one_job_too_many_is_rejected_at_once_with_retry_after(workers):
    model = Model(held=True)

    async def main() -> None:
        batcher = make_batcher(model, workers, max_queue=2)
        results = [batcher.submit(Job("a"), soon())]
        await begun(model)
        results += [batcher.submit(Job("b"), soon()), batcher.submit(Job("c"), soon())]
        with pytest.raises(HTTPError, match="fewer than 2 waiting requests") as error:
            batcher.submit(Job("d"), soon())
        assert error.value.status == 503
        assert int(error.value.headers["Retry-After"]) >= 1
        model.go.set()
        assert await asyncio.gather(*results) == ["A", "B", "C"]
        assert await batcher.submit(Job("e"), soon()) == "E"

    asyncio.run(main())


def test_a_cancelled_job_makes_room(workers):
    model = Model(held=True)

    async def main() -> None:
        batcher = make_batcher(model, workers, max_queue=2)
        first = batcher.submit(Job("a"), soon())
        await begun(model)
        gone = [batcher.submit(Job("b"), soon()), batcher.submit(Job("c"), soon())]
        for result in gone:
            result.cancel()
        last = batcher.submit(Job("d"), soon())
        model.go.set()
        assert [await first, await last] == ["A", "D"]

    asyncio.run(main())
    assert model.batches == [["a"], ["d"]]


def test_a_job_whose_deadline_passed_is_not_begun(workers):
    model = Model(held=True)

    async def main() -> None:
        batcher = make_batcher(model, workers)
        first = batcher.submit(Job("a"), soon())
        await begun(model)
        late = batcher.submit(Job("b"), time.monotonic() - 1)
        good = batcher.submit(Job("c"), soon())
        model.go.set()
        with pytest.raises(HTTPError, match="deadline") as error:
            await late
        assert error.value.status == 504
        assert [await first, await good] == ["A", "C"]

    asyncio.run(main())
    assert model.batches == [["a"], ["c"]]


def test_one_that_fails_spoils_nothing_for_the_others(workers):
    model = Model(held=True)

    async def main() -> list[Any]:
        batcher = make_batcher(model, workers)
        results = [batcher.submit(Job("a"), soon())]
        await begun(model)
        results += [batcher.submit(Job(name), soon()) for name in ("b", "bad", "c")]
        model.go.set()
        return await asyncio.gather(*results, return_exceptions=True)

    first, b, bad, c = asyncio.run(main())
    assert [first, b, c] == ["A", "B", "C"]
    assert isinstance(bad, ValueError)


def test_an_exception_of_the_model_reaches_the_whole_batch_and_the_next_one_runs(workers):
    def breaking(jobs: Sequence[Any]) -> list[Any]:
        if jobs[0].name == "a":
            raise RuntimeError("broken")
        return [job.name for job in jobs]

    async def main() -> None:
        batcher = Batcher(breaking, workers, 4, 4, Counts())
        with pytest.raises(RuntimeError, match="broken"):
            await batcher.submit(Job("a"), soon())
        assert await batcher.submit(Job("b"), soon()) == "b"

    asyncio.run(main())


def test_a_thousand_jobs_from_many_tasks_each_get_their_result_once(workers):
    model, counts = Model(), Counts()

    async def main() -> list[Any]:
        batcher = make_batcher(model, workers, counts, max_batch=16, max_queue=1000)
        return await asyncio.gather(*[batcher.submit(Job(f"job {number}"), soon()) for number in range(1000)])

    assert asyncio.run(main()) == [f"JOB {number}" for number in range(1000)]
    assert sorted(name for batch in model.batches for name in batch) == sorted(
        f"job {number}" for number in range(1000)
    )
    assert sum(counts.batches) == 1000
    assert max(counts.batches) == 16
    assert counts.waiting[-1] == 0


def test_light_work_that_is_known_to_be_soon_done_is_done_in_the_loop_and_other_work_is_not(workers):
    threads: list[int] = []

    def model(jobs: Sequence[Any]) -> list[Any]:
        threads.append(threading.get_ident())
        if jobs[0].name == "slow":
            time.sleep(0.1)
        return [job.name for job in jobs]

    async def main() -> int:
        batcher = Batcher(model, workers, 4, 100, Counts())
        for name, light in (("first", True), ("second", True), ("heavy", False), ("slow", True), ("after", True)):
            assert await batcher.submit(Job(name, light=light), soon()) == name
        return threading.get_ident()

    loop = asyncio.run(main())
    assert [thread == loop for thread in threads] == [False, True, False, True, False]


def test_what_comes_in_one_breath_is_taken_together(workers):
    model = Model()

    async def main() -> None:
        batcher = make_batcher(model, workers)
        await asyncio.gather(*[batcher.submit(Job(name), soon()) for name in "abc"])

    asyncio.run(main())
    assert model.batches == [["a", "b", "c"]]
