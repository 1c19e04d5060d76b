import json
from dataclasses import replace
from typing import Any

import pytest

from glimpse.contract.card import Budget, ContractError, ModelCard
from glimpse.contract.tensors import INPUT

CARD = ModelCard(
    model="hard",
    graph="episode",
    classes=("0", "1", "2"),
    channels=1,
    height=40,
    width=60,
    size_policy="fit",
    num_glimpses=6,
    glimpse_size=8,
    num_scales=2,
    zoom=2,
    has_maps=False,
    any_size=True,
    data="digits on cluttered canvases",
    recipe={"hidden": 128, "core": "gru"},
    test_error=0.031,
    versions={"glimpse": "0.1.0"},
)
BUDGET = vars(Budget(6, None, 6.0, 0.98, 1000, 0.2))
NO_RETINA: dict[str, Any] = {"glimpse_size": None, "num_scales": None, "zoom": None}


def without(name: str) -> str:
    values = json.loads(CARD.to_json())
    del values[name]
    return json.dumps(values)


def changed(**values: object) -> str:
    return json.dumps({**json.loads(CARD.to_json()), **values})


def test_a_card_comes_back_as_it_was_written():
    assert ModelCard.from_json(CARD.to_json()) == CARD


def test_a_card_without_a_measured_error_says_so():
    card = ModelCard.from_json(changed(test_error=None))
    assert card.test_error is None


def test_the_classes_keep_their_order():
    assert ModelCard.from_json(changed(classes=["b", "a", "c"])).classes == ("b", "a", "c")


def test_the_outputs_are_named_once_each_and_unlike_the_input():
    every = ("logits", "probabilities", "locations", "boxes", "maps")
    assert replace(CARD, has_maps=True).outputs == every
    assert INPUT not in every


def test_a_model_answers_with_boxes_if_it_has_a_retina_and_with_maps_if_it_has_maps():
    assert CARD.outputs == ("logits", "probabilities", "locations", "boxes")
    assert replace(CARD, **NO_RETINA).outputs == ("logits", "probabilities", "locations")
    assert replace(CARD, **NO_RETINA, has_maps=True).outputs == ("logits", "probabilities", "locations", "maps")


def test_a_model_with_windows_answers_with_boxes_too_and_a_card_of_before_them_has_none():
    card = replace(CARD, **NO_RETINA, window=16)
    assert card.outputs == ("logits", "probabilities", "locations", "boxes")
    assert card.has_boxes
    assert not card.has_retina
    assert ModelCard.from_json(card.to_json()) == card
    values = json.loads(CARD.to_json())
    del values["window"]
    assert ModelCard.from_json(json.dumps(values)) == CARD


def test_each_kind_of_graph_has_its_inputs_and_outputs():
    adaptive, step = replace(CARD, graph="adaptive"), replace(CARD, graph="step")
    assert (CARD.inputs, CARD.options) == (("images",), ("first_location",))
    assert (step.inputs, step.options) == (("glimpse", "location", "state"), ())
    assert adaptive.inputs == ("images",)
    assert adaptive.options == ("first_location", "confidence", "max_glimpses", "state", "frame")
    assert adaptive.outputs == (*CARD.outputs, "glimpses", "next_state", "next_location")
    assert step.outputs == ("logits", "probabilities", "next_state", "next_location")
    for card in (CARD, adaptive, step):
        assert not {*card.inputs, *card.options} & set(card.outputs)


def test_a_card_has_the_windows_of_its_retina():
    assert CARD.retina == (8, 2, 2)
    assert replace(CARD, **NO_RETINA).retina is None


