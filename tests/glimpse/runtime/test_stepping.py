import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glimpse.images import pixels
from glimpse.images.lazy import ArrayImage
from glimpse.runtime import stepping
from glimpse.runtime.inputs import to_view
from glimpse.runtime.limits import Limits
from glimpse.runtime.prediction import Prediction
from glimpse.runtime.session import GlimpseSession
from tests.support import toys
from tests.support.toys import LIMITS, alike, noise


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, GlimpseSession]:
    return toys.sessions(tmp_path_factory.mktemp("toys"))


@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
def test_each_image_stops_when_it_is_confident_and_repeats_its_last_glimpse(kinds, graph):
    canvases = noise(9, 20, 30, 1)
    every, found = kinds[graph].run(canvases), kinds[graph].run(canvases, confidence=0.7)
    assert len(set(found.glimpses.tolist())) > 2, "the toy should stop after several numbers of glimpses"
    assert found.probabilities.shape[1] == found.glimpses.max()
    assert set(found.reasons) == {"confident", "budget"}
    for index, (taken, reason) in enumerate(zip(found.glimpses, found.reasons, strict=True)):
        sure = every.probabilities[index].max(-1) >= 0.7
        assert reason == ("confident" if sure.any() else "budget")
        assert taken == (sure.argmax() + 1 if sure.any() else 5)
        for name in ("probabilities", "locations", "boxes"):
            shown, full = getattr(found, name)[index], getattr(every, name)[index]
            np.testing.assert_allclose(shown[:taken], full[:taken], atol=1e-5)
            np.testing.assert_array_equal(shown[taken:], np.broadcast_to(shown[taken - 1], shown[taken:].shape))


@pytest.mark.parametrize("limit", LIMITS, ids=str)
@pytest.mark.parametrize("size", ["fit", "native"])
@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
def test_a_scan_yields_the_prediction_glimpse_by_glimpse(kinds, graph, size, limit):
    image = noise(26, 61, 1, seed=1)
    one = kinds[graph].predict_one(image, size=size, **limit)
    glances = list(kinds[graph].scan(image, size=size, **limit))
    assert [glance.time for glance in glances] == list(range(one.glimpses))
    assert [glance.reason for glance in glances] == [None] * (one.glimpses - 1) + [one.reasons]
    for glance in glances:
        np.testing.assert_allclose(glance.probabilities, one.probabilities[glance.time], atol=1e-5)
        np.testing.assert_allclose(glance.location, one.locations[glance.time], atol=1e-5)
        np.testing.assert_allclose(glance.boxes, one.boxes[glance.time], atol=1e-4)
        assert glance.label == glance.probabilities.argmax()
        assert glance.confidence == pytest.approx(glance.probabilities.max())
        assert glance.map is None
    seconds = [glance.seconds for glance in glances]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


@pytest.mark.parametrize("image", [noise(26, 61, 1, seed=1), noise(300, 200, 3), noise(3, 5, 1), noise(1, 1, 3)])
@pytest.mark.parametrize("graph", ["adaptive", "step"])
def test_a_native_image_keeps_its_size(kinds, graph, image):
    grey_image = pixels.fit(image, image.shape[0], image.shape[1], 1)
    expected = kinds["episode"].predict_one(grey_image, size="native")
    alike(kinds[graph].predict_one(image, size="native"), expected)
    alike(kinds[graph].predict_one(ArrayImage(image)), expected)
    alike(kinds["episode"].predict_one(ArrayImage(image)), expected)


@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
def test_native_images_of_several_sizes_share_a_batch(kinds, graph):
    images = [ArrayImage(noise(90, 40, 3)), noise(20, 30, 1), noise(33, 77, 1, seed=2)]
    together = kinds[graph].predict(images, size="native", confidence=0.7)
    for index, image in enumerate(images):
        alone = kinds[graph].predict_one(image, size="native", confidence=0.7)
        taken = alone.glimpses
        assert (together.glimpses[index], together.reasons[index]) == (taken, alone.reasons)
        np.testing.assert_allclose(together.probabilities[index, :taken], alone.probabilities, atol=1e-5)
        np.testing.assert_array_equal(together.boxes[index, :taken], alone.boxes)


class Recording(ArrayImage):
    """An image that records which parts were read."""

    def __init__(self, array: Any) -> None:
        super().__init__(array)
        self.boxes: list[Any] = []

    def read(self, box: Any) -> Any:
        self.boxes.append(box)
        return super().read(box)


@pytest.mark.parametrize("graph", ["adaptive", "step"])
def test_of_a_lazy_image_only_the_widest_windows_are_read(kinds, graph):
    image = Recording(noise(400, 300, 1))
    prediction = kinds[graph].predict_one(image)
    limits = np.array([300, 400, 300, 400])
    expected = np.clip(prediction.boxes[:, -1], 0, limits)
    np.testing.assert_array_equal(np.array(image.boxes), expected)


