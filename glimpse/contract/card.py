"""The card of an exported model, which describes its graph, its inputs and its accuracy. Standard library only.

An ONNX file written by Glimpse carries its card as JSON under the metadata key ``glimpse.card``. The runtime rejects
a file without one, because nothing else in the file describes what its numbers mean. The file also
contains its SHA-256, so that a file with a changed weight is rejected.

There are three kinds of graph. An *episode* takes all its glimpses in a straight line of operators. An *adaptive* graph
takes them in a loop, which ends when every image is classified with the requested confidence; it can go on from
a state, and its images may be parts of larger ones. The input of a *step* is one glimpse, which the caller cuts.
"""

import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

from glimpse.contract.tensors import TensorSpec, inputs_of, outputs_of

CARD_KEY = "glimpse.card"
SCHEMA_VERSION = 3
GRAPHS = ("adaptive", "episode", "step")
INPUT_TYPES = ("uint8", "float32")
PRECISIONS = ("float32", "float16", "int8")
TARGETS = ("cpu", "gpu")
FIT, SQUASH = "fit", "squash"
SIZE_POLICIES = (FIT, SQUASH)
"""How an image of another size comes onto the canvas: its proportions kept, in the middle of black; or scaled to all of
it, its proportions not kept."""
MAX_CARD_BYTES = 4 * 2**20
"""Bytes of a card's JSON."""


class ContractError(ValueError):
    """A model file that does not describe itself, or does so in a form that this version can't read."""


class CanvasShape(NamedTuple):
    """The images that a model takes, in the order of the arguments of :func:`glimpse.images.pixels.fit`."""

    height: int
    """Pixels."""
    width: int
    """Pixels."""
    channels: int
    """1 (grey) or 3 (RGB)."""
    size_policy: str = FIT
    """How an image of another size comes onto it, one of :data:`SIZE_POLICIES`."""


class RetinaGeometry(NamedTuple):
    """The windows of a retina, in the order of the arguments of the functions that cut glimpses."""

    size: int
    """Side of a glimpse in pixels, the same at every scale."""
    num_scales: int
    """Windows in a glimpse."""
    zoom: int
    """How many times wider each window is than the one before it."""


@dataclass(frozen=True)
class Budget:
    """Accuracy and cost of a model under one budget, measured on validation images.

    Attributes:
        max_glimpses: Glimpses it may take.
        confidence: Probability at which it stops earlier; None where it does not.
        glimpses: Mean number of glimpses that it took.
        accuracy: Share of the images that it classified correctly, in [0, 1].
        multiply_accumulates: Mean number for one image.
        milliseconds: Mean time for one image, one at a time on one thread; None where it was not measured.
    """

    max_glimpses: int
    confidence: float | None
    glimpses: float
    accuracy: float
    multiply_accumulates: int
    milliseconds: float | None