def test_budgets_come_back_as_they_were_written():
    budgets = (Budget(6, None, 6.0, 0.98, 1000, 0.2), Budget(6, 0.9, 2.5, 0.979, 400, None))
    card = replace(CARD, budgets=budgets, multiply_accumulates=(100, 200), measured_on="a processor", license="MIT")
    assert ModelCard.from_json(card.to_json()) == card


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([{"confidence": 0.9}], "a budget in the model's card lacks"),
        ([{**BUDGET, "accuracy": "0.9"}], "expected numbers in a budget of the model's card, .* got"),
        ([{**BUDGET, "multiply_accumulates": 1.5}], "whole ones for max_glimpses and multiply_accumulates, .* got"),
        ([{**BUDGET, "glimpses": True}], "expected numbers in a budget of the model's card, .* got"),
        *(
            ([{**BUDGET, name: None}], rf"null at most for confidence and milliseconds, got .*'{name}': None")
            for name in ("max_glimpses", "glimpses", "accuracy", "multiply_accumulates")
        ),
    ],
)
def test_a_budget_that_is_none_is_refused(changes, sentence):
    with pytest.raises(ContractError, match=sentence):
        ModelCard.from_json(changed(budgets=changes))


def test_the_card_of_a_model_without_a_retina_comes_back_as_it_was_written():
    card = replace(CARD, **NO_RETINA, model="soft", has_maps=True, any_size=False)
    assert ModelCard.from_json(card.to_json()) == card


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "1" * 10_000], ids=["open", "deep", "long"])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ContractError, match=r"card is no valid JSON .*export the model again"):
        ModelCard.from_json(text)


@pytest.mark.parametrize("text", ["[]", '"card"', "{}", "null"])
def test_what_is_no_card_is_refused(text):
    with pytest.raises(ContractError, match="expected a model card of schema version 3, got None"):
        ModelCard.from_json(text)


def test_another_schema_version_is_refused():
    with pytest.raises(ContractError, match="schema version 3, got 1; export the model again"):
        ModelCard.from_json(changed(schema_version=1))


def test_missing_and_unknown_entries_are_named():
    with pytest.raises(ContractError, match=r"lacks \['zoom'\] and has unknown entries \[\]"):
        ModelCard.from_json(without("zoom"))
    with pytest.raises(ContractError, match=r"lacks \[\] and has unknown entries \['colour'\]"):
        ModelCard.from_json(changed(colour="red"))


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("classes", None, "a list of names under 'classes', got null"),
        ("classes", "012", "a list of names under 'classes', got \"012\""),
        ("classes", ["0", 1], r"a list of names under 'classes', got \[\"0\", 1\]"),
        ("channels", "1", "a whole number under 'channels', got \"1\""),
        ("height", 40.0, r"a whole number under 'height', got 40\.0"),
        ("width", None, "a whole number under 'width', got null"),
        ("zoom", True, "a whole number or null under 'zoom', got true"),
        ("glimpse_size", "8", "a whole number or null under 'glimpse_size', got \"8\""),
        ("has_maps", 1, "true or false under 'has_maps', got 1"),
        ("any_size", None, "true or false under 'any_size', got null"),
        ("test_error", "3 %", "a number or null under 'test_error', got \"3 %\""),
        ("data", 7, "a text under 'data', got 7"),
        ("recipe", [], r"an object under 'recipe', got \[\]"),
        ("versions", "0.1.0", "an object under 'versions', got \"0.1.0\""),
        ("versions", {"torch": 2}, "texts under 'versions', got {\"torch\": 2}"),
    ],
)
def test_an_entry_of_another_type_is_named_with_what_it_should_say(name, value, sentence):
    with pytest.raises(ContractError, match=f"card should say {sentence}.*; export the model again"):
        ModelCard.from_json(changed(**{name: value}))


def test_every_entry_of_a_card_is_checked():
    for name in json.loads(CARD.to_json()).keys() - {"schema_version"}:
        wrong: object = [] if name in {"recipe", "versions"} else {}
        with pytest.raises(ContractError, match=f"under '{name}', got "):
            ModelCard.from_json(changed(**{name: wrong}))


def test_a_card_says_where_training_began_and_one_that_does_not_means_the_centre():
    card = replace(CARD, first_location="random")
    assert ModelCard.from_json(card.to_json()) == card
    values = json.loads(CARD.to_json())
    del values["first_location"]
    assert ModelCard.from_json(json.dumps(values)).first_location == "centre"
