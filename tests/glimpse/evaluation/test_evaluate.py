import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glimpse.evaluation import evaluate
from glimpse.models.cnn import ConvolutionalNet
from glimpse.models.hard import HardAttention, HardObserver, HardState, Step, rollout_hard
from glimpse.models.observer import WholeImageObserver
from glimpse.nn.retina import Retina

RETINA = Retina(4, 2, 2)


def model_of(**changes: Any) -> HardAttention:
    torch.manual_seed(0)
    options: dict[str, Any] = {"what": "mlp", "combine": "add", "core": "gru", "gaze": "layer", "gaze_hidden": 8}
    model = HardAttention(3, 1, 4, 2, 10, policy="gaussian", **(options | changes))
    for parameter in model.policy.parameters():  # type: ignore[attr-defined]
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def observing(model: HardAttention, num_glimpses: int) -> HardObserver:
    return HardObserver(model, RETINA, num_glimpses)


def batches_of(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (sum(sizes), 1, 16, 24), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (sum(sizes),), generator=generator)
    return list(zip(images.split(sizes), labels.split(sizes), strict=True))


@pytest.mark.parametrize("num_glimpses", [1, 2, 4, 6, 7, 9])
def test_the_grids_fixations_are_the_middles_of_cells(num_glimpses):
    locations = evaluate.baseline_locations("grid", 3, num_glimpses, torch.Generator())
    assert locations.shape == (3, num_glimpses, 2)
    assert torch.equal(locations[0], locations[2])
    columns = math.ceil(math.sqrt(num_glimpses))
    rows = math.ceil(num_glimpses / columns)
    cells = (locations[0] + 1) / 2 * torch.tensor([columns, rows]) - 0.5
    torch.testing.assert_close(cells, cells.round())
    numbers = (cells[:, 1] * columns + cells[:, 0]).round().int().tolist()
    assert numbers == list(range(num_glimpses))
    assert columns * (rows - 1) < num_glimpses <= columns * rows


def test_four_windows_of_the_grid_cover_the_image():
    locations = evaluate.baseline_locations("grid", 1, 4, torch.Generator())
    image = torch.rand(1, 1, 12, 20)
    seen = torch.zeros(12, 20)
    for location in locations[0]:
        row, column = int((location[1] + 1) * 6), int((location[0] + 1) * 10)
        seen[row - 3 : row + 3, column - 5 : column + 5] += image[0, 0, row - 3 : row + 3, column - 5 : column + 5]
    assert torch.equal(seen, image[0, 0])


def test_centre_and_random_fixations_begin_at_the_centre():
    assert not evaluate.baseline_locations("centre", 4, 3, torch.Generator()).any()
    random = evaluate.baseline_locations("random", 4000, 3, torch.Generator().manual_seed(0))
    assert not random[:, 0].any()
    chosen = random[:, 1:].flatten()
    assert chosen.min() >= -1
    assert chosen.max() <= 1
    torch.testing.assert_close(chosen.mean(), torch.tensor(0.0), atol=0.03, rtol=0)
    torch.testing.assert_close(chosen.var(), torch.tensor(1 / 3), atol=0.02, rtol=0)


def test_unknown_fixations_are_refused():
    with pytest.raises(ValueError, match=r"expected fixations out of .* got 'oracle'; choose one of them"):
        evaluate.baseline_locations("oracle", 1, 1, torch.Generator())


def test_errors_are_counted_after_each_glimpse():
    answers = torch.tensor([[0, 1], [2, 2], [1, 0], [0, 0]])
    logits = torch.nn.functional.one_hot(answers, 3).float()
    assert evaluate.errors_of(logits, torch.tensor([1, 2, 2, 0])) == [0.5, 0.25]


class Told(HardAttention):
    """A stand-in that reads the class off the brightest pixel that it sees, and is sure of it by four fifths."""

    def __init__(self) -> None:
        super().__init__(2, 1, 4, 2, 6, "mlp", "add", "gru", gaze_hidden=4)

    def forward(self, glimpse: Tensor, location: Tensor, state: HardState) -> Step:
        odd = (glimpse.flatten(1).amax(1) * 255).round().long() % 2
        chance = torch.full((len(glimpse), 2), 0.2).scatter_(1, odd[:, None], 0.8)
        return Step(state, chance.log(), torch.zeros(len(glimpse), 2), torch.zeros(len(glimpse)))


