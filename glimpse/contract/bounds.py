"""What the entries of a card may hold: every figure has its bounds, every text is valid and bounded.

A card is written by whoever made the file, and its figures decide how much memory and time a model takes before the
first image comes: a session makes an image of the card's height and width, and takes the card's number of glimpses.
Standard library only.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from glimpse.contract.card import (
    GRAPHS,
    INPUT_TYPES,
    PRECISIONS,
    SIZE_POLICIES,
    TARGETS,
    ContractError,
    ModelCard,
)
from glimpse.contract.episode import FIRST_LOCATIONS
from glimpse.contract.texts import LONGEST_NAME, LONGEST_TEXT, name_fault, text_fault, visible

MAX_CLASSES = 2**16
MAX_BUDGETS = 4096
MAX_CANVAS_PIXELS = 2**26
"""Pixels of the images that a model is made for: 8192 x 8192."""
MAX_WIDEST_WINDOW = 2**15
"""Side of a retina's widest window, pixels."""
MAX_RECIPE_DEPTH = 16
"""Objects and lists within one another in a recipe."""
MAX_COST = 2**60
"""Multiply-accumulates for an image."""
LIMITS = {
    "height": (1, 2**14),
    "width": (1, 2**14),
    "num_glimpses": (1, 1024),
    "glimpse_size": (1, 1024),
    "num_scales": (1, 16),
    "zoom": (1, 16),
    "window": (1, 2**14),
    "state_size": (1, 2**20),
    "parameters": (0, 2**40),
}
"""Least and largest of each whole number."""
_RETINA = ("glimpse_size", "num_scales", "zoom")
_ADVICE = "expected an ONNX file written by 'glimpse export'"


def check_card(card: ModelCard) -> None:
    """Check that a card holds nothing that this version does not know, and nothing out of bounds.

    Args:
        card: The card, whose entries have the types of :meth:`~glimpse.contract.card.ModelCard.from_json`.

    Raises:
        ContractError: When it does; the message names the entry and its limits.
    """
    _check_choices(card)
    _check_figures(card)
    _check_classes(card.classes)
    _check_measurements(card)
    _check_texts(card)


def _check_choices(card: ModelCard) -> None:
    known = {
        "graph": GRAPHS,
        "input_type": INPUT_TYPES,
        "precision": PRECISIONS,
        "target": TARGETS,
        "size_policy": SIZE_POLICIES,
        "first_location": FIRST_LOCATIONS,
    }
    for name, choices in known.items():
        if getattr(card, name) not in choices:
            raise ContractError(
                f"expected a card with a {name} out of {choices}, got {_short(getattr(card, name))}; use a version "
                "of Glimpse that knows it"
            )


def _check_figures(card: ModelCard) -> None:
    counts = ["height", "width", "num_glimpses"]
    if card.has_retina or card.graph == "step":
        counts += _RETINA
    if card.graph != "episode":
        counts.append("state_size")
    if any(getattr(card, count) is None or getattr(card, count) < 1 for count in counts):
        given = ", ".join(f"{count}={_short(getattr(card, count))}" for count in counts)
        raise ContractError(f"expected whole numbers of at least 1 in the card, got {given}; {_ADVICE}")
    for name, (least, most) in LIMITS.items():
        value = getattr(card, name)
        if value is not None:
            _check_range(f"{name} in the card", value, least, most)
    if card.channels not in (1, 3) or not card.classes:
        raise ContractError(
            f"expected a card with 1 or 3 channels and at least one class, got channels={_short(card.channels)} and "
            f"{len(card.classes)} classes; {_ADVICE}"
        )
    _check_range("height x width in the card", card.height * card.width, 1, MAX_CANVAS_PIXELS)
    if card.retina:
        widest = card.retina.size * card.retina.zoom ** (card.retina.num_scales - 1)
        _check_range("glimpse_size x zoom ^ (num_scales - 1) pixels in the card", widest, 1, MAX_WIDEST_WINDOW)
    if card.window and (card.has_retina or card.graph != "episode"):
        raise ContractError(
            f"expected a window in the card of an episode without a retina alone, got {card.graph!r:.40} with "
            f"glimpse_size={_short(card.glimpse_size)}; {_ADVICE}"
        )
    if not 0 < card.temperature < math.inf:
        raise ContractError(
            f"expected a finite temperature above 0 in the card, got {_short(card.temperature)}; {_ADVICE}"
        )