@dataclass(frozen=True)
class ModelCard:
    """The card of an exported model: everything that its user needs.

    Attributes:
        model: The family of the model, such as ``hard`` or ``soft``.
        graph: The kind of graph, one of ``GRAPHS``.
        classes: The class names, in the order of the logits.
        channels: Channels of the input image: 1 (grey) or 3 (RGB).
        height: Height in pixels of the images that it was trained on.
        width: Width in pixels of the images that it was trained on.
        input_type: One of ``INPUT_TYPES``; of a step, what its caller has before cutting.
        precision: What it computes in, one of ``PRECISIONS``; inputs and outputs are float32 in any case.
        target: What it is made for, one of ``TARGETS``: ``gpu`` leaves no pixel and no number of the model's to the
            processor, ``cpu`` has a faster cut for single images, which is not for GPUs.
        size_policy: What to do with an image of another size: ``fit`` scales it, keeping its proportions, and centres
            it on black; ``squash`` scales it to height x width, so that there is no black, and its proportions change.
        num_glimpses: Glimpses in an episode; 1 for a model that takes the image in at once.
        first_location: Where its first glimpses were in training, one of
            :data:`glimpse.contract.episode.FIRST_LOCATIONS`; so they were where its figures were measured. A graph
            begins at the centre whatever this says, unless its caller gives it another location.
        glimpse_size: Side of a glimpse in pixels, the same at every scale; None for a model without a retina.
        num_scales: Windows in a glimpse; None for a model without a retina.
        zoom: How many times wider each window is than the one before it; None for a model without a retina.
        window: Side of the windows, pixels of the canvas, of a model that glances and focuses: its first glimpse is the
            whole image, the others are windows; None for all other models.
        state_size: Length of the state of an adaptive graph or a step; None for an episode.
        has_maps: Whether the graph has attention maps among its outputs.
        any_size: Whether the graph takes images of any height and width.
        temperature: What the logits are divided by before the softmax (Guo et al. 2017), fitted on validation images.
        multiply_accumulates: For one image with 1 glimpse, 2 glimpses, up to ``num_glimpses``.
        parameters: How many numbers the model learnt.
        budgets: Accuracy and cost under budgets, measured on validation images; empty where they were not measured.
        measured_on: The processor on which the budgets' milliseconds were measured; None where there are none.
        data: The data set and the canvas that it was trained on, in words.
        recipe: The arguments that made the model, as JSON values.
        test_error: Share of test images that the model gets wrong, in [0, 1]; None where it was not measured.
        license: Under which the model may be used, in words or as an SPDX identifier; None where none was given.
        versions: The versions of what made the file.
        schema_version: The version of this card's form.
    """

    model: str
    graph: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    num_glimpses: int
    glimpse_size: int | None
    num_scales: int | None
    zoom: int | None
    has_maps: bool
    any_size: bool
    data: str
    recipe: dict[str, Any]
    versions: dict[str, str]
    input_type: str = "uint8"
    precision: str = "float32"
    target: str = "cpu"
    size_policy: str = FIT
    first_location: str = "centre"
    window: int | None = None
    state_size: int | None = None
    temperature: float = 1.0
    multiply_accumulates: tuple[int, ...] = ()
    parameters: int = 0
    budgets: tuple[Budget, ...] = ()
    measured_on: str | None = None
    test_error: float | None = None
    license: str | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def has_retina(self) -> bool:
        """Whether the model has a retina."""
        return self.glimpse_size is not None

    @property
    def has_boxes(self) -> bool:
        """Whether the graph says where each glimpse lay: that of a model with a retina, or with windows."""
        return self.has_retina or self.window is not None

    @property
    def takes_channels_last(self) -> bool:
        """Whether the graph takes a single colour image whose channels lie last in memory."""
        return self.channels > 1 and self.has_retina and self.target == "cpu"

    @property
    def canvas(self) -> CanvasShape:
        """The canvas onto which images are brought."""
        return CanvasShape(self.height, self.width, self.channels, self.size_policy)

    @property
    def retina(self) -> RetinaGeometry | None:
        """The retina's windows; None for a model without a retina."""
        if self.glimpse_size is None or self.num_scales is None or self.zoom is None:
            return None
        return RetinaGeometry(self.glimpse_size, self.num_scales, self.zoom)

    @cached_property
    def input_tensors(self) -> dict[str, TensorSpec]:
        """The graph's inputs by name, in order, made once a card; see :func:`glimpse.contract.tensors.inputs_of`."""
        return inputs_of(self)

    @cached_property
    def output_tensors(self) -> dict[str, TensorSpec]:
        """The graph's outputs by name, in order, made once a card."""
        return outputs_of(self)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the graph's inputs that a caller has to give, in order."""
        return tuple(name for name, tensor in self.input_tensors.items() if not tensor.has_default)

    @cached_property
    def options(self) -> tuple[str, ...]:
        """Names of the graph's inputs that have a default, in order."""
        return tuple(name for name, tensor in self.input_tensors.items() if tensor.has_default)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in order."""
        return tuple(self.output_tensors)

    def to_json(self) -> str:
        """Write the card as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        """Read a card.

        Raises:
            ContractError: When the text is no card, one of more than ``MAX_CARD_BYTES``, a card of another schema
                version, or one with a value of another type than its entry's. What the values may be beyond their
                types is checked by :func:`glimpse.contract.bounds.check_card`.
        """
        if len(text) > MAX_CARD_BYTES:
            raise ContractError(
                f"expected a model card of at most {MAX_CARD_BYTES:,} bytes, got {len(text):,}; {_AGAIN}"
            )
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ContractError(f"the model's card is no valid JSON ({error}); export the model again") from error
        version = values.get("schema_version") if isinstance(values, dict) else None
        if version != SCHEMA_VERSION:
            raise ContractError(
                f"expected a model card of schema version {SCHEMA_VERSION}, got {version!r:.60}; "
                "export the model again with this version of Glimpse, or use the version that wrote it"
            )
        values.setdefault("first_location", "centre")  # a card of before there was a choice
        values.setdefault("window", None)  # a card of before there were windows
        _check_names(values, cls, "the model's card")
        for name, (expected, types) in _ENTRIES.items():
            value = values[name]
            listed = value if name in _LISTED and isinstance(value, list) else ()
            if type(value) not in types or any(type(entry) not in _LISTED[name] for entry in listed):
                raise ContractError(
                    f"the model's card should say {expected} under {name!r}, got {json.dumps(value)[:60]}; {_AGAIN}"
                )
        if any(type(version) is not str for version in values["versions"].values()):
            given = json.dumps(values["versions"])[:60]
            raise ContractError(f"the model's card should say texts under 'versions', got {given}; {_AGAIN}")
        for budget in values["budgets"]:
            _check_names(budget, Budget, "a budget in the model's card")
            if any(
                type(entry) not in ((int,) if name in _WHOLE_IN_BUDGET else (int, float))
                and not (entry is None and name in _MAY_BE_NULL)
                for name, entry in budget.items()
            ):
                raise ContractError(
                    "expected numbers in a budget of the model's card, whole ones for "
                    f"{' and '.join(_WHOLE_IN_BUDGET)}, and null at most for "
                    f"{' and '.join(_MAY_BE_NULL)}, got {budget!s:.400}; {_AGAIN}"
                )
        return cls(
            **{
                **values,
                "classes": tuple(values["classes"]),
                "multiply_accumulates": tuple(values["multiply_accumulates"]),
                "budgets": tuple(Budget(**budget) for budget in values["budgets"]),
            }
        )


