from typing import Any

import numpy as np
import pytest

from glimpse import pixels
from glimpse.lazy import ArrayImage
from glimpse.runtime import GlimpseSession
from tests import toys
from tests.toys import LIMITS, alike, noise


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, GlimpseSession]:
    return toys.sessions(tmp_path_factory.mktemp("toys"))


@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
def test_each_image_stops_when_it_is_told_and_repeats_its_last_glimpse(kinds, graph):
    canvases = noise(9, 20, 30, 1)
    every, found = kinds[graph].run(canvases), kinds[graph].run(canvases, confidence=0.7)
    assert len(set(found.glimpses.tolist())) > 2, "the toy should stop at several times"
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
def test_a_scan_tells_the_prediction_glimpse_by_glimpse(kinds, graph, size, limit):
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
def test_a_native_image_is_looked_at_as_it_is(kinds, graph, image):
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


class Watched(ArrayImage):
    """An image that writes down what was read of it."""

    def __init__(self, array: Any) -> None:
        super().__init__(array)
        self.boxes: list[Any] = []

    def read(self, box: Any) -> Any:
        self.boxes.append(box)
        return super().read(box)


@pytest.mark.parametrize("graph", ["adaptive", "step"])
def test_of_a_lazy_image_only_the_widest_windows_are_read(kinds, graph):
    image = Watched(noise(400, 300, 1))
    prediction = kinds[graph].predict_one(image)
    limits = np.array([300, 400, 300, 400])
    expected = np.clip(prediction.boxes[:, -1], 0, limits)
    np.testing.assert_array_equal(np.array(image.boxes), expected)


@pytest.mark.parametrize("graph", ["adaptive", "step"])
def test_time_that_runs_out_ends_the_look_after_one_glimpse(kinds, graph):
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
