"""Reading an exported model's file, with errors for a file of another kind, a damaged one, or one unlike its card."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime

from glimpse.contract.card import CARD_KEY, GRAPHS, INPUT_TYPES, PRECISIONS, TARGETS, ContractError, ModelCard
from glimpse.contract.seal import read_seal
from glimpse.contract.tensors import GLIMPSE, INPUT, LOCATION, inputs_of, outputs_of
from glimpse.runtime.providers import quiet_options

_ADVICE = "expected an ONNX file written by 'glimpse export'"
_OPEN = (INPUT, GLIMPSE, LOCATION)
"""Tensors whose axes of any length may not have a fixed length in the graph."""


class ModelFile(NamedTuple):
    """An exported model whose card, seal and graph were checked."""

    content: bytes
    """The ONNX file."""
    card: ModelCard
    """Its model card."""
    sha256: str
    """Its seal."""
    tensors: dict[str, dict[str, str]]
    """Types and shapes, by ``inputs``, ``inputs with a default`` and ``outputs``, and by their names."""


def load_model_file(path: Path) -> ModelFile:
    """Read an exported model, once, and check its card and its seal.

    Args:
        path: An ONNX file written by ``glimpse export``.

    Raises:
        ContractError: When there is no such file, it is no ONNX file, it lacks its card or its seal, was changed since
            it was sealed, or its card and its graph do not agree.
    """
    content = _read(path)
    settings = quiet_options(threads=1)
    # Only the metadata and the types of the tensors are read here.
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no parent of their own
        raise ContractError(f"onnxruntime can't load the model {str(path)!r} ({error}); {_ADVICE}") from error
    text = session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
    if text is None:
        raise ContractError(
            f"{str(path)!r} has no model card (metadata key {CARD_KEY!r}), so nothing says what its numbers "
            f"mean; {_ADVICE}"
        )
    try:
        card = ModelCard.from_json(text)
        sha256 = read_seal(content)
        _check_card(card)
        tensors = _check_graph(session, card)
    except ContractError as error:
        raise ContractError(f"{str(path)!r}: {error}") from error
    return ModelFile(content, card, sha256, tensors)


def _read(path: Path) -> bytes:
    if not path.is_file():
        what = "a directory" if path.is_dir() else "no regular file" if path.exists() else "no such file"
        raise ContractError(f"can't load the model {str(path)!r}: {what}; {_ADVICE}")
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
            if start == b"PK\x03\x04" or start[:1] == b"\x80":
                raise ContractError(
                    f"{str(path)!r} is a checkpoint or pickled code, no exported model; {_ADVICE}, run "
                    "'glimpse export CHECKPOINT' first"
                )
            return start + stream.read()
    except OSError as error:
        raise ContractError(f"can't load the model {str(path)!r} ({error.strerror}); check its permissions") from error


def _check_card(card: ModelCard) -> None:
    """Raise an error for a card with values that this version does not know."""
    known = {"graph": GRAPHS, "input_type": INPUT_TYPES, "precision": PRECISIONS}
    known |= {"target": TARGETS}
    known |= {"size_policy": ("fit",)}
    for name, choices in known.items():
        if getattr(card, name) not in choices:
            raise ContractError(
                f"expected a card with a {name} out of {choices}, got {getattr(card, name)!r}; use a version of "
                "Glimpse that knows it"
            )
    counts = ["height", "width", "num_glimpses"]
    if card.has_retina or card.graph == "step":
        counts += ["glimpse_size", "num_scales", "zoom"]
    if card.graph != "episode":
        counts.append("state_size")
    if any(not isinstance(getattr(card, count), int) or getattr(card, count) < 1 for count in counts):
        given = ", ".join(f"{count}={getattr(card, count)!r}" for count in counts)
        raise ContractError(f"expected whole numbers of at least 1 in the card, got {given}; {_ADVICE}")
    if card.channels not in (1, 3) or not card.classes:
        raise ContractError(
            f"expected a card with 1 or 3 channels and at least one class, got channels={card.channels} and "
            f"{len(card.classes)} classes; {_ADVICE}"
        )
    twice = sorted({name for name in card.classes if card.classes.count(name) > 1})
    if twice:
        raise ContractError(f"expected a card that names each class once, got {twice} more than once; {_ADVICE}")
    if not 0 < card.temperature < math.inf:
        raise ContractError(f"expected a finite temperature above 0 in the card, got {card.temperature}; {_ADVICE}")


def _check_graph(session: Any, card: ModelCard) -> dict[str, dict[str, str]]:
    """Return the tensors; raise an error for a graph unlike its card: by its tensors, their types or their shapes."""
    expected, tensors = _tensors(card), {}
    for what, names, nodes in (
        ("inputs", card.inputs, session.get_inputs()),
        ("inputs with a default", card.options, session.get_overridable_initializers()),
        ("outputs", card.outputs, session.get_outputs()),
    ):
        found = {node.name: node for node in nodes}
        if set(found) != set(names):
            raise ContractError(f"expected the {what} {tuple(names)} as its card says, got {tuple(found)}; {_ADVICE}")
        for name, node in found.items():
            kind, shape = expected[name]
            if node.type != f"tensor({kind})" or not _agree(node.shape, shape):
                raise ContractError(
                    f"expected {name!r} as {kind} {_shown(shape)}, as its card says, got {node.type} "
                    f"{_shown(node.shape)}; {_ADVICE}"
                )
        tensors[what] = {name: f"{expected[name][0]} {_shown(found[name].shape)}" for name in names}
    return tensors


def _tensors(card: ModelCard) -> dict[str, tuple[str, list[int | str | None]]]:
    """ONNX's type and the shape of every tensor; a text for a length that has to be open, None for one that may be."""
    return {
        name: (
            tensor.dtype.removesuffix("32"),
            [(f"any {axis}" if name in _OPEN else None) if isinstance(axis, str) else axis for axis in tensor.shape],
        )
        for name, tensor in (inputs_of(card) | outputs_of(card)).items()
    }


def _agree(shape: Sequence[int | str | None], wanted: Sequence[int | str | None]) -> bool:
    """Whether a graph's shape, with its symbols and unknowns, can be the wanted one."""
    return len(shape) == len(wanted) and all(
        not isinstance(given, int) or expected is None or given == expected
        for given, expected in zip(shape, wanted, strict=True)
    )


def _shown(shape: Sequence[int | str | None]) -> str:
    return f"({', '.join('any' if length is None else str(length) for length in shape)})"
