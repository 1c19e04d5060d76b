"""The names, types and shapes of an exported graph's inputs and outputs.

Export, the runtime and the service take them from here: :func:`inputs_of` and :func:`outputs_of`.
"""

from typing import NamedTuple, Protocol, runtime_checkable

INPUT = "images"
"""(batch, channels, height, width), RGB or grey, not normalised: uint8 from 0 to 255, or float32 from 0 to 1, as the
card states. Of an episode and an adaptive graph."""

FIRST_LOCATION = "first_location"
"""float32 (batch or 1, 2): where to look first, (x, y) in [-1, 1]; the middle when left out. Of models that look
through a retina, in an episode and an adaptive graph."""

CONFIDENCE = "confidence"
"""float32 (): the glimpses of an image end when a class has this probability or more; more than 1, which
is never, when left out. Of an adaptive graph."""

MAX_GLIMPSES = "max_glimpses"
"""int64 (): how many glimpses to take at most; one at least is taken, those of the card when left out. Of an adaptive
graph."""

STATE = "state"
"""float32 (batch or 1, state_size): the state to continue from; zeros, the initial state, when left out of an adaptive
graph. There it needs a batch of one."""

FRAME = "frame"
"""float32 (4,): left and top of the images within the larger image that they are a part of, and its width and height,
pixels. Locations and boxes are those of the larger image. Zeros, for images that are no part of another, when left out.
Of an adaptive graph."""

CHANNELS_LAST = "channels_last"
"""int64 (): 1 where the pixels of one colour image lie row by row, the channels of each together, as in a picture file,
although the shape of the images is that of planes, (1, channels, height, width): such an image need not be copied. 0,
planes, when left out; batches are always planes. Of an adaptive graph for colours on processors."""

GLIMPSE = "glimpse"
"""float32 (batch, scales, channels, size, size): pixels in [0, 1], finest scale first; 0 outside the image. Of a
step."""

LOCATION = "location"
"""float32 (batch, 2): where the glimpse was cut, (x, y) in [-1, 1]. Of a step."""

LOGITS = "logits"
"""float32 (batch, time, classes): the belief after each glimpse, before the softmax. Of a step without the time."""

PROBABILITIES = "probabilities"
"""float32 (batch, time, classes): the softmax of the logits over the card's temperature. Of a step without the time."""

LOCATIONS = "locations"
"""float32 (batch, time, 2): each fixation, (x, y) in [-1, 1]; the mean location where attention is spread out."""

BOXES = "boxes"
"""float32 (batch, time, scales, 4): each glimpse's windows, pixels, (left, top, right, bottom), finest scale first. Of
models that look through a retina, and of those that glance and focus, whose first box is the whole image."""

MAPS = "maps"
"""float32 (batch, time, map_height, map_width): each glimpse's attention weights over equal cells of the image, which
sum to one. Of models whose attention is spread out."""

GLIMPSES = "glimpses"
"""int64 (batch,): how many glimpses each image took; what follows them in the other outputs repeats the last. Of an
adaptive graph."""

NEXT_STATE = "next_state"
"""float32 (batch, state_size): the state after the last glimpse. Of an adaptive graph and a step."""

NEXT_LOCATION = "next_location"
"""float32 (batch, 2): where it would look next, (x, y) in [-1, 1]. Of an adaptive graph and a step."""


class TensorSpec(NamedTuple):
    """An input or an output of one model's graph."""

    name: str
    dtype: str
    """``uint8``, ``float32`` or ``int64``."""
    shape: tuple[int | str, ...]
    """A length, or the name of an axis of any length: ``batch``, ``time``, ``height``, ``width``, ``map_height``,
    ``map_width``; ``locations`` and ``states`` are the batch or 1."""
    has_default: bool = False
    """Whether it is an input that may be left out."""


class _Entry(NamedTuple):
    """An input or an output of some kinds of graphs."""

    name: str
    graphs: tuple[str, ...]
    """The kinds of graphs that have it."""
    dtype: str
    """``input_type`` stands for that entry of the card."""
    axes: tuple[int | str, ...]
    """The lengths; a name stands for that entry of the card, or for an axis of any length."""
    has_default: bool = False
    needs: str | None = None
    """Property of the card that has to hold."""


_ADAPTIVE, _EPISODE, _STEP, _IMAGES = ("adaptive",), ("episode",), ("step",), ("adaptive", "episode")

