"""One step, one truth: every way of running the model gives the same answer, whoever else is in the batch."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from glimpse.contract.tensors import BOXES, INPUT, LOCATIONS, LOGITS, PROBABILITIES
from glimpse.images import crop, geometry
from glimpse.models.hard import HardAttention, rollout_hard
from glimpse.nn.retina import Retina, extract_glimpse
from glimpse.rollout import Choice, Trace, fixed, mode_of, rollout

Array = npt.NDArray[Any]
OUTPUTS = (LOGITS, PROBABILITIES, LOCATIONS, BOXES)


@pytest.mark.parametrize("zoom", [2, 3])
@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 31, 46), (1, 6, 9), (3, 50, 23)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_numpy_crop_is_the_retina(channels, height, width, size, zoom, dtype):
    generator = torch.Generator().manual_seed(height + size)
    images = torch.randint(0, 256, (200, channels, height, width), generator=generator, dtype=torch.uint8)
    if dtype == torch.float32:
        images = images / 255
    location = torch.rand(200, 2, generator=generator) * 2.4 - 1.2
    edges = torch.tensor([-1.0, -0.999, 0.0, 0.999, 1.0])
    location[:25] = torch.cartesian_prod(edges, edges)
    for num_scales in (1, 3):
        torch_form = extract_glimpse(images, location, size, num_scales, zoom)
        numpy_form = crop.extract_glimpse(images.numpy(), location.numpy(), size, num_scales, zoom)
        np.testing.assert_allclose(torch_form.numpy(), numpy_form, atol=3e-7)


def test_the_numpy_crop_lies_where_the_boxes_say(real_images):
    location = torch.rand(len(real_images), 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
    _, _, height, width = real_images.shape
    (box,) = geometry.boxes(location, height, width, 8, 1, 2)
    seen = extract_glimpse(real_images, location, 8, 1, 2)
    wide = nn.functional.pad(real_images, (8, 8, 8, 8)).float() / 255
    for row in range(len(real_images)):
        top, left, bottom, right = (int(side[row]) + 8 for side in (box.top, box.left, box.bottom, box.right))
        torch.testing.assert_close(seen[row, 0, 0], wide[row, 0, top:bottom, left:right])


def torch_trace(exported: Any, images: Tensor) -> Trace:
    retina = Retina(exported.glimpse_size, exported.num_scales, exported.zoom)
    with torch.no_grad():
        return rollout_hard(exported.model, retina, images, exported.num_glimpses)


GRAPHS = pytest.mark.parametrize("graph", ["path", "episode"])


def onnx_outputs(exported: Any, images: Tensor, graph: str = "path") -> dict[str, Array]:
    path = getattr(exported, graph)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {INPUT: images.numpy()}), strict=True))


# The model by hand, one image at a time: double precision, plain numpy, nothing of the package but the weights.


def naive_glimpse(image: Array, location: Array, size: int, num_scales: int, zoom: int) -> Array:
    """One pixel at a time; the window of scale k is centred on the largest, whose middle is nearest to the location."""
    channels, height, width = image.shape
    widest = size * zoom ** (num_scales - 1)
    left = math.floor((location[0] + 1) * width / 2 - widest / 2 + 0.5)
    top = math.floor((location[1] + 1) * height / 2 - widest / 2 + 0.5)
    seen = np.zeros((num_scales, channels, size, size))
    for scale in range(num_scales):
        factor = zoom**scale
        offset = (widest - size * factor) // 2
        for row in range(size * factor):
            for column in range(size * factor):
                y, x = top + offset + row, left + offset + column
                if 0 <= y < height and 0 <= x < width:
                    seen[scale, :, row // factor, column // factor] += image[:, y, x] / 255 / factor**2
    return seen


def naive_layer(layer: nn.Module, values: Array) -> Array:
    if isinstance(layer, nn.ReLU):
        return np.maximum(values, 0)
    if isinstance(layer, nn.Flatten):
        return values.reshape(-1)
    if isinstance(layer, nn.Linear):
        return numbers(layer.weight) @ values + numbers(layer.bias)
    assert isinstance(layer, nn.Conv2d)
    weight, bias = numbers(layer.weight), numbers(layer.bias)
    (stride, _), padding = layer.stride, int(layer.padding[0])
    padded = np.pad(values, ((0, 0), (padding, padding), (padding, padding)))
    side = weight.shape[2]
    length = (padded.shape[1] - side) // stride + 1
    out = np.zeros((len(weight), length, length))
    for row in range(length):
        for column in range(length):
            patch = padded[:, row * stride : row * stride + side, column * stride : column * stride + side]
            out[:, row, column] = (weight * patch).sum((1, 2, 3)) + bias
    return out


def naive_gru(cell: Any, inputs: Array, hidden: Array) -> Array:
    """Cho et al. 2014, with torch's order of the gates: reset, update, new."""
    from_input = numbers(cell.weight_ih) @ inputs + numbers(cell.bias_ih)
    from_hidden = numbers(cell.weight_hh) @ hidden + numbers(cell.bias_hh)
    size = len(hidden)
    reset = 1 / (1 + np.exp(-(from_input[:size] + from_hidden[:size])))
    update = 1 / (1 + np.exp(-(from_input[size : 2 * size] + from_hidden[size : 2 * size])))
    new = np.tanh(from_input[2 * size :] + reset * from_hidden[2 * size :])
    output: Array = (1 - update) * new + update * hidden
    return output


def numbers(parameter: Tensor | None) -> Array:
    assert parameter is not None
    return parameter.detach().double().numpy()


