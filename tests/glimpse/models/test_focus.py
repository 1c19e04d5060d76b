"""Glance and focus: the sum of all evidence, what a window may change, and where the gaze goes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glimpse.models.focus import FocusObserver, GlanceAndFocus
from glimpse.nn.backbones import Backbone
from glimpse.nn.encoders import ImageEncoder

CLASSES, WINDOW, HEIGHT, WIDTH = 3, 16, 48, 64


def observer_of(num_glimpses: int = 4, seed: int = 0, scale: float = 2.0, **options: Any) -> FocusObserver:
    """A small model of random weights, whose evidence differs from place to place."""
    torch.manual_seed(seed)
    glance, focus = ImageEncoder(1, (6, 8), (1, 1)), ImageEncoder(1, (6,), (2,))
    model = GlanceAndFocus(glance, focus, CLASSES, 1, **({"window": WINDOW, "reduction": 2} | options))
    for layer in (model.place_classifier, model.whole_classifier, model.window_classifier):
        torch.nn.init.normal_(layer.weight, std=scale)
    model.mean.fill_(0.4)
    model.std.fill_(0.3)
    return FocusObserver(model, num_glimpses).eval()


def pictures(batch: int = 5, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, 1, height, width), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def test_a_class_has_the_evidence_of_no_place_and_of_all_places() -> None:
    model = observer_of().model
    state = model.look_around(pictures())
    logits = model.believe(state).logits
    for image in range(5):
        for label in range(CLASSES):
            found = [state.nowhere[image, label], *state.places[image, label].flatten()]
            torch.testing.assert_close(logits[image, label], torch.stack(found).double().exp().sum().log().float())


@torch.no_grad()
def test_the_glance_covers_the_image_and_every_window_lies_within_it() -> None:
    observer = observer_of()
    locations = torch.rand(5, 4, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
    trace = observer.following(pictures(), locations)
    boxes = observer.boxes(trace.locations, HEIGHT, WIDTH)
    assert boxes.shape == (5, 4, 1, 4)
    assert boxes[:, 0, 0].unique(dim=0).tolist() == [[0, 0, WIDTH, HEIGHT]]
    left, top, right, bottom = boxes[:, 1:, 0].unbind(-1)
    assert (right - left).unique().tolist() == (bottom - top).unique().tolist() == [WINDOW]
    assert min(left.min(), top.min()) >= 0
    assert right.max() <= WIDTH
    assert bottom.max() <= HEIGHT
    middles = torch.stack([left + right - WIDTH, top + bottom - HEIGHT], -1) / torch.tensor([WIDTH, HEIGHT])
    assert ((middles - trace.locations[:, 1:]).abs() <= 1 / HEIGHT).all()  # half a pixel


@torch.no_grad()
def test_a_window_that_says_nothing_changes_no_belief_wherever_it_lies() -> None:
    observer = observer_of()
    torch.nn.init.zeros_(observer.model.window_classifier.weight)
    random = torch.rand(5, 4, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
    logits = observer.following(pictures(), random).logits
    torch.testing.assert_close(logits, logits[:, :1].expand_as(logits))


@torch.no_grad()
def test_a_window_multiplies_the_odds_of_the_places_that_it_covers_once() -> None:
    model = observer_of().model
    state = model.look_around(pictures())
    location = torch.tensor([[-0.25, 0.2]]).expand(5, 2)
    covered = model.covered(location, state.places.shape[2], state.places.shape[3], HEIGHT, WIDTH)
    evidence = torch.tensor([[1.5, -2.0, 0.5]]).expand(5, CLASSES)
    after = model(evidence, covered, state).state
    added = (after.places - state.places).permute(0, 2, 3, 1)
    torch.testing.assert_close(added[covered], evidence[:1].expand(int(covered.sum()), -1))
    assert not added[~covered].any()
    assert covered.any(2).any(1).all()
    again = model(evidence, covered, after)
    torch.testing.assert_close(again.state.places, after.places)


@torch.no_grad()
def test_the_places_under_a_window_are_those_whose_middles_lie_in_it() -> None:
    model = observer_of().model
    covered = model.covered(torch.tensor([[0.5, -0.5]]), 6, 8, HEIGHT, WIDTH)[0]  # places of 8x8 pixels
    expected = torch.zeros(6, 8, dtype=torch.bool)
    for row in range(6):
        for column in range(8):
            x, y = 8 * column + 4, 8 * row + 4
            expected[row, column] = abs(x - 48) <= WINDOW / 2 and abs(y - 12) <= WINDOW / 2
    assert covered.equal(expected)


@torch.no_grad()
def test_the_gaze_goes_to_the_most_evidence_and_to_no_place_twice() -> None:
    observer = observer_of(num_glimpses=6)
    images = pictures()
    trace = observer(images)
    state = observer.model.look_around(images)
    rows, columns = state.places.shape[2:]
    strongest = state.places.logsumexp(1).flatten(1).argmax(1)
    middles = torch.stack(((strongest % columns + 0.5) / columns, (strongest // columns + 0.5) / rows), 1) * 2 - 1
    edge = torch.tensor([1 - WINDOW / WIDTH, 1 - WINDOW / HEIGHT])
    torch.testing.assert_close(trace.locations[:, 1], torch.minimum(torch.maximum(middles, -edge), edge))
    assert not trace.locations[:, 0].any()
    assert (trace.locations.abs() <= edge + 1e-6).all()
    for path in trace.locations[:, 1:]:
        assert len(path.unique(dim=0)) == len(path)
    torch.testing.assert_close(trace.maps.sum((2, 3)), torch.ones(5, 6))


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(HEIGHT, WIDTH), (33, 70), (16, 16)])
def test_images_of_any_size_are_looked_at(height: int, width: int) -> None:
    trace = observer_of()(pictures(2, height, width))
    assert trace.logits.shape == (2, 4, CLASSES)
    assert trace.logits.isfinite().all()
    assert trace.locations.abs().max() <= 1


@torch.no_grad()
def test_given_windows_are_looked_at_where_they_fit() -> None:
    observer = observer_of()
    given = torch.tensor([[[0.0, 0.0], [1.0, -1.0], [0.1, 0.2]]]).expand(5, 3, 2)
    trace = observer.following(pictures(), given)
    torch.testing.assert_close(trace.locations[0], torch.tensor([[0.0, 0.0], [0.75, -2 / 3], [0.1, 0.2]]))


@torch.no_grad()
def test_images_of_a_batch_do_not_depend_on_one_another() -> None:
    observer, images = observer_of(), pictures()
    whole = observer(images)
    for place in range(5):
        torch.testing.assert_close(observer(images[place : place + 1]).logits, whole.logits[place : place + 1])


class PoolSame(nn.Module):
    """A stand-in for a network whose padding depends on the size of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"map": nn.functional.avg_pool2d(images * self.scale, 8)}


def test_a_graph_has_any_size_where_its_networks_have() -> None:
    own = ImageEncoder(1, (6,), (2,))
    fixed = Backbone(PoolSame(), "a network")
    assert observer_of().any_size
    for glance, focus, expected in ((fixed, own, False), (fixed, None, False), (own, fixed, False), (own, None, True)):
        observer = FocusObserver(GlanceAndFocus(glance, focus, CLASSES, 1, WINDOW), 2)
        assert observer.any_size is expected
