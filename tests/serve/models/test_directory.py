import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glimpse_serve.models.directory import ModelDirectory, list_files
from glimpse_serve.models.registry import Registry
from tests.serve.models.test_registry import EchoExecutor, Events, Tries
from tests.support import toys


@pytest.fixture
def toy(tmp_path) -> Path:
    return toys.write_toy(tmp_path / "toy.onnx", toys.ADAPTIVE)


@pytest.fixture
def other(tmp_path) -> Path:
    return toys.write_toy(tmp_path / "other.onnx", replace(toys.ADAPTIVE, data="other"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "models"
    made.mkdir()
    return made


Scene = Callable[[ModelDirectory, Registry], Awaitable[None]]


def play(directory: Path, scene: Scene, reported: Events | None = None) -> None:
    """Scan the directory once, as at the start, and run a scenario."""

    async def main() -> None:
        models = Registry(EchoExecutor, reported or Events())
        watch = ModelDirectory(directory, models)
        await watch.scan(complete=True)
        await scene(watch, models)

    asyncio.run(main())


def put(file: Path, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(".draft")
    shutil.copy(file, draft)
    os.utime(draft)
    draft.replace(place)
    return place


def test_both_layouts_are_understood_and_all_else_is_passed_over(toy, directory):
    for place in (
        "owl.onnx",
        "cat/1/model.onnx",
        "cat/12/model.onnx",
        ".hidden.onnx",
        "cat/0/model.onnx",
        "cat/x/model.onnx",
    ):
        put(toy, directory / place)
    (directory / "cat/config.pbtxt").write_text("name: 'cat'")
    (directory / "notes.txt").write_text("hello")
    (directory / "cat/3").mkdir()
    assert [(found.name, found.version) for found in list_files(directory)] == [("cat", 1), ("cat", 12), ("owl", 1)]


def test_what_lies_there_at_the_start_is_served(toy, directory):
    put(toy, directory / "owl.onnx")
    put(toy, directory / "cat/2/model.onnx")

    async def scene(watch: ModelDirectory, models: Registry) -> None:
        assert sorted(models.names) == ["cat", "owl"]
        assert models.find("cat").model.version == 2

    play(directory, scene)


def test_a_new_version_takes_over_when_it_rests(toy, other, directory):
    put(toy, directory / "owl/1/model.onnx")

    async def scene(watch: ModelDirectory, models: Registry) -> None:
        put(other, directory / "owl/2/model.onnx")
        await watch.scan()
        assert models.find("owl").model.version == 1
        await watch.scan()
        assert models.find("owl").model.version == 2
        assert models.versions("owl") == [1, 2]

    play(directory, scene)


def test_a_file_that_is_replaced_in_place_is_loaded_anew(toy, other, directory):
    put(toy, directory / "owl.onnx")

    async def scene(watch: ModelDirectory, models: Registry) -> None:
        put(other, directory / "owl.onnx")
        for _ in range(2):
            await watch.scan()
        assert models.find("owl").model.card.data == "other"

    play(directory, scene)


def test_a_bad_file_is_rejected_once_and_the_old_model_stays(toy, other, directory):
    put(toy, directory / "owl.onnx")
    reported = Events()

    async def scene(watch: ModelDirectory, models: Registry) -> None:
        (directory / "owl.onnx").write_bytes(b"half a model")
        for _ in range(5):
            await watch.scan()
        assert models.find("owl").model.card.data == "made up"
        assert reported.events.count(("refused", "owl")) == 1
        put(other, directory / "owl.onnx")
        for _ in range(2):
            await watch.scan()
        assert models.find("owl").model.card.data == "other"
        assert models.rejected == {}

    play(directory, scene, reported)


def test_a_file_that_grows_is_left_until_it_is_whole(toy, other, directory):
    put(toy, directory / "owl.onnx")
    reported = Events()

    async def scene(watch: ModelDirectory, models: Registry) -> None:
        content = other.read_bytes()
        with (directory / "owl.onnx").open("wb", buffering=0) as stream:
            for start in range(0, len(content), len(content) // 5):
                stream.write(content[start : start + len(content) // 5])
                await watch.scan()
        for _ in range(2):
            await watch.scan()
        assert models.find("owl").model.card.data == "other"
        assert ("refused", "owl") not in reported.events

    play(directory, scene, reported)


def test_what_is_missing_for_a_moment_is_not_taken_out(toy, other, directory):
    file = put(toy, directory / "owl.onnx")

    async def scene(watch: ModelDirectory, models: Registry) -> None:
        file.unlink()
        await watch.scan()
        assert models.names == ["owl"]
        put(other, file)
        for _ in range(2):
            await watch.scan()
        assert models.find("owl").model.card.data == "other"

    play(directory, scene)


def test_what_is_gone_is_taken_out_and_can_come_back(toy, directory):
    file = put(toy, directory / "owl/3/model.onnx")
    put(toy, directory / "cat.onnx")

    async def scene(watch: ModelDirectory, models: Registry) -> None:
        shutil.rmtree(directory / "owl")
        for _ in range(2):
            await watch.scan()
        assert models.names == ["cat"]
        put(toy, file)
        for _ in range(2):
            await watch.scan()
        assert sorted(models.names) == ["cat", "owl"]

    play(directory, scene)


def test_models_from_elsewhere_are_not_touched(toy, directory):
    async def main() -> None:
        models = Registry(EchoExecutor, Events())
        await models.load("given", 1, toy)
        watch = ModelDirectory(directory, models)
        for _ in range(3):
            await watch.scan()
        assert models.names == ["given"]

    asyncio.run(main())


def test_a_name_that_is_served_from_elsewhere_is_not_taken_over_nor_out(toy, other, directory):
    async def main() -> None:
        models = Registry(EchoExecutor, Events())
        await models.load("owl", 1, toy)
        watch = ModelDirectory(directory, models)
        file = put(other, directory / "owl.onnx")
        await watch.scan(complete=True)
        assert "once, and it is served from 'a file that was named'" in models.rejected[str(file)]
        file.unlink()
        for _ in range(3):
            await watch.scan()
        assert models.find("owl").model.card.data == "made up"
        assert models.rejected == {}

    asyncio.run(main())


def test_of_two_files_of_one_name_the_other_follows_when_the_first_is_gone(toy, other, directory):
    first = put(toy, directory / "owl/1/model.onnx")
    second = put(other, directory / "owl.onnx")

    async def scene(watch: ModelDirectory, models: Registry) -> None:
        assert len(models.rejected) == 1
        served, waiting = (first, second) if models.find("owl").model.card.data == "made up" else (second, first)
        assert str(waiting) in models.rejected
        served.unlink()
        for _ in range(4):
            await watch.scan()
        assert models.find("owl").model.session.path == waiting
        assert models.rejected == {}

    play(directory, scene)


def test_a_missing_directory_leaves_the_models_and_is_logged_once(toy, directory, caplog):
    put(toy, directory / "owl.onnx")

    async def scene(watch: ModelDirectory, models: Registry) -> None:
        directory.rename(directory.with_name("elsewhere"))
        for _ in range(3):
            await watch.scan()
        assert models.names == ["owl"]
        assert caplog.text.count("can't read the model directory") == 1
        directory.with_name("elsewhere").rename(directory)
        for _ in range(3):
            await watch.scan()
        assert models.names == ["owl"]

    play(directory, scene)


def test_it_scans_periodically(toy, directory):
    async def scene(watch: ModelDirectory, models: Registry) -> None:
        task = asyncio.create_task(watch.run(0.01))
        put(toy, directory / "owl.onnx")
        while not models.names:
            await asyncio.sleep(0.01)
        task.cancel()

    play(directory, scene)


def tried(directory: Path, tries: Tries) -> tuple[ModelDirectory, Registry, Events]:
    events = Events()
    models = Registry(EchoExecutor, events, trial=tries)
    return ModelDirectory(directory, models), models, events


def stuck(*names: str) -> Tries:
    """Trials that do not end for these files, until they are told to."""
    tries = Tries()
    tries.waits |= {name: asyncio.Event() for name in names}
    return tries


async def scan_until(watch: ModelDirectory, reached: Callable[[], bool]) -> None:
    while not reached():
        await watch.begin_scan()
        await asyncio.sleep(0.02)


def test_a_file_that_takes_long_does_not_hold_up_the_others(toy, other, directory):
    async def main() -> None:
        tries = stuck("bad")
        watch, models, _ = tried(directory, tries)
        put(toy, directory / "bad.onnx")
        put(toy, directory / "owl.onnx")
        await watch.begin_scan(complete=True)
        await scan_until(watch, lambda: models.names == ["owl"])
        await watch.settle(0.01)
        put(toy, directory / "cat.onnx")
        put(other, directory / "owl.onnx")
        await scan_until(watch, lambda: sorted(models.names) == ["cat", "owl"])
        await scan_until(watch, lambda: models.find("owl").model.card.data == "other")
        (directory / "cat.onnx").unlink()
        await scan_until(watch, lambda: models.names == ["owl"])
        assert [path.stem for path in tries.tried].count("bad") == 1
        tries.waits["bad"].set()
        await scan_until(watch, lambda: sorted(models.names) == ["bad", "owl"])

    asyncio.run(main())


def test_the_directory_has_not_settled_before_something_is_served_or_all_is_tried(toy, directory):
    async def main() -> None:
        tries = stuck("cat", "owl")
        watch, models, _ = tried(directory, tries)
        for name in ("cat", "owl"):
            put(toy, directory / f"{name}.onnx")
        await watch.begin_scan(complete=True)
        settling = asyncio.create_task(watch.settle(0.01))
        await asyncio.sleep(0.1)
        assert not settling.done()
        tries.waits["owl"].set()
        await settling
        assert models.names == ["owl"]
        watch.close()

    asyncio.run(main())


def test_a_trial_ends_when_its_file_changes_or_is_gone(toy, other, directory):
    async def main() -> None:
        tries = stuck("bad", "gone")
        watch, models, events = tried(directory, tries)
        put(toy, directory / "bad.onnx")
        gone = put(toy, directory / "gone.onnx")
        await watch.begin_scan(complete=True)
        gone.unlink()
        del tries.waits["bad"]
        put(other, directory / "bad.onnx")
        await scan_until(watch, lambda: models.names == ["bad"])
        assert models.find("bad").model.card.data == "other"
        assert models.names == ["bad"]
        assert not [event for event in events.events if event[0] == "refused"]
        await scan_until(watch, lambda: not watch._loads)

    asyncio.run(main())


def test_of_two_files_of_one_name_the_other_follows_when_the_trial_of_the_first_fails(toy, directory):
    (directory / "owl/1").mkdir(parents=True)
    (directory / "owl/1/model.onnx").write_bytes(b"bad")
    put(toy, directory / "owl.onnx")

    async def scene(watch: ModelDirectory, models: Registry) -> None:
        assert models.names == ["owl"]
        assert list(models.rejected) == [str(directory / "owl/1/model.onnx")]

    play(directory, scene)


def test_ending_the_watch_ends_the_trials(toy, directory):
    async def main() -> None:
        tries = stuck("bad")
        watch, models, _ = tried(directory, tries)
        put(toy, directory / "bad.onnx")
        task = asyncio.create_task(watch.run(0.01))
        while not tries.tried:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        await watch.settle(10)
        assert models.names == []

    asyncio.run(main())


def test_an_unexpected_error_concerns_its_file_alone(toy, directory, monkeypatch, caplog):
    load = Registry.load

    async def failing(self: Registry, name: str, version: int, path: Path) -> Any:
        if name == "bad":
            raise OSError("the disk is gone")
        return await load(self, name, version, path)

    monkeypatch.setattr(Registry, "load", failing)
    put(toy, directory / "bad.onnx")
    put(toy, directory / "owl.onnx")

    async def scene(watch: ModelDirectory, models: Registry) -> None:
        assert models.names == ["owl"]
        await watch.scan()
        assert caplog.text.count("loading the model bad failed") == 1

    play(directory, scene)


def test_an_unreadable_folder_does_not_affect_the_others(toy, directory, monkeypatch):
    put(toy, directory / "owl.onnx")
    (directory / "lost+found").mkdir()
    listing = Path.iterdir

    def guarded(path: Path) -> Iterator[Path]:
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return iter(listing(path))

    monkeypatch.setattr(Path, "iterdir", guarded)
    assert [found.name for found in list_files(directory)] == ["owl"]