def naive_sequence(layers: Any, values: Array) -> Array:
    for layer in layers:
        values = naive_layer(layer, values)
    return values


def naive_encoding(encoder: Any, pixels: Array, location: Array) -> Array:
    what = naive_sequence(encoder.what, pixels.reshape(-1, *pixels.shape[2:]))
    encoding: Array = np.maximum(what * naive_sequence(encoder.where, location), 0)
    return encoding


def naive_episode(exported: Any, image: Array) -> tuple[Array, Array]:
    """Logits and locations of one image, glimpse by glimpse."""
    model: Any = exported.model
    belief, gaze = np.zeros(model.classifier.in_features), np.zeros(model.policy.mean.in_features)
    location = np.zeros(2)
    logits, locations = [], []
    for _ in range(exported.num_glimpses):
        seen = naive_glimpse(image, location, exported.glimpse_size, exported.num_scales, exported.zoom)
        pixels = (seen - numbers(model.mean)[:, None, None]) / numbers(model.std)[:, None, None]
        belief = naive_gru(model.core.cell, naive_encoding(model.encoder, pixels, location), belief)
        seen_by_the_gaze = naive_encoding(model.gaze_encoder, pixels, location)
        gaze = naive_gru(model.gaze_core.cell, np.concatenate([belief, seen_by_the_gaze]), gaze)
        logits.append(naive_layer(model.classifier, belief))
        locations.append(location)
        location = np.clip(location + naive_layer(model.policy.mean, gaze), -1, 1)
    return np.stack(logits), np.stack(locations)


@GRAPHS
def test_the_naive_loop_the_roll_out_and_the_file_agree(exported, real_images, graph):
    trace = torch_trace(exported, real_images)
    got = onnx_outputs(exported, real_images, graph)
    assert (trace.locations[:, 1:].std(0) > 0.05).any(0).all(), "the gaze should depend on the image"
    for row, image in enumerate(real_images.numpy()):
        logits, locations = naive_episode(exported, image)
        np.testing.assert_allclose(trace.locations[row].numpy(), locations, atol=1e-5)
        np.testing.assert_allclose(trace.logits[row].numpy(), logits, atol=5e-5)
        np.testing.assert_allclose(got["locations"][row], locations, atol=1e-5)
        np.testing.assert_allclose(got["logits"][row], logits, atol=5e-5)
    height, width = real_images.shape[2:]
    boxes = geometry.boxes(trace.locations.numpy(), height, width, 6, 2, 2)
    np.testing.assert_array_equal(got["boxes"], np.stack([np.stack(box, -1) for box in boxes], -2))


def test_the_numpy_crop_feeds_the_step_as_the_retina_does(exported, real_images):
    model: HardAttention = exported.model

    def sense(choice: Choice) -> Tensor:
        shape = (exported.glimpse_size, exported.num_scales, exported.zoom)
        return torch.from_numpy(crop.extract_glimpse(real_images.numpy(), choice.location.numpy(), *shape))

    batch = len(real_images)
    with torch.no_grad():
        by_numpy = rollout(
            lambda glimpse, choice, state: model(glimpse, choice.location, state),
            sense,
            mode_of(model.policy),
            fixed(torch.zeros(batch, 2)),
            model.initial_state(batch),
            exported.num_glimpses,
        )
    trace = torch_trace(exported, real_images)
    torch.testing.assert_close(by_numpy.locations, trace.locations, atol=1e-6, rtol=0)
    torch.testing.assert_close(by_numpy.logits, trace.logits, atol=1e-5, rtol=0)


def test_pixels_as_bytes_and_as_fractions_give_one_answer(exported, real_images):
    bytes_, fractions = torch_trace(exported, real_images), torch_trace(exported, real_images / 255)
    torch.testing.assert_close(bytes_.logits, fractions.logits, atol=1e-5, rtol=0)


def test_a_batch_mate_never_changes_an_answer_of_the_model(exported, real_images):
    generator = torch.Generator().manual_seed(6)
    together = torch_trace(exported, real_images)
    for row in range(0, len(real_images), 5):
        image = real_images[row : row + 1]
        mates = torch.randint(0, 256, (31, *image.shape[1:]), generator=generator, dtype=torch.uint8)
        crowd = torch_trace(exported, torch.cat([mates[:11], image, mates[11:]]))
        alone = torch_trace(exported, image)
        for field in ("logits", "locations", "value"):
            answer = getattr(alone, field)[0]
            scale = max(1.0, float(answer.abs().max()))
            torch.testing.assert_close(getattr(crowd, field)[11], answer, atol=1e-6 * scale, rtol=0)
            torch.testing.assert_close(getattr(together, field)[row], answer, atol=1e-6 * scale, rtol=0)


@GRAPHS
def test_a_batch_mate_never_changes_an_answer_of_the_file(exported, real_images, graph):
    together = onnx_outputs(exported, real_images, graph)
    mates = torch.full((7, *real_images.shape[1:]), 255, dtype=torch.uint8)
    for row in range(0, len(real_images), 5):
        image = real_images[row : row + 1]
        alone, crowd = (onnx_outputs(exported, shown, graph) for shown in (image, torch.cat([mates, image])))
        for name in OUTPUTS:
            scale = max(1.0, float(np.abs(alone[name]).max()))
            np.testing.assert_allclose(together[name][row], alone[name][0], atol=1e-6 * scale)
            np.testing.assert_allclose(crowd[name][7], alone[name][0], atol=1e-6 * scale)
