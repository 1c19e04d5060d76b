from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from glimpse.errors import ArgumentError
from glimpse.export.graph.assembly import GraphPlan, assemble
from glimpse.export.graph.passes import simplify
from glimpse.images import pixels
from glimpse.images.lazy import ArrayImage
from glimpse.models.hard import rollout_hard
from glimpse.runtime.session import SHRINKING, GlimpseSession
from tests.support import toys
from tests.support.brightness import MAP_CARD, PLAIN_CARD, write_model
from tests.support.toys import LIMITS, alike, noise, write_toy


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, GlimpseSession]:
    return toys.sessions(tmp_path_factory.mktemp("toys"))


def test_sizes_that_go_with_no_image_are_rejected(kinds):
    session, image = kinds["adaptive"], noise(20, 30, 1)
    with pytest.raises(ValueError, match="expected a size of 'fit' or 'native', got 'stretch'"):
        session.predict_one(image, size="stretch")
    with pytest.raises(pixels.ImageError, match="expected arrays to fit onto the model's canvas, got a lazy image"):
        session.scan(ArrayImage(image), size="fit")
    with pytest.raises(pixels.ImageError, match=r"got 1 lazy or mapped ones out of 2; .*'native'"):
        session.predict([ArrayImage(image), image])


def test_a_graph_for_one_size_takes_no_native_images(tmp_path):
    session = GlimpseSession(write_toy(tmp_path / "toy.onnx", replace(toys.EPISODE, any_size=False)))
    assert session.predict_one(noise(50, 50, 1)).glimpses == 5
    with pytest.raises(pixels.ImageError, match="this model's graph takes 30 x 20 pixels and nothing else"):
        session.predict_one(noise(50, 50, 1), size="native")
    step = GlimpseSession(write_toy(tmp_path / "step.onnx", replace(toys.STEP, any_size=False)))
    assert step.predict_one(noise(50, 50, 1), size="native").glimpses == 5


@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
def test_a_float32_model_takes_both_kinds_of_pixels(tmp_path, kinds, graph):
    card = replace(kinds[graph].card, input_type="float32")
    session = GlimpseSession(write_toy(tmp_path / "toy.onnx", card))
    image = noise(20, 30, 1)
    scaled = (image / 255).astype(np.float32)
    expected = kinds[graph].predict_one(image)
    for found in (session.predict_one(image), session.predict_one(scaled), session.predict_one(scaled, size="native")):
        alike(found, expected)
    alike(session.run(scaled[None]), kinds[graph].run(image[None]))


@pytest.mark.parametrize("size", [(20, 30), (200, 300)])
@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
def test_an_array_that_is_mapped_from_a_file_is_native_unless_it_is_to_fit(tmp_path, kinds, graph, size):
    image, session = noise(*size, 1), kinds[graph]
    np.save(tmp_path / "image.npy", image)
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    native, fitted = session.predict_one(image, size="native"), session.predict_one(image)
    assert size == (20, 30) or not np.array_equal(native.probabilities, fitted.probabilities)
    alike(session.predict_one(mapped), native)
    alike(session.predict_one(mapped, size="fit"), fitted)
    np.testing.assert_array_equal(session.predict(mapped[None]).probabilities[0], native.probabilities)
    np.testing.assert_array_equal([glance.probabilities for glance in session.scan(mapped)], native.probabilities)
    with pytest.raises(pixels.ImageError, match=r"got 1 lazy or mapped ones out of 2; .*size='native'"):
        session.predict([mapped, image])


def test_the_error_of_a_graph_for_one_size_names_a_way_for_a_mapped_array(tmp_path):
    session = GlimpseSession(write_toy(tmp_path / "toy.onnx", replace(toys.EPISODE, any_size=False)))
    np.save(tmp_path / "image.npy", noise(50, 50, 1))
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    with pytest.raises(pixels.ImageError, match=r"30 x 20 pixels and nothing else; scale them with size='fit', or"):
        session.predict_one(mapped)
    assert session.predict_one(mapped, size="fit").glimpses == 5
    with pytest.raises(pixels.ImageError, match="nothing else; read them as whole arrays, or export"):
        session.predict_one(ArrayImage(mapped))


