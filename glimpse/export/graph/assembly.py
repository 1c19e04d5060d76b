"""The three graphs of a model that takes glimpses, assembled from its step and the retina.

An *episode* repeats the step, an *adaptive* graph runs it in a loop, and a *step* graph is the step alone. An episode
and a step hold no control flow, neither ``Loop`` nor ``If``, because there are runtimes that lack it or run it wrongly.
For processors, an adaptive graph holds two forms of the loop behind an ``If``: one for a single image and one for a
batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from glimpse.contract.card import CARD_KEY, ModelCard, RetinaGeometry
from glimpse.contract.seal import SEAL_KEY
from glimpse.contract.tensors import (
    BOXES,
    CHANNELS_LAST,
    CONFIDENCE,
    FIRST_LOCATION,
    FRAME,
    GLIMPSE,
    GLIMPSES,
    INPUT,
    LOCATION,
    LOCATIONS,
    LOGITS,
    MAX_GLIMPSES,
    NEXT_LOCATION,
    NEXT_STATE,
    PROBABILITIES,
    STATE,
    TensorSpec,
    inputs_of,
    outputs_of,
)
from glimpse.export.graph.builder import GraphBuilder, onnx_type, value
from glimpse.export.graph.fragment import BELIEF, GAZE, Fragment
from glimpse.export.graph.retina import Grid, ImageInput, RetinaNodes
from glimpse.images.geometry import windows

ACTIVE = "looks"
"""Which images of a batch still take glimpses, as the loop calls it."""
NEVER_REACHED = 2.0
"""A confidence above every probability: with this default, an adaptive graph takes all its glimpses."""


@dataclass(frozen=True)
class GraphPlan:
    """The parts that a graph is assembled from.

    Attributes:
        fragment: The model's step; it takes pixels in the unit of the card's input type, or in [0, 1] for a step graph.
        state_sizes: Lengths of the parts of its state.
        card: The file's card, which names the graph, its inputs and its outputs.
        outputs: Names of the outputs that are wanted; those of the card when left out.
    """

    fragment: Fragment
    state_sizes: tuple[int, ...]
    card: ModelCard
    outputs: tuple[str, ...] | None = None

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return self.outputs if self.outputs is not None else self.card.outputs

    @property
    def retina(self) -> RetinaGeometry:
        """The retina's windows; every model that is put together from its step has a retina."""
        assert self.card.retina is not None
        return self.card.retina

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of the state."""
        return (BELIEF, GAZE)[: len(self.state_sizes)]


def assemble(plan: GraphPlan) -> onnx.ModelProto:
    """Assemble a graph.

    Args:
        plan: Its parts.
    """
    return {"episode": _episode, "adaptive": _adaptive, "step": _step}[plan.card.graph](plan)


def metadata(card: ModelCard) -> dict[str, str]:
    """The metadata of a file: its card, and 64 zeros that its seal replaces."""
    return {CARD_KEY: card.to_json(), SEAL_KEY: "0" * 64}


def _episode(plan: GraphPlan) -> onnx.ModelProto:
    builder, card = GraphBuilder(), plan.card
    image_input = ImageInput(INPUT, card.input_type, card.channels)
    builder.weight(numpy_helper.from_array(np.zeros((1, 2), np.float32), FIRST_LOCATION))

    retina_nodes = _retina_nodes(builder, plan, image_input, "gather" if card.target == "gpu" else "border")
    location = _for_each_image(builder, FIRST_LOCATION, 2)
    # The first state is a constant of zeros, so that onnxruntime folds its products when it loads the file.
    state = tuple(builder.constant(np.zeros((1, size)), np.float32) for size in plan.state_sizes)
    logits, locations = [], [location]
    for time in range(card.num_glimpses):
        step_inputs = {
            GLIMPSE: retina_nodes(builder, location, clamped=time > 0),
            LOCATION: location,
            **dict(zip(plan.parts, state, strict=True)),
        }
        last = time + 1 == card.num_glimpses
        wanted = (LOGITS,) if last else (LOGITS, NEXT_LOCATION, *(f"next_{name}" for name in plan.parts))
        step_logits, *following = plan.fragment.insert_into(builder, step_inputs, wanted)
        logits.append(step_logits)
        if not last:
            location, *rest = following
            state = tuple(rest)
            locations.append(location)
    stacked = {LOGITS: (logits, len(card.classes)), LOCATIONS: (locations, 2)}
    found = {}
    for name in _needed(plan):
        values, length = stacked[name]
        shape = builder.integers(0, card.num_glimpses, length)
        output = name if name in plan.wanted else ""
        found[name] = builder("Reshape", builder("Concat", *values, axis=1), shape, name=output)
    _finish(builder, plan, found, image_input)
    return _model(builder, plan)


def _adaptive(plan: GraphPlan) -> onnx.ModelProto:
    builder, card = GraphBuilder(), plan.card
    layout = CHANNELS_LAST if card.takes_channels_last else None
    image_input = ImageInput(INPUT, card.input_type, card.channels, FRAME, layout)
    if layout:
        builder.weight(numpy_helper.from_array(np.asarray(0, np.int64), layout))
    size = sum(plan.state_sizes)
    for name, default in (
        (FIRST_LOCATION, np.zeros((1, 2), np.float32)),
        (CONFIDENCE, np.float32(NEVER_REACHED)),
        (MAX_GLIMPSES, np.int64(card.num_glimpses)),
        (STATE, np.zeros((1, size), np.float32)),
        (FRAME, np.zeros(4, np.float32)),
    ):
        builder.weight(numpy_helper.from_array(np.asarray(default), name))
    outputs = _outputs(card)
    kinds = [outputs[name] for name in (LOGITS, LOCATIONS, GLIMPSES, NEXT_STATE, NEXT_LOCATION)]
    found = _by_batch(builder, plan, lambda branch, single: _loop(branch, plan, image_input, single), kinds)
    _finish(builder, plan, dict(zip((kind.name for kind in kinds), found, strict=True)), image_input)
    return _model(builder, plan)


class _Carried(NamedTuple):
    """A value that a loop carries from one glimpse to the next."""

    name: str
    first: str
    """Name of the value before the first glimpse."""
    dtype: npt.DTypeLike
    shape: tuple[int | str, ...]
    after: str
    """Name of the value after a glimpse."""


def _loop(branch: GraphBuilder, plan: GraphPlan, image_input: ImageInput, single: bool) -> tuple[str, ...]:
    """The glimpses in a loop. An image of a batch that has stopped keeps its values until all have stopped."""
    card, parts = plan.card, plan.parts
    retina_nodes = _retina_nodes(branch, plan, image_input, "pad" if single else "gather")
    first, state = FIRST_LOCATION, STATE
    if not single:
        first, state = _for_each_image(branch, first, 2), _for_each_image(branch, state, sum(plan.state_sizes))
    states = _split(branch, state, plan.state_sizes)
    body = branch.nested()
    names = {name: body.fresh(name) for name in ("time", "go", LOCATION, NEXT_LOCATION, *parts)}
    inputs = {
        GLIMPSE: retina_nodes(body, names[LOCATION]),
        LOCATION: names[LOCATION],
        **{name: names[name] for name in parts},
    }
    logits, following, *next_states = plan.fragment.insert_into(
        body, inputs, (LOGITS, NEXT_LOCATION, *(f"next_{name}" for name in parts))
    )
    probabilities = _softmax(body, logits, card)
    states_of_parts = zip(parts, states, plan.state_sizes, next_states, strict=True)
    if single:
        go = body("Less", body("ReduceMax", probabilities, keepdims=0), CONFIDENCE)
        carried = [
            _Carried(LOCATION, first, np.float32, ("batch", 2), following),
            *(
                _Carried(name, given, np.float32, ("batch", size), after)
                for name, given, size, after in states_of_parts
            ),
        ]
    else:
        names |= {name: body.fresh(name) for name in (ACTIVE, GLIMPSES, LOGITS)}
        active = names[ACTIVE]
        undecided = body("Less", body("ReduceMax", probabilities, body.integers(1)), CONFIDENCE)
        goes_on = body("And", active, undecided)
        any_left = body("ReduceMax", body("Cast", goes_on, to=onnx_type(np.int32)), keepdims=0)
        go = body("Cast", any_left, to=onnx_type(np.bool_))
        logits = body("Where", active, logits, names[LOGITS])
        following = body("Where", active, following, names[NEXT_LOCATION])
        count = body("Add", names[GLIMPSES], body("Cast", active, to=onnx_type(np.int64)))
        next_location = body("Where", goes_on, following, names[LOCATION])
        classes = len(card.classes)
        carried = [
            _Carried(ACTIVE, _fill(branch, [[True]], np.bool_, 1), np.bool_, ("batch", 1), goes_on),
            _Carried(GLIMPSES, _fill(branch, [[0]], np.int64, 1), np.int64, ("batch", 1), count),
            _Carried(LOGITS, _fill(branch, [[0]], np.float32, classes), np.float32, ("batch", classes), logits),
            _Carried(NEXT_LOCATION, first, np.float32, ("batch", 2), following),
            _Carried(LOCATION, first, np.float32, ("batch", 2), next_location),
            *(
                _Carried(name, given, np.float32, ("batch", size), body("Where", active, after, names[name]))
                for name, given, size, after in states_of_parts
            ),
        ]
    # The body of a Loop may neither return one of its inputs nor return the same value twice.
    scanned_location, scanned_logits = body("Identity", names[LOCATION]), logits if single else body("Identity", logits)
    graph = body.subgraph(
        "look",
        [
            value(go, np.bool_, []),
            *(value(entry.after, entry.dtype, entry.shape) for entry in carried),
            value(scanned_logits, np.float32, ("batch", len(card.classes))),
            value(scanned_location, np.float32, ("batch", 2)),
        ],
        [
            value(names["time"], np.int64, []),
            value(names["go"], np.bool_, []),
            *(value(names[entry.name], entry.dtype, entry.shape) for entry in carried),
        ],
    )
    limit = branch("Max", MAX_GLIMPSES, branch.constant(1, np.int64))
    *ended, logits, locations = branch.several(
        "Loop", (limit, "", *(entry.first for entry in carried)), len(carried) + 2, body=graph
    )
    last = dict(zip((entry.name for entry in carried), ended, strict=True))
    if single:
        taken = branch("Slice", branch("Shape", logits), branch.integers(0), branch.integers(1))
        following = last[LOCATION]
    else:
        taken = branch("Reshape", last[GLIMPSES], branch.integers(-1))
        following = last[NEXT_LOCATION]
    state = branch("Concat", *(last[name] for name in parts), axis=1) if len(parts) > 1 else last[parts[0]]
    rows_first = (branch("Transpose", name, perm=[1, 0, 2]) for name in (logits, locations))
    return (*rows_first, taken, state, following)


def _step(plan: GraphPlan) -> onnx.ModelProto:
    builder, card = GraphBuilder(), plan.card
    states = _split(builder, STATE, plan.state_sizes)
    step_inputs = {GLIMPSE: GLIMPSE, LOCATION: LOCATION, **dict(zip(plan.parts, states, strict=True))}
    logits, following, *rest = plan.fragment.insert_into(
        builder, step_inputs, (LOGITS, NEXT_LOCATION, *(f"next_{name}" for name in plan.parts))
    )
    builder("Identity", logits, name=LOGITS)
    _softmax(builder, logits, card, PROBABILITIES)
    builder("Concat", *rest, axis=1, name=NEXT_STATE)
    builder("Identity", following, name=NEXT_LOCATION)
    return _model(builder, plan)


def _by_batch(
    builder: GraphBuilder,
    plan: GraphPlan,
    make: Callable[[GraphBuilder, bool], tuple[str, ...]],
    kinds: Sequence[TensorSpec],
) -> tuple[str, ...]:
    """Make a part of a graph twice, for a single image and for a batch; the number of images selects one."""
    if plan.card.target == "gpu":
        return make(builder, False)
    images = builder("Slice", builder("Shape", INPUT), builder.integers(0), builder.integers(1))
    is_single = builder("Reshape", builder("Equal", images, builder.integers(1)), builder.constant([], np.int64))
    branches = []
    for name, single in (("single", True), ("batch", False)):
        branch = builder.nested()
        made = make(branch, single)
        values = [value(output, kind.dtype, kind.shape) for output, kind in zip(made, kinds, strict=True)]
        branches.append(branch.subgraph(name, values))
    return builder.several("If", (is_single,), len(kinds), then_branch=branches[0], else_branch=branches[1])


def _finish(builder: GraphBuilder, plan: GraphPlan, found: dict[str, str], image_input: ImageInput) -> None:
    """Name the outputs, and compute those that depend on others."""
    card = plan.card
    for name in plan.wanted:
        if name in found and found[name] != name:
            builder("Identity", found[name], name=name)
        elif name == PROBABILITIES:
            _softmax(builder, found[LOGITS], card, name)
        elif name == BOXES:
            _boxes(builder, found[LOCATIONS], plan.retina, image_input)


def _boxes(builder: GraphBuilder, locations: str, retina: RetinaGeometry, image_input: ImageInput) -> None:
    nested = windows(*retina)
    start = Grid(builder, image_input, nested[-1].width).start(builder, locations)
    corners = builder("Gather", start, builder.constant([[0, 1, 0, 1]] * len(nested), np.int64), axis=2)
    sides = [[offset, offset, offset + side, offset + side] for offset, side in nested]
    builder("Add", corners, builder.constant(sides, np.float32), name=BOXES)


def _needed(plan: GraphPlan) -> tuple[str, ...]:
    """The values that the wanted outputs are computed from."""
    needs = {LOGITS: LOGITS, PROBABILITIES: LOGITS, LOCATIONS: LOCATIONS, BOXES: LOCATIONS}
    needed = {needs[name] for name in plan.wanted if name in needs}
    return tuple(name for name in (LOGITS, LOCATIONS) if name in needed)


def _softmax(builder: GraphBuilder, logits: str, card: ModelCard, name: str = "") -> str:
    if card.temperature != 1:
        logits = builder("Mul", logits, builder.floats(1 / card.temperature))
    return builder("Softmax", logits, axis=-1, name=name)


def _retina_nodes(builder: GraphBuilder, plan: GraphPlan, image_input: ImageInput, form: str) -> RetinaNodes:
    return RetinaNodes(builder, image_input, *plan.retina, form, not plan.fragment.flattens)


def _for_each_image(builder: GraphBuilder, name: str, length: int) -> str:
    """Repeat a value of one row for every image."""
    images = builder("Slice", builder("Shape", INPUT), builder.integers(0), builder.integers(1))
    return builder("Expand", name, builder("Concat", images, builder.integers(length), axis=0))


def _fill(builder: GraphBuilder, number: Any, dtype: npt.DTypeLike, length: int) -> str:
    """A row of the same number for every image."""
    return _for_each_image(builder, builder.constant(number, dtype), length)


def _split(builder: GraphBuilder, state: str, sizes: Sequence[int]) -> tuple[str, ...]:
    if len(sizes) == 1:
        return (builder("Identity", state),)
    return builder.several("Split", (state, builder.integers(*sizes)), len(sizes), axis=1)


def _outputs(card: ModelCard) -> dict[str, TensorSpec]:
    """The outputs; those of an episode have a fixed time."""
    time = card.num_glimpses if card.graph == "episode" else "time"
    return {
        name: tensor._replace(shape=tuple(time if axis == "time" else axis for axis in tensor.shape))
        for name, tensor in outputs_of(card).items()
    }


def _model(build: GraphBuilder, plan: GraphPlan) -> onnx.ModelProto:
    card, outputs = plan.card, _outputs(plan.card)
    return build.model(
        [value(*tensor[:3]) for tensor in inputs_of(card).values()],
        [value(*outputs[name][:3]) for name in plan.wanted],
        metadata(card),
    )
