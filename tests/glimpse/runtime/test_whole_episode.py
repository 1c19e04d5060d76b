from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimpse.contract.tensors import INPUT
from glimpse.images import pixels
from glimpse.images.lazy import ArrayImage
from glimpse.runtime import whole_episode
from glimpse.runtime.inputs import to_view
from glimpse.runtime.limits import Limits
from glimpse.runtime.session import GlimpseSession
from tests.support import toys
from tests.support.toys import LIMITS, noise

PLAIN = replace(toys.ADAPTIVE, glimpse_size=None, num_scales=None, zoom=None, state_size=1, has_maps=True)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, GlimpseSession]:
    return toys.sessions(tmp_path_factory.mktemp("toys"))


def with_maps(given: Any) -> dict[str, Any]:
    """A graph that returns a map as large as its image."""
    batch, _, height, width = given["images"].shape
    return {
        "probabilities": np.full((batch, 1, 2), 0.5, np.float32),
        "locations": np.zeros((batch, 1, 2), np.float32),
        "maps": np.full((batch, 1, height, width), 1 / (height * width), np.float32),
    }


def test_maps_of_several_sizes_do_not_make_a_batch():
    views = [to_view(noise(9, 7, 1), "it", PLAIN), to_view(noise(5, 7, 1), "it", PLAIN)]
    same = whole_episode.run_one_by_one(with_maps, views[:1] * 2)
    assert same.maps is not None
    assert same.maps.shape == (2, 1, 9, 7)
    with pytest.raises(
        pixels.ImageError, match=r"attention maps are of one size, got maps of \[\(5, 7\), \(9, 7\)\] cel"
    ):
        whole_episode.run_one_by_one(with_maps, views)


class Read(ArrayImage):
    """An image whose parts are read: nobody may take its pixels where they lie."""


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("shape", [(20, 31), (64, 64), (9, 500), (700, 300)])
def test_an_image_where_it_lies_is_answered_as_one_that_is_read(kinds, shape, limits):
    image = noise(*shape, 1)
    whole, read = (kinds["adaptive"].predict_one(each, size="native", **limits) for each in (image, Read(image)))
    for name in ("probabilities", "locations", "boxes"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(read, name))
    assert (whole.glimpses, whole.reasons) == (read.glimpses, read.reasons)


@pytest.mark.parametrize(
    ("image", "calls"),
    [
        (noise(50, 70, 1), 1),
        (ArrayImage(noise(50, 70, 1)[..., 0]), 1),
        (noise(50, 70, 3), 5),  # to be made grey first
        (noise(50, 140, 1)[:, ::2], 5),  # which has no one block of memory
        (Read(noise(50, 70, 1)), 5),
    ],
)
def test_what_lies_as_the_graph_takes_it_is_handed_over_in_one_call(kinds, monkeypatch, image, calls):
    session, shapes = kinds["adaptive"], []
    graph = session._graph

    def counted(inputs: Any, *others: Any) -> Any:
        shapes.append(inputs[INPUT].shape)
        return graph(inputs, *others)

    monkeypatch.setattr(session, "_graph", counted)
    session.predict_one(image, size="native")
    assert len(shapes) == calls
    assert shapes[0] == (1, 1, 50, 70) or max(shapes[0][2:]) <= 8


def test_of_a_huge_mapped_image_only_the_windows_are_touched(kinds, tmp_path):
    side = 32768
    image = np.memmap(tmp_path / "huge.dat", np.uint8, "w+", shape=(side, side, 1))
    image[side // 2 - 100 : side // 2 + 100, side // 2 - 100 : side // 2 + 100] = noise(200, 200, 1)

    def mapped() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("RssFile", "RssShmem")))

    before = mapped()
    answer = kinds["adaptive"].predict_one(image, size="native")
    assert mapped() - before < 20_000, "kilobytes, of a million"
    np.testing.assert_array_equal(answer.probabilities, kinds["adaptive"].predict_one(Read(image)).probabilities)


@pytest.mark.parametrize("first", [None, np.array([[0.5, -0.25]], np.float32)])
def test_an_adaptive_graph_begins_where_it_is_told(kinds, first):
    graph, image = kinds["adaptive"]._graph, noise(90, 40, 1)
    for form in (image, Read(image)):
        found = whole_episode.run_views(
            graph, kinds["adaptive"].card, [to_view(form, "it", toys.ADAPTIVE)], Limits(3), first
        )
        np.testing.assert_array_equal(found.locations[:, 0], np.zeros((1, 2)) if first is None else first)
        assert found.glimpses is not None
        assert found.glimpses.tolist() == [3]