GRAPHS = pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
FIRST = (0.5, -0.75)


def torch_trace(made: Any, image: Any, first: tuple[float, float]) -> Any:
    """What torch answers for one image, with its first glimpse at a location of what it is given."""
    images = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    observer = made.observer(4)
    with torch.no_grad():
        return rollout_hard(observer.model, observer.retina, images, 4, first_location=torch.tensor([first]))


@GRAPHS
@pytest.mark.parametrize("name", ["conv-gru", "mlp-lstm", "mlp-plain"])
def test_a_first_location_leads_to_the_answer_of_torch(tmp_path, steps, name, graph):
    made = steps[name]
    card = made.card(graph, num_glimpses=4)
    fragment = made.fragment
    simplify(fragment, 1.0 if graph == "step" else 1 / 255)
    model = assemble(GraphPlan(fragment, made.state_sizes, card))
    session = GlimpseSession(toys.write_sealed(tmp_path / "model.onnx", model, card.to_json()))
    canvas = made.images(1)[0].permute(1, 2, 0).numpy()
    larger = made.images(1, 40, 32, seed=3)[0].permute(1, 2, 0).numpy()
    on_canvas = (FIRST[0] * 16 / 26, FIRST[1])  # 32 x 40 is drawn 16 x 20, in the middle of 26 x 20
    for found, seen, first in (
        (session.predict_one(canvas, first_location=FIRST), canvas, FIRST),
        (session.run(canvas[None], first_location=FIRST).first(), canvas, FIRST),
        (session.predict_one(larger, size="native", first_location=FIRST), larger, FIRST),
        (session.predict_one(ArrayImage(larger), first_location=FIRST), larger, FIRST),
        (session.predict_one(larger, first_location=FIRST), session.fit(larger), on_canvas),
    ):
        trace = torch_trace(made, seen, first)
        np.testing.assert_allclose(found.probabilities, trace.logits[0].softmax(-1), atol=1e-4)
        np.testing.assert_allclose(found.locations[0], FIRST, atol=1e-6)
        if first is FIRST:
            np.testing.assert_allclose(found.locations, trace.locations[0], atol=1e-4)


@GRAPHS
@pytest.mark.parametrize("limit", [*LIMITS, {"seconds": 60.0}], ids=str)
@pytest.mark.parametrize("size", ["fit", "native"])
@pytest.mark.parametrize("shape", [(26, 61, 1), (90, 40, 3), (20, 30, 1)])
def test_every_way_begins_at_the_first_location_of_the_image_as_it_was_given(kinds, graph, limit, size, shape):
    if graph == "episode" and "seconds" in limit:
        limit = {}
    image, session = noise(*shape, seed=1), kinds[graph]
    found = session.predict_one(image, size=size, first_location=FIRST, **limit)
    np.testing.assert_allclose(found.locations[0], FIRST, atol=1e-6)
    alike(found, kinds["adaptive"].predict_one(image, size=size, first_location=np.array(FIRST), **limit))
    alike(session.predict([image], size=size, first_location=FIRST, **limit).first(), found)
    glances = list(session.scan(image, size=size, first_location=FIRST, **limit))
    np.testing.assert_allclose([glance.probabilities for glance in glances], found.probabilities, atol=1e-5)
    np.testing.assert_allclose([glance.location for glance in glances], found.locations, atol=1e-5)
    centre = session.predict_one(image, size=size, **limit)
    np.testing.assert_allclose(centre.locations[0], 0, atol=0.5 / 4)  # half a pixel of 9 where the bars are unequal
    if size == "native" or shape == (20, 30, 1):
        alike(session.predict_one(image, size=size, first_location=(0, 0), **limit), centre)


