from dataclasses import asdict, dataclass

import pytest
from jsonschema import Draft202012Validator, ValidationError

from glimpse.contract.card import ModelCard
from glimpse_serve.openapi import schemas
from tests.support.toys import ADAPTIVE, EPISODE


def validator(name: str) -> Draft202012Validator:
    known = schemas.components(["images"], ["probabilities"])
    return Draft202012Validator({**known[name], "components": {"schemas": known}})


@dataclass
class Thing:
    """A thing.

    Attributes:
        name: What it is
            called, or None.
        sides: One of ``GRAPHS``.
        more: Others.
    """

    name: str | None
    sides: tuple[int, ...]
    more: dict[str, float]


def test_a_dataclass_is_described_in_its_own_words():
    found = schemas.dataclass_schema(Thing)
    assert found["required"] == ["name", "sides", "more"]
    assert found["properties"]["name"] == {"type": ["string", "null"], "description": "What it is called, or null."}
    sides = found["properties"]["sides"]
    assert sides["items"] == {"type": "integer"}
    assert sides["description"] == "One of `adaptive`, `episode`, `step`."
    assert found["properties"]["more"] == {"type": "object", "description": "Others."}


@pytest.mark.parametrize("card", [ADAPTIVE, EPISODE])
def test_a_card_is_of_its_schema(card):
    validator("ModelCard").validate(
        {**asdict(card), "classes": list(card.classes), "multiply_accumulates": [1], "budgets": []}
    )


def test_every_entry_of_a_card_is_described():
    found = schemas.dataclass_schema(ModelCard)["properties"]
    assert all(entry.get("description") or "$ref" in str(entry) for entry in found.values())


def test_no_entry_is_known_that_is_not_described_nor_missing():
    with pytest.raises(ValidationError, match="Additional properties"):
        validator("Error").validate({"error": "no", "trace": "line 1"})
    with pytest.raises(ValidationError, match="'error' is a required property"):
        validator("Error").validate({})


def test_every_schema_is_one():
    for schema in schemas.components(["images"], ["probabilities"]).values():
        Draft202012Validator.check_schema(schema)


def test_names_of_tensors_are_not_limited_while_there_is_no_model():
    assert "enum" not in schemas.components([], [])["TensorSpec"]["properties"]["name"]
    named = schemas.components(["images", "frame"], ["maps", "images"])["TensorSpec"]["properties"]["name"]
    assert named["enum"] == ["frame", "images", "maps"]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"inputs": []},
        {"inputs": [{"name": "other", "datatype": "FP32", "shape": []}]},
        {"inputs": [{"name": "images", "datatype": "FP64", "shape": []}]},
        {"inputs": [{"name": "images", "datatype": "FP32", "shape": [-1]}]},
        {"inputs": [{"name": "images", "datatype": "FP32", "shape": [1]}], "parameters": {"timeout": -1}},
    ],
)
def test_requests_that_no_model_would_take_are_not_of_the_schema(wrong):
    assert not validator("InferenceRequest").is_valid(wrong)
    validator("InferenceRequest").validate(
        {"inputs": [{"name": "images", "datatype": "FP32", "shape": [1], "data": [1]}]}
    )
