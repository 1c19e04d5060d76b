import asyncio
import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimpse.runtime.session import GlimpseSession
from glimpse_serve.errors import HTTPError
from glimpse_serve.models import registry as registry_module
from glimpse_serve.models.bundled import SOFT
from glimpse_serve.models.loading import open_model
from glimpse_serve.models.names import ModelError
from glimpse_serve.models.registry import Registry
from glimpse_serve.models.trial import Trial
from tests.support import toys


class Events:
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def loaded(self, name: str, version: int, sha256: str) -> None:
        self.events.append(("loaded", name, version, sha256))

    def unloaded(self, name: str, version: int) -> None:
        self.events.append(("unloaded", name, version))

    def load_rejected(self, name: str) -> None:
        self.events.append(("refused", name))


class EchoExecutor:
    """An executor that returns its model."""

    def __init__(self, model: Any) -> None:
        self.model = model

    async def submit(self, job: Any, deadline: float) -> Any:
        return self.model


def registry(events: Events | None = None) -> Registry:
    return Registry(EchoExecutor, events or Events())


@pytest.fixture
def file(tmp_path) -> Path:
    return toys.write_toy(tmp_path / "toy.onnx", toys.ADAPTIVE)


def load(models: Registry, *wanted: tuple[str, int, Path]) -> None:
    async def main() -> None:
        for each in wanted:
            await models.load(*each)

    asyncio.run(main())


def test_a_model_is_found_by_name_and_version_the_greatest_unless_said(file):
    models = registry()
    load(models, ("owl", 2, file), ("owl", 10, file), ("cat", 1, file))
    assert models.find("owl").model.version == 10
    assert models.find("owl", "2").model.version == 2
    assert models.find().model.name == "owl"
    assert models.names == ["owl", "cat"]
    assert models.versions("owl") == [2, 10]
    assert [(entry.model.name, entry.model.version) for entry in models] == [("owl", 2), ("owl", 10), ("cat", 1)]


@pytest.mark.parametrize("version", ["3", "0", "-1", "two", "²", "9" * 30, " 1", "1.0", ""])
def test_a_version_that_is_not_there_is_named_with_those_that_are(file, version):
    models = registry()
    load(models, ("owl", 1, file))
    with pytest.raises(HTTPError, match=r"a version of the model 'owl' out of 1, got") as rejected:
        models.find("owl", version)
    assert rejected.value.status == 404


def test_the_error_of_an_unknown_name_lists_the_known_ones(file):
    models = registry()
    load(models, ("owl", 1, file))
    with pytest.raises(HTTPError, match=r"a model out of 'owl', got 'dog'; choose") as rejected:
        models.find("dog")
    assert rejected.value.status == 404


def test_without_any_model_the_client_is_to_try_again():
    with pytest.raises(HTTPError, match="none is yet") as rejected:
        registry().find()
    assert rejected.value.status == 503
    assert rejected.value.headers["Retry-After"] == "1"


def test_a_new_file_takes_over_and_requests_with_the_old_one_continue(file, tmp_path):
    events = Events()
    models = registry(events)
    load(models, ("owl", 1, file))
    old = models.find("owl")
    other = toys.write_toy(tmp_path / "other.onnx", replace(toys.ADAPTIVE, data="other"))
    load(models, ("owl", 1, other))
    assert models.find("owl").model.card.data == "other"
    assert old.model.card.data == "made up"
    canvas = np.zeros((1, 20, 30, 1), np.uint8)
    assert old.model.session.run(canvas).probabilities.shape == (1, 5, 3)
    assert [event[:3] for event in events.events] == [("loaded", "owl", 1), ("loaded", "owl", 1)]
    assert events.events[0][3] != events.events[1][3]


def spoilt(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "can't load the model"),
        (b"PK\x03\x04rest", "checkpoint or pickled code"),
        (b"\x80\x05pickle", "checkpoint or pickled code"),
        (b"nonsense" * 100, "can't load the model"),
        (None, "changed"),
    ],
)
def test_a_bad_file_is_rejected_and_the_old_model_stays(file, tmp_path, content, message):
    events = Events()
    models = registry(events)
    load(models, ("owl", 1, file))
    before = models.find("owl")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(spoilt(file.read_bytes()) if content is None else content)
    with pytest.raises(ModelError, match=message if content is not None else "."):
        load(models, ("owl", 1, bad))
    assert models.find("owl") is before
    assert events.events[-1] == ("refused", "owl")
    assert str(bad) in models.rejected
    bad.write_bytes(file.read_bytes())
    load(models, ("owl", 2, bad))
    assert models.rejected == {}


def test_a_file_without_a_card_is_never_served(tmp_path):
    import onnx

    plain = tmp_path / "plain.onnx"
    model = onnx.load(str(toys.write_toy(tmp_path / "toy.onnx", toys.EPISODE)))
    del model.metadata_props[:]
    onnx.save(model, str(plain))
    with pytest.raises(ModelError, match="no model card"):
        load(registry(), ("owl", 1, plain))


