from dataclasses import replace
from typing import Any

import pytest

from glimpse.contract.card import GRAPHS, INPUT_TYPES
from glimpse.contract.tensors import TensorSpec, inputs_of, outputs_of
from tests.glimpse.contract.test_card import CARD, NO_RETINA

ADAPTIVE, STEP = replace(CARD, graph="adaptive", state_size=5), replace(CARD, graph="step", state_size=5)
SOFT = replace(CARD, **NO_RETINA, has_maps=True)


def shapes(tensors: dict[str, TensorSpec]) -> dict[str, Any]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def test_an_episode_takes_images_and_a_first_location():
    assert list(inputs_of(CARD).values()) == [
        ("images", "uint8", ("batch", 1, "height", "width"), False),
        ("first_location", "float32", ("locations", 2), True),
    ]


def test_windows_have_one_scale():
    card = replace(CARD, **NO_RETINA, window=16)
    assert shapes(outputs_of(card))["boxes"] == ("batch", "time", 1, 4)
    assert shapes(outputs_of(CARD))["boxes"] == ("batch", "time", CARD.num_scales, 4)


def test_a_model_without_a_retina_takes_no_first_location():
    assert list(inputs_of(SOFT)) == ["images"]


def test_an_adaptive_graph_has_a_default_for_all_but_the_images():
    assert list(inputs_of(ADAPTIVE).values()) == [
        ("images", "uint8", ("batch", 1, "height", "width"), False),
        ("first_location", "float32", ("locations", 2), True),
        ("confidence", "float32", (), True),
        ("max_glimpses", "int64", (), True),
        ("state", "float32", ("states", 5), True),
        ("frame", "float32", (4,), True),
    ]


def test_a_step_takes_a_glimpse_its_location_and_the_state():
    assert list(inputs_of(STEP).values()) == [
        ("glimpse", "float32", ("batch", 2, 1, 8, 8), False),
        ("location", "float32", ("batch", 2), False),
        ("state", "float32", ("batch", 5), False),
    ]


@pytest.mark.parametrize("input_type", INPUT_TYPES)
def test_images_have_the_type_that_the_card_states(input_type):
    assert inputs_of(replace(CARD, input_type=input_type))["images"].dtype == input_type


def test_images_have_the_size_of_the_card_where_they_may_have_no_other():
    assert inputs_of(replace(CARD, any_size=False))["images"].shape == ("batch", 1, 40, 60)


def test_the_outputs_have_the_lengths_of_the_card():
    every = {
        "logits": ("batch", "time", 3),
        "probabilities": ("batch", "time", 3),
        "locations": ("batch", "time", 2),
        "boxes": ("batch", "time", 2, 4),
    }
    assert shapes(outputs_of(CARD)) == every
    further = {"glimpses": ("batch",), "next_state": ("batch", 5), "next_location": ("batch", 2)}
    assert shapes(outputs_of(ADAPTIVE)) == every | further
    assert outputs_of(SOFT)["maps"].shape == ("batch", "time", "map_height", "map_width")


def test_the_outputs_of_a_step_have_no_time():
    assert shapes(outputs_of(STEP)) == {
        "logits": ("batch", 3),
        "probabilities": ("batch", 3),
        "next_state": ("batch", 5),
        "next_location": ("batch", 2),
    }


def test_only_the_number_of_glimpses_is_whole_among_the_outputs():
    for card in (CARD, ADAPTIVE, STEP, SOFT):
        for name, tensor in outputs_of(card).items():
            assert tensor.dtype == ("int64" if name == "glimpses" else "float32")


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_card_names_its_tensors_in_the_order_of_the_table(graph):
    card = replace(CARD, graph=graph, state_size=5)
    assert (*card.inputs, *card.options) == tuple(inputs_of(card))
    assert card.outputs == tuple(outputs_of(card))
