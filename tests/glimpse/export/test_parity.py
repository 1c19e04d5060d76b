"""The comparison of a file with its model, on files that were tampered with."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from glimpse.contract.card import CARD_KEY, ModelCard
from glimpse.contract.tensors import (
    BOXES,
    FIRST_LOCATION,
    FRAME,
    GLIMPSES,
    LOCATIONS,
    LOGITS,
    NEXT_LOCATION,
    NEXT_STATE,
    PROBABILITIES,
    STATE,
)
from glimpse.evaluation.calibration import glimpses_until
from glimpse.export import parity as parity_module
from glimpse.export.model import PROBABILITY_TOLERANCE
from glimpse.export.parity import Parity, compare_with_file, session_of
from glimpse.models.hard import HardObserver
from glimpse.nn.retina import Retina
from glimpse.runtime.providers import ProviderError

GRAPHS = pytest.mark.parametrize("graph", ["path", "episode", "step"])


def observer_of(exported: Any) -> HardObserver:
    return HardObserver(exported.model, Retina(exported.glimpse_size, exported.num_scales, exported.zoom), 3)


def card_of(model: onnx.ModelProto) -> ModelCard:
    return ModelCard.from_json(next(entry.value for entry in model.metadata_props if entry.key == CARD_KEY))


def compared(exported: Any, graph: str = "path", shift: float = 0.0, images: Any = None, **changes: Any) -> Parity:
    """Compare a file, to whose first class's bias something was added."""
    model = onnx.load(str(getattr(exported, graph)))
    for bias in model.graph.initializer:
        if bias.name.endswith("classifier.bias"):
            values = numpy_helper.to_array(bias).copy()
            values[0] += shift
            bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    shown = exported.images if images is None else images
    return compare_with_file(
        observer_of(exported), replace(card_of(model), **changes), model.SerializeToString(), shown
    )


@GRAPHS
def test_a_good_file_answers_as_its_model_does(exported, graph):
    parity = compared(exported, graph)
    assert (parity.images, parity.ties, parity.labels_differ) == (8, 0, 0)
    assert parity.difference < 1e-5


def test_a_step_whose_caller_has_fractions_is_compared_with_the_same_glimpses(exported):
    parity = compared(exported, "step", input_type="float32")
    assert parity.labels_differ == 0
    assert parity.difference < 1e-5


@GRAPHS
def test_a_change_of_a_weight_is_a_difference(exported, graph):
    parity = compared(exported, graph, 0.05)
    assert parity.difference > PROBABILITY_TOLERANCE
    assert parity.ties == 0


@GRAPHS
def test_labels_that_differ_are_counted(exported, graph):
    with torch.no_grad():
        labels = observer_of(exported)(exported.images).logits[:, -1].argmax(1)
    others = int((labels != 0).sum())
    assert others > 0
    # An adaptive graph is asked twice, and the second time it stops when it is sure: what differs in both counts once.
    counted = compared(exported, graph, 1e3).labels_differ
    assert others <= counted <= 8 if graph == "path" else counted == others


@GRAPHS
def test_an_answer_that_is_no_number_is_a_difference_of_no_number(exported, graph):
    # Of no numbers the first is the largest: an image of that class would pass by its label alone.
    assert np.isnan(compared(exported, graph, float("nan")).difference)


@pytest.mark.parametrize("images", [2, 32, 33, 40])
def test_any_number_of_images_is_compared(exported, images):
    shown = exported.images.repeat(5, 1, 1, 1)[:images]
    parity = compared(exported, images=shown)
    assert (parity.images, parity.labels_differ) == (images, 0)


class Shifted:
    """A session that moves the fixations of the first image of every batch after the first glimpse."""

    def __init__(self, session: Any, by: float, pixels: int) -> None:
        self.session, self.by, self.pixels = session, by, pixels
        self.get_inputs = session.get_inputs

    def run(self, names: list[str], feeds: Any) -> list[Any]:
        found = dict(zip(names, (array.copy() for array in self.session.run(names, feeds)), strict=True))
        found[BOXES][0, 1:, :, [0, 2]] += self.pixels
        found[LOCATIONS][0, 1:] += self.by
        found[PROBABILITIES][0, 1] = np.roll(found[PROBABILITIES][0, 1], 1)
        found[LOGITS][0, -1] = np.roll(found[LOGITS][0, -1], 1)
        return [found[name] for name in names]


