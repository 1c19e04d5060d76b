"""The three graphs of a model that takes glimpses, put together from its step and the cut.

An *episode* repeats the step, an *adaptive* graph has it in a loop, a *step* graph is the step. Where the target is a
processor, the first two hold two forms of the same behind an ``If``: one for a single image and one for a batch.
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

LOOKS = "looks"
NEVER = 2.0
"""A probability that no class has: with it an adaptive graph takes all its glimpses."""


@dataclass(frozen=True)
class GraphPlan:
    """What a graph is made of.

    Attributes:
        piece: The model's step; it takes pixels in the unit of the card's input type, or in [0, 1] for a step graph.
        state_sizes: Lengths of the parts of its state.
        card: What the file says of itself, and so what it is to be.
        outputs: Names of the outputs that are wanted; those of the card when left out.
    """

    piece: Fragment
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
    """Put a graph together.

    Args:
        plan: What it is made of.
    """
    return {"episode": _episode, "adaptive": _adaptive, "step": _step}[plan.card.graph](plan)


def metadata(card: ModelCard) -> dict[str, str]:
    """The texts that a file carries: its card, and the place for its seal."""
    return {CARD_KEY: card.to_json(), SEAL_KEY: "0" * 64}


def _episode(plan: GraphPlan) -> onnx.ModelProto:
    build, card = GraphBuilder(), plan.card
    canvas = ImageInput(INPUT, card.input_type, card.channels)
    stacks = [name for name in (LOGITS, LOCATIONS) if name in _needed(plan)]
    build.weight(numpy_helper.from_array(np.zeros((1, 2), np.float32), FIRST_LOCATION))

    def unroll(part: GraphBuilder, single: bool) -> tuple[str, ...]:
        cut = _cutter(part, plan, canvas, single)
        location = FIRST_LOCATION if single else _for_each_image(part, FIRST_LOCATION, 2)
        # In the first step the state is nothing, a constant, so that onnxruntime computes its products beforehand.
        state = tuple(part.constant(np.zeros((1, size)), np.float32) for size in plan.state_sizes)
        logits, locations = [], [location]
        for time in range(card.num_glimpses):
            given = {GLIMPSE: cut(part, location), LOCATION: location, **dict(zip(plan.parts, state, strict=True))}
            last = time + 1 == card.num_glimpses
            wanted = (LOGITS,) if last else (LOGITS, NEXT_LOCATION, *(f"next_{name}" for name in plan.parts))
            belief, *following = plan.piece.put_into(part, given, wanted)
            logits.append(belief)
            if not last:
                location, *rest = following
                state = tuple(rest)
                locations.append(location)
        stacked = {LOGITS: (logits, len(card.classes)), LOCATIONS: (locations, 2)}
        return tuple(
            part("Reshape", part("Concat", *stacked[name][0], axis=1), part.integers(0, -1, stacked[name][1]))
            for name in stacks
        )

    outputs = _outputs(card)
    stacked = _by_batch(build, plan, unroll, [outputs[name] for name in stacks])
    _finish(build, plan, dict(zip(stacks, stacked, strict=True)), canvas)
    return _model(build, plan)


def _adaptive(plan: GraphPlan) -> onnx.ModelProto:
    build, card = GraphBuilder(), plan.card
    canvas = ImageInput(INPUT, card.input_type, card.channels, FRAME)
    size = sum(plan.state_sizes)
    for name, default in (
        (FIRST_LOCATION, np.zeros((1, 2), np.float32)),
        (CONFIDENCE, np.float32(NEVER)),
        (MAX_GLIMPSES, np.int64(card.num_glimpses)),
        (STATE, np.zeros((1, size), np.float32)),
        (FRAME, np.zeros(4, np.float32)),
    ):
        build.weight(numpy_helper.from_array(np.asarray(default), name))
    outputs = _outputs(card)
    kinds = [outputs[name] for name in (LOGITS, LOCATIONS, GLIMPSES, NEXT_STATE, NEXT_LOCATION)]
    found = _by_batch(build, plan, lambda part, single: _loop(part, plan, canvas, single), kinds)
    _finish(build, plan, dict(zip((kind.name for kind in kinds), found, strict=True)), canvas)
    return _model(build, plan)


class _Carried(NamedTuple):
    """What a loop hands on from one glimpse to the next."""

    name: str
    first: str
    """Name of what it is before the first glimpse."""
    dtype: npt.DTypeLike
    shape: tuple[int | str, ...]
    after: str
    """Name of what it is after a glimpse."""


def _loop(part: GraphBuilder, plan: GraphPlan, canvas: ImageInput, single: bool) -> tuple[str, ...]:
    """The glimpses in a loop. In a batch, what an image has come to when it is told is held until all are."""
    card, parts = plan.card, plan.parts
    cut = _cutter(part, plan, canvas, single)
    first, state = FIRST_LOCATION, STATE
    if not single:
        first, state = _for_each_image(part, first, 2), _for_each_image(part, state, sum(plan.state_sizes))
    states = _split(part, state, plan.state_sizes)
    body = part.branch()
    names = {name: body.fresh(name) for name in ("time", "go", LOCATION, NEXT_LOCATION, *parts)}
    inputs = {GLIMPSE: cut(body, names[LOCATION]), LOCATION: names[LOCATION], **{name: names[name] for name in parts}}
    logits, following, *next_states = plan.piece.put_into(
        body, inputs, (LOGITS, NEXT_LOCATION, *(f"next_{name}" for name in parts))
    )
    believed = _softmax(body, logits, card)
    beliefs = zip(parts, states, plan.state_sizes, next_states, strict=True)
    if single:
        go = body("Less", body("ReduceMax", believed, keepdims=0), CONFIDENCE)
        carried = [
            _Carried(LOCATION, first, np.float32, ("batch", 2), following),
            *(_Carried(name, given, np.float32, ("batch", size), after) for name, given, size, after in beliefs),
        ]
    else:
        names |= {name: body.fresh(name) for name in (LOOKS, GLIMPSES, LOGITS)}
        looks = names[LOOKS]
        undecided = body("Less", body("ReduceMax", believed, body.integers(1)), CONFIDENCE)
        still = body("And", looks, undecided)
        any_left = body("ReduceMax", body("Cast", still, to=onnx_type(np.int32)), keepdims=0)
        go = body("Cast", any_left, to=onnx_type(np.bool_))
        logits = body("Where", looks, logits, names[LOGITS])
        following = body("Where", looks, following, names[NEXT_LOCATION])
        count = body("Add", names[GLIMPSES], body("Cast", looks, to=onnx_type(np.int64)))
        place = body("Where", still, following, names[LOCATION])
        classes = len(card.classes)
        carried = [
            _Carried(LOOKS, _fill(part, [[True]], np.bool_, 1), np.bool_, ("batch", 1), still),
            _Carried(GLIMPSES, _fill(part, [[0]], np.int64, 1), np.int64, ("batch", 1), count),
            _Carried(LOGITS, _fill(part, [[0]], np.float32, classes), np.float32, ("batch", classes), logits),
            _Carried(NEXT_LOCATION, first, np.float32, ("batch", 2), following),
            _Carried(LOCATION, first, np.float32, ("batch", 2), place),
            *(
                _Carried(name, given, np.float32, ("batch", size), body("Where", looks, after, names[name]))
                for name, given, size, after in beliefs
            ),
        ]
    # A body may neither hand on what it was given nor hand on the same twice.
    shown, scanned = body("Identity", names[LOCATION]), logits if single else body("Identity", logits)
    graph = body.subgraph(
        "look",
        [
            value(go, np.bool_, []),
            *(value(entry.after, entry.dtype, entry.shape) for entry in carried),
            value(scanned, np.float32, ("batch", len(card.classes))),
            value(shown, np.float32, ("batch", 2)),
        ],
        [
            value(names["time"], np.int64, []),
            value(names["go"], np.bool_, []),
            *(value(names[entry.name], entry.dtype, entry.shape) for entry in carried),
        ],
    )
    most = part("Max", MAX_GLIMPSES, part.constant(1, np.int64))
    *ended, logits, locations = part.several(
        "Loop", (most, "", *(entry.first for entry in carried)), len(carried) + 2, body=graph
    )
    last = dict(zip((entry.name for entry in carried), ended, strict=True))
    if single:
        taken = part("Slice", part("Shape", logits), part.integers(0), part.integers(1))
        following = last[LOCATION]
    else:
        taken = part("Reshape", last[GLIMPSES], part.integers(-1))
        following = last[NEXT_LOCATION]
    state = part("Concat", *(last[name] for name in parts), axis=1) if len(parts) > 1 else last[parts[0]]
    rows_first = (part("Transpose", name, perm=[1, 0, 2]) for name in (logits, locations))
    return (*rows_first, taken, state, following)


def _step(plan: GraphPlan) -> onnx.ModelProto:
    build, card = GraphBuilder(), plan.card
    states = _split(build, STATE, plan.state_sizes)
    given = {GLIMPSE: GLIMPSE, LOCATION: LOCATION, **dict(zip(plan.parts, states, strict=True))}
    logits, following, *rest = plan.piece.put_into(
        build, given, (LOGITS, NEXT_LOCATION, *(f"next_{name}" for name in plan.parts))
    )
    build("Identity", logits, name=LOGITS)
    _softmax(build, logits, card, PROBABILITIES)
    build("Concat", *rest, axis=1, name=NEXT_STATE)
    build("Identity", following, name=NEXT_LOCATION)
    return _model(build, plan)


def _by_batch(
    build: GraphBuilder,
    plan: GraphPlan,
    make: Callable[[GraphBuilder, bool], tuple[str, ...]],
    kinds: Sequence[TensorSpec],
) -> tuple[str, ...]:
    """Make a part of a graph in a form for a single image and in one for a batch, and have the images choose."""
    if plan.card.target == "gpu":
        return make(build, False)
    images = build("Slice", build("Shape", INPUT), build.integers(0), build.integers(1))
    alone = build("Reshape", build("Equal", images, build.integers(1)), build.constant([], np.int64))
    branches = []
    for name, single in (("single", True), ("batch", False)):
        part = build.branch()
        made = make(part, single)
        values = [value(output, kind.dtype, kind.shape) for output, kind in zip(made, kinds, strict=True)]
        branches.append(part.subgraph(name, values))
    return build.several("If", (alone,), len(kinds), then_branch=branches[0], else_branch=branches[1])


def _finish(build: GraphBuilder, plan: GraphPlan, found: dict[str, str], canvas: ImageInput) -> None:
    """Name the outputs, and compute those that follow from others."""
    card = plan.card
    for name in plan.wanted:
        if name in found:
            build("Identity", found[name], name=name)
        elif name == PROBABILITIES:
            _softmax(build, found[LOGITS], card, name)
        elif name == BOXES:
            _boxes(build, found[LOCATIONS], plan.retina, canvas)


def _boxes(build: GraphBuilder, locations: str, retina: RetinaGeometry, canvas: ImageInput) -> None:
    nested = windows(*retina)
    start = Grid(build, canvas, nested[-1].width).start(build, locations)
    corners = build("Unsqueeze", build("Concat", start, start, axis=2), build.integers(2))
    sides = [[offset, offset, offset + side, offset + side] for offset, side in nested]
    build("Add", corners, build.constant(sides, np.float32), name=BOXES)


def _needed(plan: GraphPlan) -> set[str]:
    """What the wanted outputs are made of."""
    needs = {LOGITS: LOGITS, PROBABILITIES: LOGITS, LOCATIONS: LOCATIONS, BOXES: LOCATIONS}
    return {needs[name] for name in plan.wanted if name in needs}


def _softmax(build: GraphBuilder, logits: str, card: ModelCard, name: str = "") -> str:
    if card.temperature != 1:
        logits = build("Mul", logits, build.floats(1 / card.temperature))
    return build("Softmax", logits, axis=-1, name=name)


def _cutter(build: GraphBuilder, plan: GraphPlan, canvas: ImageInput, single: bool) -> RetinaNodes:
    return RetinaNodes(build, canvas, *plan.retina, single, not plan.piece.flattens)


def _for_each_image(build: GraphBuilder, name: str, length: int) -> str:
    """Repeat what may be given once for every image."""
    images = build("Slice", build("Shape", INPUT), build.integers(0), build.integers(1))
    return build("Expand", name, build("Concat", images, build.integers(length), axis=0))


def _fill(build: GraphBuilder, number: Any, dtype: npt.DTypeLike, length: int) -> str:
    """A row of the same number for every image."""
    return _for_each_image(build, build.constant(number, dtype), length)


def _split(build: GraphBuilder, state: str, sizes: Sequence[int]) -> tuple[str, ...]:
    if len(sizes) == 1:
        return (build("Identity", state),)
    return build.several("Split", (state, build.integers(*sizes)), len(sizes), axis=1)


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
