"""``glimpse inspect``: an exported model's card, its graph, and its accuracy under several budgets. No torch."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glimpse.cli.parser import add_json
from glimpse.contract.card import FIT, SQUASH, ModelCard
from glimpse.contract.texts import visible
from glimpse.runtime.model_file import ModelFile, load_model_file

_OTHERS = {FIT: "are made to fit", SQUASH: "are squashed to it"}
"""What happens to images of other sizes, by the card's size policy."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX file that 'glimpse export' wrote")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the description of an exported model.

    Args:
        args: The arguments of :func:`add_arguments`.

    Raises:
        ContractError: See :func:`inspect`.
    """
    print(inspect(args.model, args.json))
    return 0


def inspect(path: Path, as_json: bool = False) -> str:
    """Describe an exported model, having checked that it is whole.

    Args:
        path: An ONNX file written by ``glimpse export``.
        as_json: Whether to return JSON.

    Raises:
        ContractError: When it is none, or was changed since it was written.
    """
    model = load_model_file(path)
    return json.dumps(_as_values(path, model), indent=2) if as_json else _as_text(path, model)


def _as_values(path: Path, model: ModelFile) -> dict[str, Any]:
    return {
        "path": str(path),
        "bytes": len(model.content),
        "sha256": model.sha256,
        "card": asdict(model.card),
        "graph": model.tensors,
    }


def _as_text(path: Path, model: ModelFile) -> str:
    card = model.card
    glimpses = f"{card.num_glimpses} glimpse{'s' * (card.num_glimpses > 1)}"
    lines = [
        f"{visible(str(path))}: {card.model} model, {card.graph} graph in {card.precision} for {card.target}, "
        f"{glimpses}",
        "",
        *_aligned(_facts(model)),
    ]
    for what, tensors in model.tensors.items():
        lines += ["", what, *_aligned(tensors)] if tensors else []
    if card.budgets:
        lines += ["", *_budgets(card)]
    lines += ["", "recipe", *_aligned(_recipe(card))] if card.recipe else []
    return "\n".join(lines)


def _facts(model: ModelFile) -> dict[str, str]:
    card = model.card
    names = ", ".join(card.classes[:12]) + (f" and {len(card.classes) - 12} more" if len(card.classes) > 12 else "")
    colour = "grey" if card.channels == 1 else "RGB"
    span = "0 to 255" if card.input_type == "uint8" else "0 to 1"
    facts = {
        "classes": f"{len(card.classes)}: {names}",
        "images": f"{card.input_type} NCHW, {colour}, {span}, {card.width} x {card.height}"
        f" ({'any size' if card.any_size else 'no other size'}); others {_OTHERS[card.size_policy]}",
    }
    if card.has_retina:
        widest = (card.glimpse_size or 0) * (card.zoom or 1) ** ((card.num_scales or 1) - 1)
        scales = f"{card.num_scales} scale{'s' * ((card.num_scales or 1) > 1)}"
        facts["retina"] = f"{card.glimpse_size} x {card.glimpse_size} pixels at {scales}, the widest window {widest}"
        facts["trained from"] = "random first locations" if card.first_location == "random" else "the centre"
    if card.window:
        facts["windows"] = f"a glance at the whole, then windows of {card.window} x {card.window} pixels"
    facts |= {
        "data": card.data,
        "test error": "not measured" if card.test_error is None else f"{card.test_error:.2%}",
        "temperature": f"{card.temperature:g}",
        "parameters": f"{card.parameters:,}",
        "multiply-accumulates": f"{card.multiply_accumulates[-1]:,} an image" if card.multiply_accumulates else "",
        "size": f"{len(model.content):,} bytes",
        "sha256": model.sha256,
        "license": card.license or "not said",
        "versions": ", ".join(f"{name} {version}" for name, version in card.versions.items()),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _budgets(card: ModelCard) -> list[str]:
    heads = ("budget", "glimpses", "accuracy", "multiply-accumulates", "milliseconds")
    rows = [
        (
            f"{budget.max_glimpses} glimpse{'s' * (budget.max_glimpses > 1)}"
            if budget.confidence is None
            else f"confidence {budget.confidence:g}",
            f"{budget.glimpses:.2f}",
            f"{budget.accuracy:.2%}",
            f"{budget.multiply_accumulates:,}",
            "-" if budget.milliseconds is None else f"{budget.milliseconds:.3f}",
        )
        for budget in card.budgets
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    measured = f"; one image on one thread of {card.measured_on}" if card.measured_on else ""
    lines = [f"what budgets are worth, on validation images{measured}"]
    for row in (heads, *rows):
        first, *rest = (
            text.ljust(width) if not place else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  " + "  ".join((first, *rest)))
    return lines


def _recipe(card: ModelCard) -> dict[str, str]:
    flat: dict[str, str] = {}
    for group, values in card.recipe.items():
        if isinstance(values, dict):
            flat |= {f"{group}.{name}": json.dumps(value) for name, value in values.items()}
        else:
            flat[group] = json.dumps(values)
    return flat


def _aligned(entries: dict[str, str]) -> list[str]:
    width = max(map(len, entries), default=0)
    return [f"  {name.ljust(width)}  {entry}" for name, entry in entries.items()]