_INPUTS = (
    _Entry(INPUT, _IMAGES, "input_type", ("batch", "channels", "height", "width")),
    _Entry(GLIMPSE, _STEP, "float32", ("batch", "num_scales", "channels", "glimpse_size", "glimpse_size")),
    _Entry(LOCATION, _STEP, "float32", ("batch", 2)),
    _Entry(STATE, _STEP, "float32", ("batch", "state_size")),
    _Entry(FIRST_LOCATION, _EPISODE, "float32", ("locations", 2), has_default=True, needs="has_retina"),
    _Entry(FIRST_LOCATION, _ADAPTIVE, "float32", ("locations", 2), has_default=True),
    _Entry(CONFIDENCE, _ADAPTIVE, "float32", (), has_default=True),
    _Entry(MAX_GLIMPSES, _ADAPTIVE, "int64", (), has_default=True),
    _Entry(STATE, _ADAPTIVE, "float32", ("states", "state_size"), has_default=True),
    _Entry(FRAME, _ADAPTIVE, "float32", (4,), has_default=True),
    _Entry(CHANNELS_LAST, _ADAPTIVE, "int64", (), has_default=True, needs="takes_channels_last"),
)
"""The inputs, in the order in which graphs have them; those with a default are last."""

_OUTPUTS = (
    _Entry(LOGITS, _IMAGES, "float32", ("batch", "time", "classes")),
    _Entry(LOGITS, _STEP, "float32", ("batch", "classes")),
    _Entry(PROBABILITIES, _IMAGES, "float32", ("batch", "time", "classes")),
    _Entry(PROBABILITIES, _STEP, "float32", ("batch", "classes")),
    _Entry(LOCATIONS, _IMAGES, "float32", ("batch", "time", 2)),
    _Entry(BOXES, _IMAGES, "float32", ("batch", "time", "num_scales", 4), needs="has_boxes"),
    _Entry(MAPS, _IMAGES, "float32", ("batch", "time", "map_height", "map_width"), needs="has_maps"),
    _Entry(GLIMPSES, _ADAPTIVE, "int64", ("batch",)),
    _Entry(NEXT_STATE, (*_ADAPTIVE, *_STEP), "float32", ("batch", "state_size")),
    _Entry(NEXT_LOCATION, (*_ADAPTIVE, *_STEP), "float32", ("batch", 2)),
)
"""The outputs, in the order in which graphs have them."""


@runtime_checkable
class GraphProperties(Protocol):
    """The entries of a :class:`~glimpse.contract.card.ModelCard` that decide the tensors of its graph."""

    @property
    def graph(self) -> str:
        """The kind of graph."""

    @property
    def input_type(self) -> str:
        """Type of the images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""

    @property
    def channels(self) -> int:
        """Channels of the images."""

    @property
    def height(self) -> int:
        """Height of the images, pixels."""

    @property
    def width(self) -> int:
        """Width of the images, pixels."""

    @property
    def any_size(self) -> bool:
        """Whether the graph takes images of any height and width."""

    @property
    def glimpse_size(self) -> int | None:
        """Side of a glimpse, pixels; None without a retina."""

    @property
    def num_scales(self) -> int | None:
        """Windows in a glimpse; None without a retina."""

    @property
    def state_size(self) -> int | None:
        """Length of the state; None for an episode."""

    @property
    def has_retina(self) -> bool:
        """Whether the model has a retina."""

    @property
    def has_boxes(self) -> bool:
        """Whether the model says where each glimpse lay."""

    @property
    def takes_channels_last(self) -> bool:
        """Whether a single image may have its channels last."""

    @property
    def has_maps(self) -> bool:
        """Whether the model returns attention maps."""


def inputs_of(card: GraphProperties) -> dict[str, TensorSpec]:
    """List the inputs of a model's graph by name, in order; those with a default are last.

    Args:
        card: The model's card. ``height`` and ``width`` are axes of any length where it takes images of any size.
    """
    return _resolved(_INPUTS, card)


def outputs_of(card: GraphProperties) -> dict[str, TensorSpec]:
    """List the outputs of a model's graph by name, in order.

    Args:
        card: The model's card.
    """
    return _resolved(_OUTPUTS, card)


def _resolved(entries: tuple[_Entry, ...], card: GraphProperties) -> dict[str, TensorSpec]:
    lengths = {
        "channels": card.channels,
        "classes": len(card.classes),
        "glimpse_size": card.glimpse_size,
        "num_scales": card.num_scales or (1 if card.has_boxes else None),
        "state_size": card.state_size,
    }
    if not card.any_size:
        lengths |= {"height": card.height, "width": card.width}

    def length(axis: int | str) -> int | str:
        known = lengths.get(axis) if isinstance(axis, str) else axis
        return axis if known is None else known

    return {
        entry.name: TensorSpec(
            entry.name,
            card.input_type if entry.dtype == "input_type" else entry.dtype,
            tuple(length(axis) for axis in entry.axes),
            entry.has_default,
        )
        for entry in entries
        if card.graph in entry.graphs and (entry.needs is None or getattr(card, entry.needs))
    }