def test_a_model_without_valid_probabilities_is_rejected(file, monkeypatch):
    real = GlimpseSession.run

    def nonsense(self: GlimpseSession, *args: Any, **options: Any) -> Any:
        found = real(self, *args, **options)
        return found._replace(probabilities=found.probabilities * 2)

    monkeypatch.setattr(GlimpseSession, "run", nonsense)
    with pytest.raises(ModelError, match="sum to one"):
        load(registry(), ("owl", 1, file))


class Tries(Trial):
    """A trial that says what it was told to, when it was told to."""

    def __init__(self, sha256: str = "") -> None:
        super().__init__(1.0, 1024)
        self.sha256, self.tried = sha256, list[Path]()
        self.waits: dict[str, asyncio.Event] = {}

    async def run(self, path: Path) -> str:
        self.tried.append(path)
        if path.stem in self.waits:
            await self.waits[path.stem].wait()
        return self.sha256 or open_model(path).sha256


def tried(tries: Tries, events: Events | None = None) -> Registry:
    return Registry(EchoExecutor, events or Events(), trial=tries)


def test_a_file_is_tried_before_it_is_loaded_and_bundled_ones_are_not(file):
    tries = Tries()
    load(tried(tries), ("owl", 1, file), ("digits", 1, SOFT.path))
    assert tries.tried == [file]


def test_a_file_that_was_replaced_after_its_trial_is_not_loaded(file):
    with pytest.raises(ModelError, match="it was replaced"):
        load(tried(Tries("0" * 64)), ("owl", 1, file))


def test_models_are_listed_in_the_order_in_which_their_loading_began(file, tmp_path):
    slow = toys.write_toy(tmp_path / "slow.onnx", toys.EPISODE)

    async def main() -> None:
        tries = Tries()
        tries.waits["slow"] = asyncio.Event()
        models = tried(tries)
        first = asyncio.create_task(models.load("slow", 1, slow))
        await asyncio.sleep(0)
        await models.load("owl", 1, file)
        assert models.names == ["owl"]
        assert models.find().model.name == "owl"
        with pytest.raises(HTTPError, match="a model out of 'owl', got 'slow'"):
            models.find("slow")
        tries.waits["slow"].set()
        await first
        assert models.names == ["slow", "owl"]
        assert models.find().model.name == "slow"

    asyncio.run(main())


def test_a_load_that_is_cancelled_or_fails_leaves_no_name_behind(file, tmp_path):
    async def main() -> None:
        tries = Tries()
        tries.waits["toy"] = asyncio.Event()
        models = tried(tries)
        task = asyncio.create_task(models.load("owl", 1, file))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        bad = tmp_path / "bad.onnx"
        bad.write_bytes(b"bad")
        with pytest.raises(ModelError):
            await models.load("cat", 1, bad)
        assert models.names == []
        with pytest.raises(HTTPError, match="none is yet"):
            models.find()

    asyncio.run(main())


def test_a_reason_is_printable_whatever_the_file_is_called(caplog):
    path = Path(os.fsdecode(b"models/stra\xdfe\x1b[2J.onnx"))
    models = registry()
    with pytest.raises(ModelError):
        load(models, (path.stem, 1, path))
    reason = models.rejected[str(path)]
    assert reason.isprintable()
    assert r"stra\udcdfe\x1b[2J" in reason
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize("name", ["", "a/b", "../up", "a b", ".hidden", "x" * 65, "ö"])
def test_a_name_that_can_not_be_part_of_a_url_is_rejected(file, name):
    with pytest.raises(ModelError, match="name of letters"):
        load(registry(), (name, 1, file))


def test_an_unloaded_model_is_gone_and_reported(file):
    events = Events()
    models = registry(events)
    load(models, ("owl", 1, file), ("owl", 2, file))
    models.unload("owl", 2)
    assert models.find("owl").model.version == 1
    models.unload("owl", 1)
    models.unload("owl", 1)
    assert models.names == []
    assert events.events[2:] == [("unloaded", "owl", 2), ("unloaded", "owl", 1)]


def test_when_it_was_loaded_is_known(file):
    models = registry()
    before = time.time()
    load(models, ("owl", 1, file))
    assert before <= models.find().loaded_at <= time.time()


def test_memory_is_given_back_after_a_model_was_replaced(file, monkeypatch):
    given: list[bool] = []
    monkeypatch.setattr(registry_module, "TRIM_SECONDS", 0.01)
    real = registry_module.trim_memory
    monkeypatch.setattr(registry_module, "trim_memory", lambda: given.append(real()))

    async def main() -> None:
        models = registry()
        await models.load("owl", 1, file)
        await models.load("owl", 2, file)
        await asyncio.sleep(0.1)
        assert given == []
        await models.load("owl", 2, file)
        while not given:
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert given == [platform.libc_ver()[0] == "glibc"]
