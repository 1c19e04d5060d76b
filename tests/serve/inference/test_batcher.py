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
    """Answers with the jobs' names; the first batch waits until it is let go."""

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
def crew():
    made = WorkerThreads(1)
    yield made
    made.close()


def batcher(
    model: Model, crew: WorkerThreads, counts: Counts | None = None, max_batch: int = 4, max_queue: int = 100
) -> Batcher:
    return Batcher(model, crew, max_batch, max_queue, counts or Counts())


def soon() -> float:
    return time.monotonic() + 10.0


async def begun(model: Model) -> None:
    while not model.begun.is_set():
        await asyncio.sleep(0.001)


def test_a_lone_job_is_begun_at_once(crew):
    model, counts = Model(), Counts()

    async def main() -> None:
        assert await batcher(model, crew, counts).submit(Job("a"), soon()) == "A"

    asyncio.run(main())
    assert model.batches == [["a"]]
    assert counts.batches == [1]


def test_what_waits_is_taken_together_when_the_model_is_free(crew):
    model = Model(held=True)

    async def main() -> list[Any]:
        engine = batcher(model, crew)
        first = engine.submit(Job("a"), soon())
        await begun(model)
        rest = [engine.submit(Job(name), soon()) for name in "bcdefg"]
        assert engine.waiting == 6
        model.go.set()
        return await asyncio.gather(first, *rest)

    assert asyncio.run(main()) == list("ABCDEFG")
    assert model.batches == [["a"], list("bcde"), list("fg")]


def test_only_equals_are_taken_together_and_nobody_is_overtaken_for_long(crew):
    model = Model(held=True)

    async def main() -> None:
        engine = batcher(model, crew)
        jobs = [Job("a"), Job("x", "other"), Job("b"), Job("y", "other"), Job("n", None), Job("m", None), Job("c")]
        answers = [engine.submit(Job("first"), soon())]
        await begun(model)
        answers += [engine.submit(job, soon()) for job in jobs]
        model.go.set()
        await asyncio.gather(*answers)

    asyncio.run(main())
    assert model.batches == [["first"], ["a", "b", "c"], ["x", "y"], ["n"], ["m"]]


def test_a_job_of_several_images_counts_as_many_and_a_larger_one_goes_alone(crew):
    model, counts = Model(held=True), Counts()

    async def main() -> None:
        engine = batcher(model, crew, counts)
        answers = [engine.submit(Job("first"), soon())]
        await begun(model)
        answers += [
            engine.submit(Job(name, size=size), soon()) for name, size in (("a", 2), ("b", 3), ("c", 2), ("d", 9))
        ]
        model.go.set()
        await asyncio.gather(*answers)

    asyncio.run(main())
    assert model.batches == [["first"], ["a", "c"], ["b"], ["d"]]
    assert counts.batches == [1, 4, 3, 9]


def test_one_too_many_is_refused_at_once_and_told_when_to_come_again(crew):
    model = Model(held=True)

    async def main() -> None:
        engine = batcher(model, crew, max_queue=2)
        answers = [engine.submit(Job("a"), soon())]
        await begun(model)
        answers += [engine.submit(Job("b"), soon()), engine.submit(Job("c"), soon())]
        with pytest.raises(HTTPError, match="fewer than 2 requests") as refused:
            engine.submit(Job("d"), soon())
        assert refused.value.status == 503
        assert int(refused.value.headers["Retry-After"]) >= 1
        model.go.set()
        assert await asyncio.gather(*answers) == ["A", "B", "C"]
        assert await engine.submit(Job("e"), soon()) == "E"

    asyncio.run(main())


def test_who_left_makes_room(crew):
    model = Model(held=True)

    async def main() -> None:
        engine = batcher(model, crew, max_queue=2)
        first = engine.submit(Job("a"), soon())
        await begun(model)
        gone = [engine.submit(Job("b"), soon()), engine.submit(Job("c"), soon())]
        for answer in gone:
            answer.cancel()
        last = engine.submit(Job("d"), soon())
        model.go.set()
        assert [await first, await last] == ["A", "D"]

    asyncio.run(main())
    assert model.batches == [["a"], ["d"]]


def test_a_job_whose_deadline_passed_is_not_begun(crew):
    model = Model(held=True)

    async def main() -> None:
        engine = batcher(model, crew)
        first = engine.submit(Job("a"), soon())
        await begun(model)
        late = engine.submit(Job("b"), time.monotonic() - 1)
        good = engine.submit(Job("c"), soon())
        model.go.set()
        with pytest.raises(HTTPError, match="deadline") as refused:
            await late
        assert refused.value.status == 504
        assert [await first, await good] == ["A", "C"]

    asyncio.run(main())
    assert model.batches == [["a"], ["c"]]


def test_one_that_fails_spoils_nothing_for_the_others(crew):
    model = Model(held=True)

    async def main() -> list[Any]:
        engine = batcher(model, crew)
        answers = [engine.submit(Job("a"), soon())]
        await begun(model)
        answers += [engine.submit(Job(name), soon()) for name in ("b", "bad", "c")]
        model.go.set()
        return await asyncio.gather(*answers, return_exceptions=True)

    first, b, bad, c = asyncio.run(main())
    assert [first, b, c] == ["A", "B", "C"]
    assert isinstance(bad, ValueError)


def test_a_model_that_breaks_is_told_to_all_of_the_batch_and_the_next_goes_on(crew):
    def breaking(jobs: Sequence[Any]) -> list[Any]:
        if jobs[0].name == "a":
            raise RuntimeError("broken")
        return [job.name for job in jobs]

    async def main() -> None:
        engine = Batcher(breaking, crew, 4, 4, Counts())
        with pytest.raises(RuntimeError, match="broken"):
            await engine.submit(Job("a"), soon())
        assert await engine.submit(Job("b"), soon()) == "b"

    asyncio.run(main())


def test_a_thousand_jobs_from_many_tasks_are_each_answered_once(crew):
    model, counts = Model(), Counts()

    async def main() -> list[Any]:
        engine = batcher(model, crew, counts, max_batch=16, max_queue=1000)
        return await asyncio.gather(*[engine.submit(Job(f"job {number}"), soon()) for number in range(1000)])

    assert asyncio.run(main()) == [f"JOB {number}" for number in range(1000)]
    assert sorted(name for batch in model.batches for name in batch) == sorted(
        f"job {number}" for number in range(1000)
    )
    assert sum(counts.batches) == 1000
    assert max(counts.batches) == 16
    assert counts.waiting[-1] == 0


def test_light_work_that_is_known_to_be_soon_done_is_done_in_the_loop_and_other_work_is_not(crew):
    threads: list[int] = []

    def model(jobs: Sequence[Any]) -> list[Any]:
        threads.append(threading.get_ident())
        if jobs[0].name == "slow":
            time.sleep(0.1)
        return [job.name for job in jobs]

    async def main() -> int:
        engine = Batcher(model, crew, 4, 100, Counts())
        for name, light in (("first", True), ("second", True), ("heavy", False), ("slow", True), ("after", True)):
            assert await engine.submit(Job(name, light=light), soon()) == name
        return threading.get_ident()

    loop = asyncio.run(main())
    assert [thread == loop for thread in threads] == [False, True, False, True, False]


def test_what_comes_in_one_breath_is_taken_together(crew):
    model = Model()

    async def main() -> None:
        engine = batcher(model, crew)
        await asyncio.gather(*[engine.submit(Job(name), soon()) for name in "abc"])

    asyncio.run(main())
    assert model.batches == [["a", "b", "c"]]
