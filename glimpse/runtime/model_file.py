"""Reading an exported model's file, with errors for a file of another kind, a damaged one, or one unlike its card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime

from glimpse.contract.bounds import check_card
from glimpse.contract.card import CARD_KEY, ContractError, ModelCard
from glimpse.contract.onnx_file import MAX_FILE_BYTES, read_metadata
from glimpse.contract.seal import read_seal
from glimpse.contract.tensors import GLIMPSE, INPUT, LOCATION, inputs_of, outputs_of
from glimpse.contract.texts import visible
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


def load_model_file(path: Path, sha256: str | None = None) -> ModelFile:
    """Read an exported model, once, and check its card and its seal; only then does onnxruntime get its bytes.

    Args:
        path: An ONNX file written by ``glimpse export``.
        sha256: The seal that it must have; any when left out.

    Raises:
        ContractError: When there is no such file, it is no ONNX file, it lacks its card or its seal, was changed since
            it was sealed or is another one than ``sha256`` names, has an entry in its card that is out of bounds, has
            tensors in other files, or its card and its graph do not agree.
    """
    content = _read(path)
    try:
        metadata = read_metadata(content)
    except ContractError as error:
        raise ContractError(f"can't load the model {str(path)!r} ({error}); {_ADVICE}") from error
    text = metadata.get(CARD_KEY)
    if text is None:
        raise ContractError(
            f"{str(path)!r} has no model card (metadata key {CARD_KEY!r}), so nothing says what its numbers "
            f"mean; {_ADVICE}"
        )
    try:
        card = ModelCard.from_json(text)
        found = read_seal(content)
        if sha256 not in (None, found):
            raise ContractError(f"expected the file with the seal {sha256}, got that with {found}; it was replaced")
        check_card(card)
        tensors = _check_graph(_header(content), card)
    except ContractError as error:
        raise ContractError(f"{str(path)!r}: {error}") from error
    return ModelFile(content, card, found, tensors)


def _header(content: bytes) -> Any:
    """A session for reading the types of the tensors; it is not optimised, so nothing is computed."""
    settings = quiet_options(threads=1)
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no parent of their own
        raise ContractError(f"onnxruntime can't load the model ({visible(str(error), 500)}); {_ADVICE}") from error


def _read(path: Path) -> bytes:
    if not path.is_file():
        what = "a directory" if path.is_dir() else "no regular file" if path.exists() else "no such file"
        raise ContractError(f"can't load the model {str(path)!r}: {what}; {_ADVICE}")
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ContractError(
                f"can't load the model {str(path)!r}: {size:,} bytes, more than an ONNX file can have; {_ADVICE}"
            )
        with path.open("rb") as stream:
            start = stream.read(4)
            if start == b"PK\x03\x04" or start[:1] == b"\x80":
                raise ContractError(
                    f"{str(path)!r} is a checkpoint or pickled code, no exported model; {_ADVICE}, run "
                    "'glimpse export CHECKPOINT' first"
                )
            return start + stream.read(size)
    except OSError as error:
        raise ContractError(f"can't load the model {str(path)!r} ({error.strerror}); check its permissions") from error


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