@pytest.mark.parametrize("graph", ["adaptive", "step"])
def test_time_that_runs_out_ends_the_scan_after_one_glimpse(kinds, graph):
    canvases = noise(4, 20, 30, 1)
    found = kinds[graph].run(canvases, seconds=1e-9)
    assert found.reasons == ("time",) * 4
    assert found.glimpses.tolist() == [1] * 4
    first = kinds["episode"].run(canvases, max_glimpses=1)
    np.testing.assert_allclose(found.probabilities, first.probabilities, atol=1e-5)
    assert kinds[graph].predict_one(ArrayImage(canvases[0]), seconds=1e-9).reasons == "time"
    (only,) = kinds[graph].scan(canvases[0], seconds=1e-9)
    assert only.reason == "time"


@pytest.mark.parametrize("limit", LIMITS, ids=str)
@pytest.mark.parametrize("graph", ["adaptive", "step"])
def test_time_that_does_not_run_out_changes_nothing(kinds, graph, limit):
    canvases = noise(6, 20, 30, 1)
    alike(kinds[graph].run(canvases, seconds=60.0, **limit), kinds["episode"].run(canvases, **limit))


BELIEFS = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], np.float32)
"""Of three images: after each glimpse they come nearer to the first class."""


def recorder(calls: list[list[int]], pause: float = 0.0) -> stepping.GlimpseFunction:
    """A glimpse function that records its images, and makes an image's state the number of its glimpses."""

    def take_glimpse(rows: Any, locations: Any, state: Any) -> stepping.GlimpseResult:
        calls.append(rows.tolist())
        time.sleep(pause)
        share = np.minimum(BELIEFS[rows, 0] + state[:, 0] * 0.25, 1)
        belief = np.stack([share, 1 - share], axis=1).astype(np.float32)
        return stepping.GlimpseResult(
            Prediction(belief[:, None], locations[:, None]), state + 1, locations + np.float32(0.125)
        )

    return take_glimpse


def test_no_further_glimpses_are_taken_of_confident_images():
    calls: list[list[int]] = []
    found = stepping.collect(stepping.step_through(recorder(calls), 3, 1, Limits(6, 0.84)))
    assert calls == [[0, 1, 2], [1, 2], [2], [2]]
    assert found.glimpses is not None
    assert found.glimpses.tolist() == [1, 2, 4]
    assert found.reasons == ("confident",) * 3
    np.testing.assert_allclose(found.locations[:, :, 0], np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 3]]) / 8)
    np.testing.assert_allclose(found.probabilities[1, :, 0], [0.6, 0.85, 0.85, 0.85], atol=1e-6)


def test_the_time_ends_the_glimpses_of_images_that_are_not_confident():
    calls: list[list[int]] = []
    found = stepping.collect(stepping.step_through(recorder(calls, pause=0.01), 3, 1, Limits(6, 0.9, 0.015)))
    assert 1 <= len(calls) <= 2
    assert found.reasons[0] == "confident"
    assert found.reasons[2] == "time"


def test_the_time_may_have_begun_before():
    steps = list(stepping.step_through(recorder([]), 3, 1, Limits(6, None, 5.0), started=time.perf_counter() - 9))
    assert len(steps) == 1
    assert steps[0].seconds > 9


class Recorded:
    """A graph that records its inputs, and returns a map as large as its image."""

    def __init__(self) -> None:
        self.given: list[dict[str, Any]] = []

    def __call__(self, given: Any) -> dict[str, Any]:
        self.given.append(dict(given))
        batch, _, height, width = given["images"].shape
        return {
            "probabilities": np.full((batch, 1, 2), 0.5, np.float32),
            "locations": np.zeros((batch, 1, 2), np.float32),
            "maps": np.full((batch, 1, height, width), 1 / (height * width), np.float32),
            "next_state": np.zeros((batch, 1), np.float32),
            "next_location": np.zeros((batch, 2), np.float32),
        }


PLAIN = replace(toys.ADAPTIVE, glimpse_size=None, num_scales=None, zoom=None, state_size=1, has_maps=True)


def test_a_model_without_a_retina_is_given_whole_images():
    graph, image = Recorded(), noise(9, 7, 1)
    take_glimpse = stepping.from_windows(graph, PLAIN, [to_view(image, "it", PLAIN)])
    steps = list(stepping.step_through(take_glimpse, 1, 1, Limits(2)))
    assert len(steps) == len(graph.given) == 2
    for given in graph.given:
        assert "frame" not in given
        np.testing.assert_array_equal(given["images"][0, 0], image[..., 0])


def test_a_window_beyond_the_image_is_black():
    card, image = toys.STEP, np.full((20, 30, 1), 255, np.uint8)
    seen: list[Any] = []

    def graph(given: Any) -> dict[str, Any]:
        seen.append(given["glimpse"])
        batch = len(given["glimpse"])
        return {
            "probabilities": np.full((batch, 3), 1 / 3, np.float32),
            "next_state": np.zeros((batch, 3), np.float32),
            "next_location": np.zeros((batch, 2), np.float32),
        }

    take_glimpse = stepping.from_step_graph(graph, card, [to_view(image, "it", card)])
    for place in ([4.0, 0.0], [-4.0, 0.0], [0.0, 4.0], [0.0, -4.0]):
        take_glimpse(np.array([0]), np.array([place], np.float32), np.zeros((1, 3), np.float32))
        assert not seen[-1].any()
    take_glimpse(np.array([0]), np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32))
    assert (seen[-1] == 1).all()