def _check_classes(classes: tuple[str, ...]) -> None:
    _check_range("a number of classes in the card", len(classes), 1, MAX_CLASSES)
    for place, name in enumerate(classes):
        _check_text(f"class {place}", name, name_fault(name))
    twice = sorted(name for name, count in Counter(classes).items() if count > 1)
    if twice:
        raise ContractError(
            f"expected a card that names each class once, got {_short(twice)} more than once; {_ADVICE}"
        )


def _check_measurements(card: ModelCard) -> None:
    costs = card.multiply_accumulates
    _check_range("a number of multiply_accumulates in the card", len(costs), 0, card.num_glimpses)
    for cost in costs:
        _check_range("multiply_accumulates in the card", cost, 0, MAX_COST)
    if card.test_error is not None:
        _check_range("test_error in the card", card.test_error, 0, 1)
    _check_range("a number of budgets in the card", len(card.budgets), 0, MAX_BUDGETS)
    for budget in card.budgets:
        for name, (least, most) in _budget_limits(card).items():
            value = getattr(budget, name)
            if value is not None:
                _check_range(f"{name} in a budget of the card", value, least, most)


def _budget_limits(card: ModelCard) -> dict[str, tuple[int, int | float]]:
    return {
        "max_glimpses": (1, card.num_glimpses),
        "confidence": (0, 1),
        "glimpses": (0, card.num_glimpses),
        "accuracy": (0, 1),
        "multiply_accumulates": (0, MAX_COST),
        "milliseconds": (0, 1e9),
    }


def _check_texts(card: ModelCard) -> None:
    for name, text in (("model", card.model), *card.versions.items()):
        _check_text(f"{_short(name)}", name, name_fault(name))
        _check_text(f"{_short(name)}", text, text_fault(text, LONGEST_NAME))
    for name in ("data", "license", "measured_on"):
        text = getattr(card, name)
        if text is not None:
            _check_text(name, text, text_fault(text))
    for value in _values_in(card.recipe):
        if isinstance(value, str):
            _check_text("the recipe", value, text_fault(value))
        elif isinstance(value, int | float) and not abs(value) < (2**63 if isinstance(value, int) else math.inf):
            raise ContractError(
                f"expected finite numbers of 64 bits in the card's recipe, got {_short(value)}; {_ADVICE}"
            )


def _values_in(tree: Any) -> Iterator[Any]:
    """All names and values of JSON objects and lists, however deep."""
    level = [tree]
    for _ in range(MAX_RECIPE_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value, *value.values()]
            elif isinstance(value, list | tuple):
                below += value
            else:
                yield value
        level = below
    if level:
        raise ContractError(
            f"expected a recipe of at most {MAX_RECIPE_DEPTH} objects within one another in the card, got more; "
            f"{_ADVICE}"
        )


def _check_range(what: str, value: int | float, least: int | float, most: int | float) -> None:
    if not least <= value <= most:
        raise ContractError(f"expected {what} from {least:,} to {most:,}, got {_short(value)}; {_ADVICE}")


def _check_text(where: str, text: str, fault: str | None) -> None:
    if fault is not None:
        raise ContractError(
            f"expected texts of printable UTF-8 and at most {LONGEST_TEXT:,} characters in the card, names of at most "
            f"{LONGEST_NAME}, got under {where} {_short(text)}, which {fault}; rename it, and export the model again"
        )


def _short(value: Any) -> str:
    return visible(repr(value), 80)