@pytest.mark.parametrize(("by", "pixels", "tied"), [(1e-6, 1, True), (1e-2, 1, False), (1e-6, 2, False)])
def test_fixations_that_differ_by_rounding_are_ties_and_no_others(exported, monkeypatch, by, pixels, tied):
    monkeypatch.setattr(
        parity_module, "session_of", lambda file, provider: Shifted(session_of(file, provider), by, pixels)
    )
    parity = compared(exported, "episode")
    # Each of the eight is the first image of a batch of one.
    assert parity.ties == (8 if tied else 0)
    assert (parity.difference < 1e-5) is tied
    assert parity.labels_differ == (0 if tied else 8)


def stops(probabilities: list[float], taken: int) -> dict[str, np.ndarray]:
    sure = np.array([probabilities])
    return {
        LOGITS: np.zeros((1, 3, 2)),
        PROBABILITIES: np.stack([sure, 1 - sure], 2),
        GLIMPSES: np.array([taken]),
    }


@pytest.mark.parametrize(
    ("reached", "expected", "found", "tied"),
    [
        (0.9 + 1e-7, 1, 2, True),
        (0.9 - 1e-7, 2, 1, True),
        (0.95, 1, 2, False),
        (0.9 + 1e-7, 1, 1, False),
    ],
)
def test_a_probability_at_the_threshold_is_a_tie_where_the_two_stop_at_different_glimpses(
    reached, expected, found, tied
):
    shown = [reached, 0.99, 0.99]
    assert parity_module._tied(stops(shown, expected), stops(shown, found)).tolist() == [tied]


def test_an_episode_that_stops_repeats_its_last_glimpse():
    sure = np.array([[0.5, 0.95, 0.99], [0.99, 0.5, 0.5], [0.5, 0.6, 0.7]])
    expected = {PROBABILITIES: np.stack([sure, 1 - sure], 2), LOGITS: np.arange(9.0).reshape(3, 3, 1)}
    expected[NEXT_STATE] = expected[NEXT_LOCATION] = expected[LOGITS]
    taken = glimpses_until(torch.from_numpy(expected[PROBABILITIES]), parity_module.STOP_CONFIDENCE).numpy()
    assert taken.tolist() == [2, 1, 3]
    stopped = parity_module._stopped_after(expected, taken, 3)
    np.testing.assert_array_equal(stopped[GLIMPSES], taken)
    np.testing.assert_array_equal(stopped[LOGITS][..., 0], [[0, 1, 1], [3, 3, 3], [6, 7, 8]])
    np.testing.assert_array_equal(stopped[NEXT_STATE][:, 0], [1, 3, 8])


class Elsewhere:
    """A session that answers all right, but for one output."""

    def __init__(self, session: Any, name: str) -> None:
        self.session, self.name = session, name

    def run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
        found = dict(zip(names, self.session.run(names, feeds), strict=True))
        if self.name in found:
            found[self.name] = found[self.name] + 5
        return [found[name] for name in names]

    def get_inputs(self) -> Any:
        return self.session.get_inputs()


@pytest.mark.parametrize(
    ("graph", "name"),
    [
        ("episode", LOCATIONS),
        ("episode", BOXES),
        *(("path", name) for name in (LOCATIONS, BOXES, GLIMPSES, NEXT_STATE, NEXT_LOCATION)),
        ("step", NEXT_STATE),
        ("step", NEXT_LOCATION),
    ],
)
def test_a_wrong_place_or_count_is_found(exported, monkeypatch, graph, name):
    assert compared(exported, graph).other_difference < 1e-4
    monkeypatch.setattr(parity_module, "session_of", lambda file, provider: Elsewhere(session_of(file, provider), name))
    assert compared(exported, graph).other_difference >= 1


@pytest.mark.parametrize("name", [FRAME, STATE, FIRST_LOCATION])
def test_an_input_that_has_no_effect_is_found(exported, monkeypatch, name):
    class Deaf(Elsewhere):
        def run(self, names, feeds):
            return self.session.run(names, {given: array for given, array in feeds.items() if given != name})

    monkeypatch.setattr(parity_module, "session_of", lambda file, provider: Deaf(session_of(file, provider), name))
    parity = compared(exported, "path")
    assert max(parity.difference, parity.other_difference) > 1e-2


def test_a_session_runs_on_one_thread_and_says_nothing(exported):
    session = session_of(exported.path.read_bytes())
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert session.get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(ProviderError, match="can't open the model"):
        session_of(b"no model")