@GRAPHS
@pytest.mark.parametrize("limit", [{}, {"confidence": 0.7}], ids=str)
@pytest.mark.parametrize("size", ["fit", "native"])
def test_each_image_of_a_batch_may_begin_elsewhere(kinds, graph, limit, size):
    images = [noise(*(20 + seed, 70 - seed, 1), seed=seed) for seed in range(SHRINKING + 1)]
    places = np.random.default_rng(0).uniform(-1, 1, (len(images), 2))
    session = kinds[graph]
    for first in (places, FIRST):
        together = session.predict(images, size=size, first_location=first, **limit)
        for index, image in enumerate(images):
            own = places[index] if first is places else FIRST
            alone = session.predict_one(image, size=size, first_location=own, **limit)
            row = together.select(index)
            np.testing.assert_allclose(row.locations[0, 0], own, atol=1e-5)
            np.testing.assert_allclose(row.probabilities[0], alone.probabilities, atol=1e-5)
    sizes = [image.shape[:2] for image in images]
    canvases = np.stack([session.fit(image) for image in images])
    on_canvas = session.run(canvases, first_location=session.onto_canvas(places, sizes), **limit)
    fitted = session.predict(images, first_location=places, **limit)
    alike(session.onto_images(on_canvas, sizes), fitted)
    assert session.onto_canvas(None, sizes) is None


@GRAPHS
@pytest.mark.parametrize(
    "wrong",
    [
        (1.5, 0),
        (0, -1.0001),
        (float("nan"), 0),
        (0, float("inf")),
        (0,),
        (0, 0, 0),
        [],
        [[0, 0], [0, 0]],
        [[0, 0], [0]],
        "centre",
        "0,0",
        (True, False),
        ("0", "0"),
        (None, 0),
        (10**400, 0),
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_what_is_no_location_of_the_image_is_rejected(kinds, graph, wrong):
    session, image = kinds[graph], noise(20, 30, 1)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: session.run(image[None], first_location=wrong),
        lambda: session.predict([image], first_location=wrong),
        lambda: session.predict_one(image, first_location=wrong),
        lambda: session.predict_one(ArrayImage(image), first_location=wrong),
        lambda: session.scan(image, first_location=wrong),
    )
    for call in calls:
        with pytest.raises(ArgumentError, match=r"expected a first_location \(x, y\), both in \[-1, 1\], got"):
            call()


@pytest.mark.parametrize("card", [PLAIN_CARD, MAP_CARD], ids=lambda card: card.model)
def test_a_model_without_a_retina_has_no_first_location(tmp_path, card):
    session, image = GlimpseSession(write_model(tmp_path / "model.onnx", card)), noise(20, 30, 1)
    for call in (session.predict_one, session.scan):
        with pytest.raises(ArgumentError, match=rf"takes an image in at once \({card.model}\), got \(0, 0\); leave it"):
            call(image, first_location=(0, 0))


@pytest.mark.parametrize("shape", [(20, 60), (70, 33), (5, 8)])
@pytest.mark.parametrize("graph", ["adaptive", "episode", "step"])
def test_a_squashed_image_is_looked_at_all_over_and_only_there(tmp_path, kinds, graph, shape):
    card = replace(kinds[graph].card, size_policy="squash")
    session = GlimpseSession(write_toy(tmp_path / "toy.onnx", card))
    image = noise(*shape, 3)
    canvas = session.fit(image)
    np.testing.assert_array_equal(canvas, pixels.fit(image, card.height, card.width, card.channels, "squash"))
    found, on_canvas = session.predict_one(image), session.run(canvas[None])
    np.testing.assert_array_equal(found.probabilities, on_canvas.probabilities[0])
    np.testing.assert_allclose(found.locations, on_canvas.locations[0], atol=1e-6)
    assert found.boxes is not None
    assert on_canvas.boxes is not None
    scale = np.array([shape[1] / card.width, shape[0] / card.height] * 2)
    np.testing.assert_allclose(found.boxes, on_canvas.boxes[0] * scale, rtol=1e-4, atol=1e-4)
    begun = session.predict_one(image, first_location=(-1, 0.5))
    np.testing.assert_allclose(begun.locations[0], (-1, 0.5), atol=1e-6)
