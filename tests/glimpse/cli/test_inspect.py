import json
from dataclasses import replace

import pytest

from glimpse.cli.inspect import inspect
from glimpse.contract.card import Budget, ContractError
from tests.support import toys

BUDGETS = (Budget(1, None, 1.0, 0.8, 1000, 0.1), Budget(5, 0.9, 2.25, 0.975, 2250, None))
CARD = replace(
    toys.ADAPTIVE,
    budgets=BUDGETS,
    measured_on="a processor",
    multiply_accumulates=(1000, 2000, 3000, 4000, 5000),
    parameters=1234,
    test_error=0.031,
    license="MIT",
    recipe={"model": {"hidden": 8}, "note": "made up"},
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return toys.write_toy(tmp_path_factory.mktemp("models") / "model.onnx", CARD)


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_it_says_what_the_card_says(model):
    output = inspect(model)
    assert output.startswith(f"{model}: hard model, adaptive graph in float32 for cpu, 5 glimpses\n")
    assert "  classes               3: cat, dog, owl\n" in output
    assert "uint8 NCHW, grey, 0 to 255, 30 x 20 (any size); others are made to fit" in output
    squashed = replace(CARD, size_policy="squash")
    said = inspect(toys.write_toy(model.with_name("squashed.onnx"), squashed))
    assert "0 to 255, 30 x 20 (any size); others are squashed to it" in said
    assert "4 x 4 pixels at 2 scales, the widest window 8" in output
    for fact in (["test", "error", "3.10%"], ["parameters", "1,234"], ["license", "MIT"], ["note", '"made', 'up"']):
        assert fact in rows(output)
    assert ["multiply-accumulates", "5,000", "an", "image"] in rows(output)
    assert ["model.hidden", "8"] in rows(output)


def test_it_names_the_tensors_with_their_types_and_shapes(model):
    output = rows(inspect(model))
    for tensor in (
        ["images", "uint8", "(batch,", "1,", "height,", "width)"],
        ["confidence", "float", "()"],
        ["state", "float", "(states,", "3)"],
    ):
        assert tensor in output
    names = [row[0] for row in output if row]
    assert all(name in names for name in (*CARD.inputs, *CARD.options, *CARD.outputs))


def test_it_shows_what_budgets_are_worth(model):
    output = rows(inspect(model))
    assert ["1", "glimpse", "1.00", "80.00%", "1,000", "0.100"] in output
    assert ["confidence", "0.9", "2.25", "97.50%", "2,250", "-"] in output


def test_its_json_holds_the_card_and_the_seal(model):
    output = json.loads(inspect(model, as_json=True))
    assert output["card"]["classes"] == ["cat", "dog", "owl"]
    assert output["card"]["budgets"][1]["confidence"] == 0.9
    assert output["bytes"] == model.stat().st_size
    assert len(output["sha256"]) == 64
    assert list(output["graph"]) == ["inputs", "inputs with a default", "outputs"]


def test_a_card_without_figures_says_so(tmp_path):
    output = rows(inspect(toys.write_toy(tmp_path / "model.onnx", toys.EPISODE)))
    assert ["test", "error", "not", "measured"] in output
    assert ["license", "not", "said"] in output
    assert not any("budgets" in row for row in output)


def test_a_changed_file_is_refused(model, tmp_path):
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(model.read_bytes().replace(b"made up", b"made-up"))
    with pytest.raises(ContractError, match="its weights or its card were changed"):
        inspect(changed)