def _check_names(values: dict[str, Any], made: type, what: str) -> None:
    known = {field.name for field in fields(made)}
    missing, unknown = sorted(known - values.keys()), sorted(values.keys() - known)
    if missing or unknown:
        raise ContractError(f"{what} lacks {missing} and has unknown entries {unknown!s:.200}; {_AGAIN}")


_AGAIN = "export the model again with this version of Glimpse"
_TEXT, _WHOLE, _OBJECT = ("a text", (str,)), ("a whole number", (int,)), ("an object", (dict,))
_WHOLE_OR_NULL, _TRUTH = ("a whole number or null", (int, type(None))), ("true or false", (bool,))
_TEXT_OR_NULL = ("a text or null", (str, type(None)))
_ENTRIES: dict[str, tuple[str, tuple[type, ...]]] = {
    "model": _TEXT,
    "graph": _TEXT,
    "classes": ("a list of names", (list,)),
    "channels": _WHOLE,
    "height": _WHOLE,
    "width": _WHOLE,
    "input_type": _TEXT,
    "precision": _TEXT,
    "target": _TEXT,
    "size_policy": _TEXT,
    "num_glimpses": _WHOLE,
    "glimpse_size": _WHOLE_OR_NULL,
    "num_scales": _WHOLE_OR_NULL,
    "zoom": _WHOLE_OR_NULL,
    "first_location": _TEXT,
    "window": _WHOLE_OR_NULL,
    "state_size": _WHOLE_OR_NULL,
    "has_maps": _TRUTH,
    "any_size": _TRUTH,
    "temperature": ("a number", (int, float)),
    "multiply_accumulates": ("a list of whole numbers", (list,)),
    "parameters": _WHOLE,
    "budgets": ("a list of objects", (list,)),
    "measured_on": _TEXT_OR_NULL,
    "data": _TEXT,
    "recipe": _OBJECT,
    "test_error": ("a number or null", (int, float, type(None))),
    "license": _TEXT_OR_NULL,
    "versions": _OBJECT,
}
"""What each entry of a card holds, in words and as JSON's types."""
_MAY_BE_NULL = ("confidence", "milliseconds")
"""Those entries of a budget that may be unknown."""
_WHOLE_IN_BUDGET = ("max_glimpses", "multiply_accumulates")
"""Those that are whole numbers."""
_LISTED: dict[str, tuple[type, ...]] = {"classes": (str,), "multiply_accumulates": (int,), "budgets": (dict,)}
"""What the lists among them hold."""