def test_the_figures_are_those_worked_out_by_hand():
    # The brightness says 1 1 0 0 1 0 0, the truth is 1 0 0 0 1 1 0.
    brightness = torch.tensor([101, 103, 100, 102, 105, 104, 80], dtype=torch.uint8)
    images = brightness.view(-1, 1, 1, 1).expand(-1, 1, 16, 24).contiguous()
    labels = torch.tensor([1, 0, 0, 0, 1, 1, 0])
    batches = list(zip(images.split(4), labels.split(4), strict=True))
    model = Told()
    result = evaluate.evaluate_classifier(observing(model, 2), batches, ("even", "odd"), (1, 16, 24))
    assert result.images == 7
    assert result.error == pytest.approx(2 / 7)
    assert result.errors == {kind: [pytest.approx(2 / 7)] * 2 for kind in evaluate.FIXATIONS}
    assert list(result.errors) == ["own", "random", "centre", "grid"]
    assert result.confusion == [[3, 1], [1, 2]]
    even, odd = result.per_class
    assert (even.name, even.images, odd.name, odd.images) == ("even", 4, "odd", 3)
    assert (even.precision, even.recall) == (0.75, 0.75)
    assert [odd.precision, odd.recall] == pytest.approx([2 / 3, 2 / 3])
    assert result.calibration_error == pytest.approx(0.8 - 5 / 7, abs=1e-6)
    assert result.num_glimpses == 2
    assert result.pixels_sensed == 2 * 2 * 16
    assert result.pixels_of_image == 16 * 24
    assert result.multiply_accumulates == 0
    assert result.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert json.loads(result.to_json())["confusion"] == [[3, 1], [1, 2]]


def test_the_confusions_rows_are_the_truth_and_its_columns_the_answers():
    images = torch.full((3, 1, 16, 24), 101, dtype=torch.uint8)
    batches = [(images, torch.zeros(3, dtype=torch.long))]
    result = evaluate.evaluate_classifier(observing(Told(), 1), batches, ("even", "odd"), (1, 16, 24))
    assert result.confusion == [[0, 3], [0, 0]]
    assert [(report.precision, report.recall, report.images) for report in result.per_class] == [(0, 0, 3), (0, 0, 0)]


