"""Small models in ONNX for the tests of the runtime, of all three kinds of graph, with the same predictions.

They look through a real retina, carry a state, and choose where to look next; their weights are random and fixed.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from glimpse.contract.card import CARD_KEY, ModelCard
from glimpse.contract.seal import SEAL_KEY, seal
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
)
from glimpse.images import geometry
from glimpse.runtime.session import GlimpseSession

ADAPTIVE = ModelCard(
    model="hard",
    graph="adaptive",
    classes=("cat", "dog", "owl"),
    channels=1,
    height=20,
    width=30,
    num_glimpses=5,
    glimpse_size=4,
    num_scales=2,
    zoom=2,
    has_maps=False,
    any_size=True,
    data="made up",
    recipe={},
    versions={},
    state_size=3,
)
EPISODE = replace(ADAPTIVE, graph="episode", state_size=None)
STEP = replace(ADAPTIVE, graph="step")
TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


def write_toy(path: Path, card: ModelCard) -> Path:
    """Write a toy of the graph that its card names."""
    return write_sealed(
        path, {"adaptive": adaptive, "episode": episode, "step": step}[card.graph](card), card.to_json()
    )


def write_sealed(path: Path, model: onnx.ModelProto, card: str | None) -> Path:
    """Write a model with a card, or without one, and its seal."""
    properties = {SEAL_KEY: "0" * 64} | ({} if card is None else {CARD_KEY: card})
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(seal(model.SerializeToString()))
    return path


def sessions(folder: Path) -> dict[str, GlimpseSession]:
    """One toy as each kind of graph."""
    cards = (ADAPTIVE, EPISODE, STEP)
    return {card.graph: GlimpseSession(write_toy(folder / f"{card.graph}.onnx", card)) for card in cards}


class _Spoilt:
    """A session of onnxruntime some of whose results are replaced."""

    def __init__(self, session: Any, name: str, value: float) -> None:
        self._session, self._name, self._value = session, name, value

    def run(self, names: list[str], inputs: Any, options: Any = None) -> list[Any]:
        found: list[Any] = self._session.run(names, inputs, options)
        if self._name in names:
            found[names.index(self._name)][inputs[INPUT][:, 0, 0, 0] == 255] = self._value
        return found


def spoil(session: GlimpseSession, name: str = PROBABILITIES, value: float = np.nan) -> GlimpseSession:
    """Make a session's graph return a value for an output, of images whose first pixel is white."""
    graph = session._graph
    graph._single, graph._general = (_Spoilt(each, name, value) for each in (graph._single, graph._any_size()))
    return session


