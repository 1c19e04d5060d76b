import math
from typing import Any

import pytest
import torch
from torch import Tensor

from glimpse.data.datamodule import ImageData
from glimpse.evaluation.attribution import jacobian
from glimpse.evaluation.maps import MAP_METHODS, explicit_maps, fixation_maps, implicit_maps, last_logits
from glimpse.rollout import Trace
from glimpse.training.classifier import ClassifierTraining
from glimpse.training.families import FAMILIES

HEIGHT, WIDTH = 24, 32
SMALL: dict[str, dict[str, Any]] = {
    "hard": {"num_glimpses": 3, "glimpse_size": 4, "num_scales": 2, "hidden": 16, "gaze_hidden": 8},
    "relaxed": {"num_glimpses": 3, "glimpse_size": 4, "num_scales": 2, "hidden": 16, "gaze_hidden": 8},
    "soft": {"num_glimpses": 2, "widths": [4, 8], "depths": [1, 1], "hidden": 16},
    "self": {"features": 8, "heads": 2, "layers": 2},
    "cnn": {"widths": [4, 8], "depths": [1, 1]},
    "mlp": {"hidden": 16},
    "focus": {"num_glimpses": 2, "window": 12, "widths": [4, 8], "depths": [1, 1]},
}
SEEING = ("hard", "relaxed")


@pytest.fixture(scope="module")
def images() -> Tensor:
    data = ImageData("digits", canvas_height=HEIGHT, canvas_width=WIDTH, num_pieces=2)
    drawn: Tensor = next(iter(data.test_dataloader()))[0][:4].clone()
    return drawn


def model(kind: str, channels: int = 1) -> ClassifierTraining:
    torch.manual_seed(5)
    training = FAMILIES[kind](list("0123456789"), [channels, HEIGHT, WIDTH], **SMALL[kind])
    training.normalise_by(torch.full((channels,), 0.2), torch.full((channels,), 0.3))
    for name, parameter in training.named_parameters():
        if kind == "focus" and "classifier.weight" in name:  # they begin at zero
            torch.nn.init.normal_(parameter, std=0.1)
    return training.eval()


@pytest.mark.parametrize("kind", FAMILIES)
def test_explicit_maps_sum_to_one_and_only_attention_has_them(kind, images):
    observer = model(kind).observer
    maps = explicit_maps(observer, observer(images), HEIGHT, WIDTH)
    if kind in ("cnn", "mlp"):
        assert maps is None
        return
    assert maps is not None
    assert maps.shape == (4, HEIGHT, WIDTH)
    assert not maps.requires_grad
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(4))


def test_the_explicit_map_is_the_mean_over_the_glimpses():
    nothing = torch.zeros(1, 2)
    weights = torch.zeros(1, 2, 3, 4)
    weights[0, 0, 0, 0] = weights[0, 1, 2, 3] = 1.0
    trace = Trace(torch.zeros(1, 2, 10), torch.zeros(1, 2, 2), nothing, nothing, maps=weights)
    maps = explicit_maps(model("soft").observer, trace, 3, 4)
    expected = torch.zeros(1, 3, 4)
    expected[0, 0, 0] = expected[0, 2, 3] = 0.5
    torch.testing.assert_close(maps, expected)


def test_fixations_are_gaussians_of_half_the_finest_window(images):
    observer = model("hard").observer
    place = torch.tensor([[[0.0, 0.0]]])
    nothing = torch.zeros(1, 1)
    maps = explicit_maps(observer, Trace(torch.zeros(1, 1, 10), place, nothing, nothing), 31, 41)
    assert maps is not None
    assert divmod(int(maps[0].argmax()), 41) == (15, 20)
    assert float(maps[0, 15, 22] / maps[0, 15, 20]) == pytest.approx(math.exp(-0.5), rel=1e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_jacobian_agrees_with_finite_differences(kind, images):
    function = last_logits(model(kind).observer, images)
    pixels, outputs = images.float() / 255, torch.tensor([3, 1, 4, 1])
    found = jacobian(function, pixels, outputs)
    lengths = found.flatten(1).norm(dim=1)
    assert bool((lengths > 0).all())
    if kind in SEEING:
        assert bool((found == 0).any()), "most pixels are never seen"
    step = 5e-4 * found / lengths[:, None, None, None]  # uphill, each image by the same length
    with torch.no_grad():
        rise = (function(pixels + step) - function(pixels - step)).gather(1, outputs.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(rise / 1e-3, lengths, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_implicit_map_owes_nothing_to_its_batch_mates(kind, images):
    observer = model(kind).observer
    outputs = torch.tensor([3, 1, 4, 1])
    maps = implicit_maps(observer, images, outputs)
    assert maps.shape == (4, HEIGHT, WIDTH)
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(4))
    torch.testing.assert_close(implicit_maps(observer, images[2:3], outputs[2:3]), maps[2:3], rtol=1e-3, atol=1e-7)
    assert all(parameter.grad is None for parameter in observer.parameters())


def test_fixations_are_held(images):
    observer = model("hard").observer
    outputs = torch.zeros(4, dtype=torch.long)
    with torch.no_grad():
        locations = observer(images).locations
        held = last_logits(observer, images)(images.flip(0).float() / 255)
        expected = observer.following(images.flip(0), locations).logits[:, -1]
    torch.testing.assert_close(held, expected)
    seen = implicit_maps(observer, images, outputs) > 0
    assert not bool(seen.all()), "what no glimpse held has no part in the answer"


@pytest.mark.parametrize("method", MAP_METHODS)
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_every_method_gives_maps_of_colour_images_and_leaves_the_model_as_it_was(kind, method, images):
    observer = model(kind, channels=3).train().observer
    colour = images[:2].expand(-1, 3, -1, -1).float() / 255
    maps = implicit_maps(observer, colour, torch.tensor([1, 2]), method)
    assert maps.shape == (2, HEIGHT, WIDTH)
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(2))
    assert observer.training


def test_an_unknown_method_is_refused(images):
    with pytest.raises(ValueError, match="out of jacobian, smoothed, integrated; got 'gradcam'; choose one of them"):
        implicit_maps(model("cnn").observer, images, torch.zeros(4, dtype=torch.long), "gradcam")


def test_windows_are_held_and_the_glance_is_no_fixation(images):
    observer = model("focus").observer
    with torch.no_grad():
        trace = observer(images)
        torch.testing.assert_close(last_logits(observer, images)(images), trace.logits[:, -1])
        others = last_logits(observer, images.flip(3))(images)
        held = observer.following(images, observer(images.flip(3)).locations)
        torch.testing.assert_close(others, held.logits[:, -1])
    looked = fixation_maps(observer, trace, HEIGHT, WIDTH)
    assert looked is not None
    torch.testing.assert_close(looked.sum((1, 2)), torch.ones(len(images)))
    row, column = divmod(int(looked[0].argmax()), WIDTH)
    x, y = trace.locations[0, 1].tolist()
    assert abs((x + 1) * WIDTH / 2 - column - 0.5) <= 1
    assert abs((y + 1) * HEIGHT / 2 - row - 0.5) <= 1
    observer.num_glimpses = 1
    assert fixation_maps(observer, observer(images), HEIGHT, WIDTH) is None
    for kind in ("soft", "cnn"):
        other = model(kind).observer
        assert fixation_maps(other, other(images), HEIGHT, WIDTH) is None
