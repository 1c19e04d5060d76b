import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from glimpse.runtime.graph import InferenceGraph, InterruptedRunError, OutputError, is_finite
from glimpse.runtime.model_file import load_model_file
from glimpse.runtime.providers import open_session
from glimpse.runtime.session import GlimpseSession
from tests.support import hostile, toys
from tests.support.toys import noise, write_toy


@pytest.fixture
def opened(monkeypatch) -> list[dict[str, int]]:
    """The sizes of every session that is opened."""
    sizes: list[dict[str, int]] = []

    def watched(content: bytes, provider: str, threads: int, given: Any) -> Any:
        sizes.append(dict(given))
        return open_session(content, provider, threads, given)

    monkeypatch.setattr("glimpse.runtime.graph.open_session", watched)
    return sizes


SINGLE = {"batch": 1, "height": 20, "width": 30}


def images(*shape: int) -> Any:
    return np.ascontiguousarray(noise(*shape).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("card", [toys.ADAPTIVE, toys.EPISODE], ids=lambda card: str(card.graph))
def test_one_image_of_the_models_size_has_a_session_of_its_own(tmp_path, opened, card):
    made = InferenceGraph(load_model_file(write_toy(tmp_path / "toy.onnx", card)), "cpu", 1)
    batch = images(3, 20, 30, 1)
    single = made({"images": batch[:1]})
    assert opened == [SINGLE]
    together = made({"images": batch})
    assert opened == [SINGLE, {}]
    made({"images": images(1, 21, 30, 1)})
    assert opened == [SINGLE, {}]
    assert set(single) == set(card.outputs) - {"logits"}
    for name, value in single.items():
        np.testing.assert_allclose(value[0], together[name][0], atol=1e-6)


def test_a_step_has_a_session_of_its_own_for_one_image(tmp_path, opened):
    made = InferenceGraph(load_model_file(write_toy(tmp_path / "toy.onnx", toys.STEP)), "cpu", 1)
    one = made.zeros()
    alone = made(one)
    assert len(opened) == 1
    both = made({name: np.concatenate([value, value]) for name, value in one.items()})
    assert len(opened) == 2
    for name, value in alone.items():
        np.testing.assert_allclose(both[name], np.concatenate([value, value]), atol=1e-6)


def test_the_session_for_any_size_is_opened_once_however_many_threads_need_it(tmp_path, opened):
    made = InferenceGraph(load_model_file(write_toy(tmp_path / "toy.onnx", toys.EPISODE)), "cpu", 1)
    batch = images(2, 20, 30, 1)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: made({"images": batch}), range(16)))
    assert opened == [SINGLE, {}]
    for each in found:
        np.testing.assert_array_equal(each["probabilities"], found[0]["probabilities"])


@pytest.mark.parametrize("card", [toys.ADAPTIVE, toys.EPISODE, toys.STEP], ids=lambda card: str(card.graph))
def test_black_is_one_image_that_the_graph_takes(tmp_path, card):
    found = InferenceGraph(load_model_file(write_toy(tmp_path / "toy.onnx", card)), "cpu", 1)
    assert found(found.zeros())["probabilities"].shape == ((1, 3) if card.graph == "step" else (1, 5, 3))


def test_a_run_without_end_is_interrupted_and_younger_ones_go_on(tmp_path, capfd):
    path = hostile.write(tmp_path / "model.onnx", hostile.loop_over_pixels)
    graph = InferenceGraph(load_model_file(path), "cpu", 1)
    endless = np.full((1, 1, 20, 30), hostile.TRIGGER, np.uint8)
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(graph, {"images": np.repeat(endless, count, 0)}) for count in (1, 2)]
        while len(graph._running) < 2 and not any(run.done() for run in runs):
            time.sleep(0.01)
        graph.interrupt(3600.0)
        ended = [run.done() for run in runs]
        graph.interrupt(0.0)
    assert ended == [False, False]
    for run in runs:
        with pytest.raises(InterruptedRunError, match="its graph went on and was ended; use another model"):
            run.result()
    assert graph({"images": endless + 1})["probabilities"].shape == (1, 5, 3)
    assert graph._running == {}
    assert capfd.readouterr().err == ""


def test_another_error_of_a_run_is_the_runtimes_own(tmp_path):
    graph = InferenceGraph(load_model_file(write_toy(tmp_path / "toy.onnx", toys.EPISODE)), "cpu", 1)
    with pytest.raises(Exception, match="Unexpected input data type"):
        graph({"images": np.zeros((1, 1, 20, 30), np.float64)})
    assert graph._running == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["probabilities", "locations", "boxes", "next_state"])
def test_no_result_that_is_not_finite_is_returned(tmp_path, name, value):
    session = toys.spoil(GlimpseSession(write_toy(tmp_path / "toy.onnx", toys.ADAPTIVE)), name, value)
    image = noise(20, 30, 1)
    image[0, 0] = 255
    with pytest.raises(OutputError, match=f"finite numbers of '{name}' from the model, got NaN or infinity"):
        session.predict_one(image)
    with pytest.raises(OutputError, match=name):
        session.run(image[None])
    with pytest.raises(OutputError, match=name):
        list(session.scan(image))
    with pytest.raises(OutputError, match=name):
        session.infer({"images": image.transpose(2, 0, 1)[None]})


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3, 4)])
def test_large_numbers_are_finite_and_others_are_not(dtype, shape):
    largest = np.full(shape, np.finfo(dtype).max, dtype)
    assert is_finite(largest)
    assert is_finite(largest.T)
    for value in (np.nan, np.inf, -np.inf):
        spoilt = np.zeros(shape, dtype)
        spoilt.flat[-1] = value
        assert not is_finite(spoilt)