def test_multiply_accumulates_are_those_counted_by_hand():
    model = model_of()
    features, gaze, classes, glimpses = 10, 8, 3, 4
    pixels = 2 * 16
    encoder = pixels * features + features * features + 2 * (features // 2) + (features // 2) * features
    core = 3 * features * (features + features)
    gaze_core = 3 * gaze * (2 * features + gaze)
    heads = features * classes + 2 * gaze + gaze
    counted = evaluate.multiply_accumulates(observing(model, glimpses), (1, 16, 24))
    assert counted == glimpses * (encoder + core + gaze_core + heads)
    assert evaluate.multiply_accumulates(observing(model, glimpses), (1, 160, 240)) == counted


def test_counting_leaves_a_model_in_training_as_it_is():
    net = ConvolutionalNet(3, widths=(8,), depths=(1,))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    observer = WholeImageObserver(net, any_size=True).train()
    assert evaluate.multiply_accumulates(observer, (1, 16, 24)) > 0
    assert observer.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_an_evaluation_is_deterministic_and_no_batch_size_changes_it():
    model = model_of()
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    once = evaluate.evaluate_classifier(observing(model, 3), batches_of(30), ("a", "b", "c"), (1, 16, 24))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert evaluate.evaluate_classifier(observing(model, 3), batches_of(30), ("a", "b", "c"), (1, 16, 24)) == once
    split = evaluate.evaluate_classifier(observing(model, 3), batches_of(7, 13, 10), ("a", "b", "c"), (1, 16, 24))
    for kind in ("own", "centre", "grid"):
        assert split.errors[kind] == once.errors[kind]
    assert split.confusion == once.confusion


def test_the_models_own_fixations_are_its_modes():
    model = model_of()
    (batch,) = batches_of(20)
    logits, labels = evaluate.beliefs(observing(model, 3), [batch])
    assert torch.equal(labels, batch[1])
    with torch.no_grad():
        torch.testing.assert_close(logits, rollout_hard(model, RETINA, batch[0], 3).logits)
    for kind in ("random", "centre", "grid"):
        assert not torch.allclose(evaluate.beliefs(observing(model, 3), [batch], kind)[0], logits, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_the_mode_it_was_in(training):
    observer = observing(model_of(), 2).train(training)
    logits, _ = evaluate.beliefs(observer, batches_of(5))
    assert observer.training is observer.model.training is training
    assert not logits.requires_grad


def test_the_table_shows_every_figure():
    result = evaluate.evaluate_classifier(observing(model_of(), 3), batches_of(30), ("ant", "bee", "cat"), (1, 16, 24))
    told = evaluate.evaluation_table(result)
    assert f"error {result.error:.2%} on 30 images after 3 glimpses" in told
    for words in ("the model's own gaze", "random", "always the centre", "a grid", "ant", "bee", "cat"):
        assert words in told
    assert f"{result.multiply_accumulates:,} an image" in told
    assert f"{result.parameters:,}" in told
    assert "96 (0.25 times those of the image)" in told
    assert f"balanced accuracy {result.balanced_accuracy:.2%}, macro F1 {result.macro_f1:.3f}\n" in told
    most = max(result.per_class, key=lambda report: report.images)
    assert f"always answering {most.name}, the most frequent class: error {1 - most.images / 30:.2%}" in told


def test_of_many_classes_the_five_likeliest_count_as_well():
    classes = tuple("abcdefg")
    observer = WholeImageObserver(ConvolutionalNet(7, 1, (4,), (1,)), True)
    result = evaluate.evaluate_classifier(observer, batches_of(40), classes, (1, 16, 24))
    logits, labels = evaluate.beliefs(observer, batches_of(40))
    top = logits[:, -1].topk(5, 1).indices
    assert result.top5_accuracy == pytest.approx(float((top == labels[:, None]).any(1).float().mean()))
    assert f", top-5 accuracy {result.top5_accuracy:.2%}" in evaluate.evaluation_table(result)
    saved = json.loads(result.to_json())
    assert {"balanced_accuracy", "macro_f1", "top5_accuracy", "majority_class", "majority_accuracy"} <= saved.keys()


def test_the_costs_grow_glimpse_by_glimpse_up_to_the_whole_episode():
    observer = observing(model_of(), 4)
    costs = evaluate.costs_of(observer, (1, 16, 24))
    assert observer.num_glimpses == 4
    assert costs[-1] == evaluate.multiply_accumulates(observer, (1, 16, 24))
    assert costs == tuple(costs[0] * (time + 1) for time in range(4))


def test_the_costs_of_a_model_that_looks_once_are_one():
    observer = WholeImageObserver(ConvolutionalNet(3, 1, (4,), (1,)), True)
    assert evaluate.costs_of(observer, (1, 16, 24)) == (evaluate.multiply_accumulates(observer, (1, 16, 24)),)


def test_counting_costs_leaves_the_observer_as_it_was_even_if_it_fails(monkeypatch):
    def fail(*_: object) -> int:
        raise RuntimeError("out of memory")

    observer = observing(model_of(), 3)
    monkeypatch.setattr(evaluate, "multiply_accumulates", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate.costs_of(observer, (1, 16, 24))
    assert observer.num_glimpses == 3


@pytest.mark.parametrize("where", ["random", (0.75, -0.5)])
def test_first_glimpses_are_taken_where_they_are_asked_for_in_every_size_of_batch(where):
    observer = observing(model_of(), 3)
    first = evaluate.first_locations(where, 30, np.random.default_rng(evaluate.RANDOM_FIRST_LOCATIONS))
    assert first.shape == (30, 2)
    assert first.abs().max() <= 1
    assert (first.std(0) > 0.3).all() == (where == "random")
    whole, _ = evaluate.beliefs(observer, batches_of(30), first_location=where)
    with torch.no_grad():
        ((images, _),) = batches_of(30)
        torch.testing.assert_close(whole, rollout_hard(observer.model, RETINA, images, 3, first_location=first).logits)
    split, _ = evaluate.beliefs(observer, batches_of(1, 4, 17, 8), first_location=where)
    torch.testing.assert_close(split, whole)
    assert not torch.allclose(whole, evaluate.beliefs(observer, batches_of(30))[0], atol=1e-5)


def test_random_fixations_begin_where_the_model_begins():
    observer = observing(model_of(), 1)
    own, _ = evaluate.beliefs(observer, batches_of(20), "own", "random")
    torch.testing.assert_close(evaluate.beliefs(observer, batches_of(20), "random", "random")[0], own)


@pytest.mark.parametrize(
    ("where", "named"), [("random", "random"), ("centre", "centre"), ((0.25, -1.0), "0.25,-1"), ((-1.0, 1.0), "-1,1")]
)
def test_an_evaluation_says_where_it_began(where, named):
    result = evaluate.evaluate_classifier(
        observing(model_of(), 2), batches_of(9), ("a", "b", "c"), (1, 16, 24), first_location=where
    )
    assert result.first_location == named
    assert f"first glimpses: {named}" in evaluate.evaluation_table(result)


@pytest.mark.parametrize("where", ["corner", (1.5, 0.0), (0.0, math.nan)])
def test_a_first_location_outside_the_image_is_refused(where):
    with pytest.raises(ValueError, match=r"expected a first location out of centre, random, or \(x, y\) in \[-1, 1\]"):
        evaluate.beliefs(observing(model_of(), 2), batches_of(5), first_location=where)
