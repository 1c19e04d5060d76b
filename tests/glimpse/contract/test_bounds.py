from dataclasses import replace
from typing import Any

import pytest

from glimpse.contract.bounds import MAX_CANVAS_PIXELS, MAX_CLASSES, MAX_RECIPE_DEPTH, check_card
from glimpse.contract.card import MAX_CARD_BYTES, Budget, ContractError, ModelCard
from tests.support.toys import ADAPTIVE, EPISODE, STEP

BUDGET = Budget(5, 0.9, 2.5, 0.97, 400, 0.2)


def nested(depth: int) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for _ in range(depth - 1):
        tree = {"a": tree}
    return tree


@pytest.mark.parametrize("card", [ADAPTIVE, EPISODE, STEP], ids=lambda card: card.graph)
def test_a_card_in_order_passes(card):
    full = replace(
        card,
        budgets=(BUDGET, replace(BUDGET, confidence=None, milliseconds=None)),
        multiply_accumulates=(1, 2, 3, 4, 5),
        test_error=0.0,
        license="MIT",
        measured_on="a processor",
        versions={"glimpse": "0.1.0"},
        recipe={"data": {"size": [28, 28.5, None, True]}},
    )
    check_card(full)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("num_glimpses", 1025, "num_glimpses in the card from 1 to 1,024, got 1025"),
        ("height", 16385, "height in the card from 1 to 16,384, got 16385"),
        ("width", 2**40, "width in the card from 1 to 16,384, got 1099511627776"),
        ("glimpse_size", 4096, "glimpse_size in the card from 1 to 1,024"),
        ("num_scales", 17, "num_scales in the card from 1 to 16"),
        ("zoom", 17, "zoom in the card from 1 to 16"),
        ("state_size", 2**31, "state_size in the card from 1 to 1,048,576"),
        ("parameters", -1, "parameters in the card from 0 to"),
        ("window", 2**15, "window in the card from 1 to 16,384, got 32768"),
        ("window", 8, "a window in the card of an episode without a retina alone, got 'adaptive'"),
        ("test_error", 1.5, "test_error in the card from 0 to 1, got 1.5"),
        ("test_error", float("nan"), "test_error in the card from 0 to 1, got nan"),
        ("temperature", float("inf"), "a finite temperature above 0"),
        ("channels", 4, "1 or 3 channels"),
        ("multiply_accumulates", (1,) * 6, "a number of multiply_accumulates in the card from 0 to 5, got 6"),
        ("multiply_accumulates", (2**61,), "multiply_accumulates in the card from 0 to"),
        ("budgets", (BUDGET,) * 4097, "a number of budgets in the card from 0 to 4,096"),
        ("budgets", (replace(BUDGET, accuracy=1.1),), "accuracy in a budget"),
        ("budgets", (replace(BUDGET, glimpses=float("inf")),), "glimpses in a budget of the card from 0 to 5"),
        ("budgets", (replace(BUDGET, max_glimpses=6),), "max_glimpses in a budget of the card from 1 to 5"),
        ("budgets", (replace(BUDGET, milliseconds=float("nan")),), "milliseconds in a budget"),
        ("recipe", {"lr": float("inf")}, "finite numbers of 64 bits in the card's recipe, got inf"),
        ("recipe", {"seed": 2**64}, "finite numbers of 64 bits in the card's recipe"),
        ("recipe", nested(MAX_RECIPE_DEPTH + 1), "at most 16 objects within one another"),
        ("classes", tuple(map(str, range(MAX_CLASSES + 1))), "a number of classes in the card from 1 to 65,536"),
    ],
)
def test_a_figure_out_of_bounds_is_named_with_its_limits(name, value, sentence):
    with pytest.raises(ContractError, match=f"expected .*{sentence}"):
        check_card(replace(ADAPTIVE, **{name: value}))


def test_a_product_of_figures_has_bounds_as_well():
    assert MAX_CANVAS_PIXELS < 16384**2
    with pytest.raises(ContractError, match="height x width in the card from 1 to 67,108,864, got 268435456"):
        check_card(replace(ADAPTIVE, height=16384, width=16384))
    with pytest.raises(ContractError, match="pixels in the card from 1 to 32,768, got 4611686018427387904"):
        check_card(replace(ADAPTIVE, glimpse_size=4, num_scales=16, zoom=16))


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"classes": ("ok", "na\udcefve", "c")}, "class 1"),
        ({"classes": ("ok", "x" * 257, "c")}, "class 1"),
        ({"classes": ("", "b", "c")}, "class 0"),
        ({"model": "hard\x1b[1m"}, "model"),
        ({"data": "digits\u202e"}, "data"),
        ({"license": "MIT\0"}, "license"),
        ({"measured_on": "a\nb"}, "measured_on"),
        ({"versions": {"torch\r": "2"}}, "torch"),
        ({"versions": {"torch": "2\x1b"}}, "torch"),
        ({"recipe": {"a": [{"b": "x\x9b"}]}}, "the recipe"),
        ({"recipe": {"key\ud800": 1}}, "the recipe"),
        ({"recipe": {"a": "x" * 5000}}, "the recipe"),
    ],
)
def test_every_text_is_valid_and_bounded_and_named_without_its_codes(changes, place):
    with pytest.raises(ContractError) as refused:
        check_card(replace(ADAPTIVE, **changes))
    assert place in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


def test_thousands_of_classes_take_no_time_that_grows_with_their_square():
    with pytest.raises(ContractError, match=r"names each class once, got \['same'\] more than once"):
        check_card(replace(ADAPTIVE, classes=("same", *map(str, range(MAX_CLASSES - 2)), "same")))


def test_a_huge_card_is_refused_before_it_is_parsed():
    with pytest.raises(ContractError, match=f"at most {MAX_CARD_BYTES:,} bytes, got"):
        ModelCard.from_json("[" * (MAX_CARD_BYTES + 1))