def noise(*shape: int, seed: int = 0) -> Any:
    """Images (..., height, width, channels) of random blocks, of some of which a toy is surer than of others."""
    *batch, height, width, channels = shape
    blocks = np.random.default_rng(seed).integers(0, 256, (*batch, -(-height // 6), -(-width // 6), channels))
    return blocks.repeat(6, axis=-3).repeat(6, axis=-2)[..., :height, :width, :].astype(np.uint8)


def alike(one: Any, other: Any) -> None:
    """Assert that two predictions are equal within rounding."""
    for name in ("probabilities", "locations", "boxes"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(one.glimpses, other.glimpses)
    assert one.reasons == other.reasons


LIMITS: list[dict[str, Any]] = [
    {},
    {"max_glimpses": 1},
    {"max_glimpses": 3},
    {"confidence": 0.7},
    {"confidence": 0.8, "max_glimpses": 4},
    {"confidence": 1.0},
]


class Draft:
    """Nodes and constants of a graph that is being written."""

    def __init__(self, outside: "Draft | None" = None) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = [] if outside is None else outside.constants
        self.names: list[str] = [] if outside is None else outside.names

    def name(self) -> str:
        self.names.append(f"value_{len(self.names)}")
        return self.names[-1]

    def op(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        """Add a node with one output; an input that is no name is a constant."""
        given = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        output = self.name()
        self.nodes.append(helper.make_node(kind, given, [output], **attributes))
        return output

    def constant(self, value: Any) -> str:
        array = np.array(value)
        kept = array.astype(np.float32) if array.dtype == np.float64 else array
        self.constants.append(numpy_helper.from_array(kept, self.name()))
        return self.names[-1]

    def rename(self, value: str, name: str) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))


def think(draft: Draft, card: ModelCard, glimpse: str, location: str, state: str) -> tuple[str, str, str, str]:
    """Logits, probabilities, next state and next location of one step."""
    assert card.num_scales is not None
    assert card.state_size is not None or card.graph == "episode"
    generator, length = np.random.default_rng(26), ADAPTIVE.state_size
    assert length is not None
    weights, reading, moving = (
        generator.normal(0, scale, shape)
        for scale, shape in (
            (1.0, (card.num_scales + 2, length)),
            (1.5, (length, len(card.classes))),
            (0.5, (length, 2)),
        )
    )
    means = draft.op("ReduceMean", glimpse, [2, 3, 4], keepdims=0)
    taken_in = draft.op("MatMul", draft.op("Concat", means, location, axis=1), weights)
    next_state = draft.op("Add", draft.op("Mul", state, 0.75), taken_in)
    logits = draft.op("MatMul", next_state, reading)
    next_location = draft.op("Clip", draft.op("MatMul", next_state, moving), -1.0, 1.0)
    return logits, draft.op("Softmax", logits, axis=-1), next_state, next_location


def crop(draft: Draft, card: ModelCard, images: str, location: str, frame: str | None) -> tuple[str, str]:
    """The glimpse at a location, and its boxes."""
    assert card.glimpse_size is not None
    assert card.num_scales is not None
    assert card.zoom is not None
    scales, size = geometry.windows(card.glimpse_size, card.num_scales, card.zoom), card.glimpse_size
    widest = scales[-1].width
    extent = draft.op("Gather", draft.op("Shape", images), [3, 2])
    whole = draft.op("Cast", extent, to=TensorProto.FLOAT)
    if frame is not None:
        given = draft.op("Slice", frame, [2], [4])
        whole = draft.op("Where", draft.op("Greater", given, 0.0), given, whole)
    half = draft.op("Mul", whole, 0.5)
    middle = draft.op("Mul", location, half)
    start = draft.op("Floor", draft.op("Add", middle, draft.op("Sub", half, (widest - 1) / 2)))
    boxes = []
    for offset, side in scales:
        corners = [draft.op("Add", start, float(far)) for far in (offset, offset + side)]
        boxes.append(draft.op("Unsqueeze", draft.op("Concat", *corners, axis=1), [1]))
    here = start if frame is None else draft.op("Sub", start, draft.op("Slice", frame, [0], [2]))
    first = draft.op("Unsqueeze", draft.op("Cast", here, to=TensorProto.INT64), [2])
    index = draft.op("Add", first, np.arange(widest))
    last = draft.op("Unsqueeze", draft.op("Sub", extent, [1]), [1])
    inside = draft.op("And", draft.op("GreaterOrEqual", index, np.array(0)), draft.op("LessOrEqual", index, last))
    index = draft.op("Min", draft.op("Max", index, np.array(0)), last)
    across, down = (
        draft.op("Unsqueeze", draft.op("Gather", index, place, axis=1), [at]) for place, at in ((0, 1), (1, 2))
    )
    cells = draft.op("Add", draft.op("Mul", down, draft.op("Gather", extent, np.array(0))), across)
    flat = draft.op("Reshape", cells, [0, 1, widest**2])
    pixels = draft.op("Reshape", images, [0, 0, -1])
    everywhere = draft.op("Concat", draft.op("Shape", images, start=0, end=2), [1], axis=0)
    seen = draft.op("GatherElements", pixels, draft.op("Expand", flat, everywhere), axis=2)
    values = draft.op("Cast", draft.op("Reshape", seen, [0, 0, widest, widest]), to=TensorProto.FLOAT)
    columns, rows = (
        draft.op("Unsqueeze", draft.op("Gather", inside, place, axis=1), [1, at]) for place, at in ((0, 2), (1, 3))
    )
    mask = draft.op("Cast", draft.op("And", columns, rows), to=TensorProto.FLOAT)
    values = draft.op("Div", draft.op("Mul", values, mask), 255.0 if card.input_type == "uint8" else 1.0)
    pooled = []
    for offset, side in scales:
        part = draft.op("Slice", values, [offset, offset], [offset + side, offset + side], [2, 3])
        blocks = draft.op("Reshape", part, [0, 0, size, side // size, size, side // size])
        pooled.append(draft.op("Unsqueeze", draft.op("ReduceMean", blocks, [3, 5], keepdims=0), [1]))
    return draft.op("Concat", *pooled, axis=1), draft.op("Concat", *boxes, axis=1)


def filled(draft: Draft, batch: str, *tail: int, value: Any = 0.0, given: str | None = None) -> str:
    """A value, or a given tensor of a batch of one, for each image."""
    shape = draft.op("Concat", batch, list(tail), axis=0) if tail else batch
    return draft.op("Expand", draft.constant(value) if given is None else given, shape)


def step(card: ModelCard) -> onnx.ModelProto:
    draft = Draft()
    found = think(draft, card, GLIMPSE, LOCATION, STATE)
    for value, name in zip(found, card.outputs, strict=True):
        draft.rename(value, name)
    return finish(draft, card, {})


def episode(card: ModelCard) -> onnx.ModelProto:
    draft = Draft()
    batch = draft.op("Shape", INPUT, start=0, end=1)
    location, state = filled(draft, batch, 2, given=FIRST_LOCATION), filled(draft, batch, 3)
    taken = []
    for _ in range(card.num_glimpses):
        glimpse, boxes = crop(draft, card, INPUT, location, None)
        logits, probabilities, state, following = think(draft, card, glimpse, location, state)
        taken.append((logits, probabilities, location, boxes))
        location = following
    for name, values in zip(card.outputs, zip(*taken, strict=True), strict=True):
        draft.rename(draft.op("Concat", *(draft.op("Unsqueeze", value, [1]) for value in values), axis=1), name)
    return finish(draft, card, {FIRST_LOCATION: np.zeros((1, 2), np.float32)})


def adaptive(card: ModelCard) -> onnx.ModelProto:
    assert card.state_size is not None
    assert card.num_scales is not None
    draft, classes = Draft(), len(card.classes)
    batch = draft.op("Shape", INPUT, start=0, end=1)
    carried: dict[str, tuple[str, int, tuple[int, ...]]] = {
        "location": (filled(draft, batch, 2, given=FIRST_LOCATION), TensorProto.FLOAT, (2,)),
        "knowledge": (
            filled(draft, batch, card.state_size, given=STATE),
            TensorProto.FLOAT,
            (card.state_size,),
        ),
        "told": (filled(draft, batch, value=np.array(False)), TensorProto.BOOL, ()),
        "count": (filled(draft, batch, value=np.array(0)), TensorProto.INT64, ()),
        "belief": (filled(draft, batch, classes), TensorProto.FLOAT, (classes,)),
        "odds": (filled(draft, batch, classes), TensorProto.FLOAT, (classes,)),
        "place": (filled(draft, batch, 2), TensorProto.FLOAT, (2,)),
        "seen": (filled(draft, batch, card.num_scales, 4), TensorProto.FLOAT, (card.num_scales, 4)),
    }
    body = Draft(draft)
    glimpse, boxes = crop(body, card, INPUT, "location", FRAME)
    logits, probabilities, state, following = think(body, card, glimpse, "location", "knowledge")
    column = body.op("Unsqueeze", "told", [1])
    block = body.op("Unsqueeze", "told", [1, 2])
    kept = {
        "location": body.op("Where", column, "location", following),
        "knowledge": body.op("Where", column, "knowledge", state),
        "belief": body.op("Where", column, "belief", logits),
        "odds": body.op("Where", column, "odds", probabilities),
        "place": body.op("Where", column, "place", "location"),
        "seen": body.op("Where", block, "seen", boxes),
        "count": body.op("Add", "count", body.op("Cast", body.op("Not", "told"), to=TensorProto.INT64)),
    }
    sure = body.op("GreaterOrEqual", body.op("ReduceMax", kept["odds"], [1], keepdims=0), CONFIDENCE)
    kept["told"] = body.op("Or", "told", sure)
    all_told = body.op("ReduceMin", body.op("Cast", kept["told"], to=TensorProto.INT64), [0], keepdims=0)
    going_on = body.op("Equal", all_told, np.array(0))
    scanned = [body.op("Identity", kept[name]) for name in ("belief", "odds", "place", "seen")]
    inputs = [helper.make_tensor_value_info("time", TensorProto.INT64, [])]
    inputs += [helper.make_tensor_value_info("on", TensorProto.BOOL, [])]
    inputs += [helper.make_tensor_value_info(name, kind, [None, *tail]) for name, (_, kind, tail) in carried.items()]
    outputs = [helper.make_tensor_value_info(going_on, TensorProto.BOOL, [])]
    outputs += [
        helper.make_tensor_value_info(kept[name], kind, [None, *tail]) for name, (_, kind, tail) in carried.items()
    ]
    outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in scanned]
    ends = [draft.name() for _ in (*carried, *scanned)]
    draft.nodes.append(
        helper.make_node(
            "Loop",
            [MAX_GLIMPSES, draft.constant(np.array(True)), *(first for first, _, _ in carried.values())],
            ends,
            body=helper.make_graph(body.nodes, "look", inputs, outputs),
        )
    )
    after = dict(zip((*carried, *card.outputs[:4]), ends, strict=True))
    for name in card.outputs[:4]:
        axes = [1, 0, 2, 3] if name == BOXES else [1, 0, 2]
        draft.rename(draft.op("Transpose", after[name], perm=axes), name)
    for name, value in zip(card.outputs[4:], ("count", "knowledge", "location"), strict=True):
        draft.rename(after[value], name)
    defaults = {
        FIRST_LOCATION: np.zeros((1, 2), np.float32),
        CONFIDENCE: np.array(2, np.float32),
        MAX_GLIMPSES: np.array(card.num_glimpses),
        STATE: np.zeros((1, card.state_size), np.float32),
        FRAME: np.zeros(4, np.float32),
        **({CHANNELS_LAST: np.array(0)} if card.takes_channels_last else {}),
    }
    return finish(draft, card, defaults)


def finish(draft: Draft, card: ModelCard, defaults: dict[str, Any]) -> onnx.ModelProto:
    """Make a model with the tensors that a card names."""
    classes, scales = len(card.classes), card.num_scales
    time = [] if card.graph == "step" else ["time"]
    sides = ["height", "width"] if card.any_size else [card.height, card.width]
    square = [card.glimpse_size, card.glimpse_size]
    shapes: dict[str, tuple[str, list[Any]]] = {
        INPUT: (card.input_type, ["batch", card.channels, *sides]),
        FIRST_LOCATION: ("float32", ["locations", 2]),
        CONFIDENCE: ("float32", []),
        MAX_GLIMPSES: ("int64", []),
        STATE: ("float32", ["batch" if card.graph == "step" else "states", card.state_size]),
        FRAME: ("float32", [4]),
        CHANNELS_LAST: ("int64", []),
        GLIMPSE: ("float32", ["batch", scales, card.channels, *square]),
        LOCATION: ("float32", ["batch", 2]),
        LOGITS: ("float32", ["batch", *time, classes]),
        PROBABILITIES: ("float32", ["batch", *time, classes]),
        LOCATIONS: ("float32", ["batch", "time", 2]),
        BOXES: ("float32", ["batch", "time", scales, 4]),
        GLIMPSES: ("int64", ["batch"]),
        NEXT_STATE: ("float32", ["batch", card.state_size]),
        NEXT_LOCATION: ("float32", ["batch", 2]),
    }

    def described(name: str) -> Any:
        return helper.make_tensor_value_info(name, TYPES[shapes[name][0]], shapes[name][1])

    graph = helper.make_graph(
        draft.nodes,
        card.graph,
        [described(name) for name in (*card.inputs, *card.options)],
        [described(name) for name in card.outputs],
        [*draft.constants, *(numpy_helper.from_array(value, name) for name, value in defaults.items())],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
