"""The three graphs against the model's own way of looking, in every way in which they can be asked."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from glimpse.contract.card import CARD_KEY, ModelCard
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
)
from glimpse.export.graph.assembly import GraphPlan, assemble, metadata
from glimpse.export.graph.passes import simplify
from glimpse.export.parity import session_of
from glimpse.images import crop, geometry
from glimpse.models.hard import rollout_hard

Numbers = dict[str, npt.NDArray[Any]]
TARGETS = pytest.mark.parametrize("target", ["cpu", "gpu"])
BATCHES = pytest.mark.parametrize("batch", [1, 5])
SURE = np.float32(0.9)


def made(stepping: Any, graph: str, target: str = "cpu", outputs: Any = None, **changes: Any) -> onnx.ModelProto:
    card = stepping.card(graph, target=target, **changes)
    fragment = stepping.fragment
    simplify(fragment, 1 / 255 if card.input_type == "uint8" and graph != "step" else 1.0)
    model = assemble(GraphPlan(fragment, stepping.state_sizes, card, outputs))
    onnx.checker.check_model(model, full_check=True)
    return model


class Graph:
    """A graph that can be asked."""

    def __init__(self, stepping: Any, graph: str, target: str = "cpu", **changes: Any) -> None:
        self.model = made(stepping, graph, target, **changes)
        self.session = session_of(self.model.SerializeToString())
        self.names = [output.name for output in self.session.get_outputs()]

    def __call__(self, images: torch.Tensor, **options: Any) -> Numbers:
        feeds = {INPUT: images.numpy(), **{name: np.asarray(given) for name, given in options.items()}}
        return dict(zip(self.names, self.session.run(self.names, feeds), strict=True))


def expected(
    stepping: Any, images: torch.Tensor, first: npt.NDArray[Any] | None = None, times: int = 4, temperature: float = 1
) -> Numbers:
    """What the model makes of images."""
    observer = stepping.observer(times)
    start = None if first is None else torch.from_numpy(first)
    with torch.no_grad():
        trace = rollout_hard(observer.model, observer.retina, images, times, first_location=start)
    size, scales = stepping.options["glimpse_size"], stepping.options["num_scales"]
    locations = trace.locations.numpy()
    seen = geometry.boxes(locations, images.shape[2], images.shape[3], size, scales, 2)
    return {
        LOGITS: trace.logits.numpy(),
        PROBABILITIES: (trace.logits / temperature).softmax(2).numpy(),
        LOCATIONS: locations,
        BOXES: np.stack([np.stack(box, -1) for box in seen], -2),
    }


def agree(found: Numbers, wanted: Numbers, atol: float = 2e-4) -> None:
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, atol=atol, rtol=1e-4, err_msg=name)


def row(numbers: Numbers, at: int) -> Numbers:
    return {name: array[at : at + 1] for name, array in numbers.items()}


@TARGETS
@BATCHES
@pytest.mark.parametrize("graph", ["episode", "adaptive"])
def test_a_graph_looks_as_the_model_does(stepping, graph, target, batch):
    ask = Graph(stepping, graph, target)
    for height, width in ((20, 26), (33, 17), (5, 4)):
        images = stepping.images(batch, height, width)
        agree(ask(images), expected(stepping, images))


def test_the_gaze_of_these_models_depends_on_the_image(stepping):
    locations = expected(stepping, stepping.images(20))[LOCATIONS]
    assert (locations[:, 2:].std(0).max(1) > 0.01).all()


@BATCHES
@pytest.mark.parametrize("graph", ["episode", "adaptive"])
def test_fractions_are_taken_where_the_card_says_so(stepping, graph, batch):
    images = stepping.images(batch)
    agree(Graph(stepping, graph, input_type="float32")(images / 255), expected(stepping, images))


@BATCHES
@pytest.mark.parametrize("graph", ["episode", "adaptive"])
def test_the_first_location_is_given_once_or_for_each_image(steps, graph, batch):
    stepping = steps["mlp-gru"]
    ask, images = Graph(stepping, graph), stepping.images(batch)
    firsts = np.linspace(-0.8, 0.7, 2 * batch, dtype=np.float32).reshape(batch, 2)
    agree(ask(images, **{FIRST_LOCATION: firsts}), expected(stepping, images, firsts))
    once = firsts[:1]
    agree(ask(images, **{FIRST_LOCATION: once}), expected(stepping, images, np.repeat(once, batch, 0)))


@pytest.mark.parametrize("graph", ["episode", "adaptive", "step"])
def test_the_temperature_divides_the_logits_before_the_softmax_alone(steps, graph):
    stepping = steps["mlp-lstm"]
    images = stepping.images(3)
    if graph == "step":
        session = Graph(stepping, graph, temperature=2.5).session
        logits, probabilities = session.run([LOGITS, PROBABILITIES], of_step(stepping))
    else:
        answer = Graph(stepping, graph, temperature=2.5)(images)
        agree(answer, expected(stepping, images, temperature=2.5))
        logits, probabilities = answer[LOGITS], answer[PROBABILITIES]
    wanted = torch.from_numpy(logits / 2.5).softmax(-1).numpy()
    np.testing.assert_allclose(probabilities, wanted, atol=1e-6)


@TARGETS
def test_an_image_that_is_told_is_held_whatever_its_mates_do(stepping, target):
    ask, images = Graph(stepping, "adaptive", target), stepping.images(9)
    threshold = np.quantile(expected(stepping, images)[PROBABILITIES].max(2), 0.6).astype(np.float32)
    alone = [ask(images[at : at + 1], **{CONFIDENCE: threshold}) for at in range(9)]
    taken = [int(answer[GLIMPSES][0]) for answer in alone]
    assert len(set(taken)) > 1, "some images should be told before others"
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    for rows in (torch.arange(9), order, order[:4]):
        together = ask(images[rows], **{CONFIDENCE: threshold})
        for place, at in enumerate(rows.tolist()):
            one, steps_taken = row(together, place), taken[at]
            assert one[GLIMPSES] == steps_taken == len(alone[at][LOGITS][0])
            for name in (NEXT_STATE, NEXT_LOCATION):
                np.testing.assert_allclose(one[name], alone[at][name], atol=1e-5)
            for name in (LOGITS, PROBABILITIES, LOCATIONS, BOXES):
                np.testing.assert_allclose(one[name][:, :steps_taken], alone[at][name], atol=1e-4, err_msg=name)
                held = np.repeat(alone[at][name][:, -1:], one[name].shape[1] - steps_taken, 1)
                np.testing.assert_allclose(one[name][:, steps_taken:], held, atol=1e-4, err_msg=name)


@TARGETS
def test_the_loop_is_left_when_every_image_is_told(stepping, target):
    ask, images = Graph(stepping, "adaptive", target), stepping.images(9)
    probabilities = expected(stepping, images)[PROBABILITIES].max(2)
    for threshold in np.quantile(probabilities, (0.0, 0.2, 0.5, 0.8)).astype(np.float32) - np.float32(1e-4):
        sure = probabilities >= threshold
        taken = np.where(sure.any(1), sure.argmax(1) + 1, 4)
        found = ask(images, **{CONFIDENCE: threshold})
        np.testing.assert_array_equal(found[GLIMPSES], taken)
        assert found[LOGITS].shape[1] == found[BOXES].shape[1] == taken.max()
        for at in range(9):
            assert ask(images[at : at + 1], **{CONFIDENCE: threshold})[LOGITS].shape[1] == taken[at]


@TARGETS
@BATCHES
@pytest.mark.parametrize("most", [1, 2, 4, 7])
def test_at_most_so_many_glimpses_are_taken(steps, target, batch, most):
    stepping = steps["mlp-plain"]
    images = stepping.images(batch)
    found = Graph(stepping, "adaptive", target)(images, **{MAX_GLIMPSES: np.int64(most)})
    agree(found, expected(stepping, images, times=most))
    np.testing.assert_array_equal(found[GLIMPSES], [most] * batch)


def test_a_threshold_that_is_met_exactly_is_met(steps):
    stepping = steps["mlp-gru"]
    ask, images = Graph(stepping, "adaptive"), stepping.images(1)
    threshold = ask(images, **{MAX_GLIMPSES: np.int64(1)})[PROBABILITIES].max()
    assert ask(images, **{CONFIDENCE: threshold})[GLIMPSES] == 1


@TARGETS
@BATCHES
def test_going_on_glimpse_by_glimpse_is_one_call(stepping, target, batch):
    ask, images = Graph(stepping, "adaptive", target), stepping.images(batch)
    whole = ask(images)
    options: dict[str, Any] = {}
    for time in range(4):
        part = ask(images, **{MAX_GLIMPSES: np.int64(1)}, **options)
        agree(part, {name: whole[name][:, time : time + 1] for name in (LOGITS, PROBABILITIES, LOCATIONS, BOXES)})
        options = {STATE: part[NEXT_STATE], FIRST_LOCATION: part[NEXT_LOCATION]}
    agree(part, {name: whole[name] for name in (NEXT_STATE, NEXT_LOCATION)})


@pytest.mark.parametrize("batch", [1, 3])
def test_one_state_serves_every_image(steps, batch):
    stepping = steps["mlp-lstm"]
    ask, images = Graph(stepping, "adaptive"), stepping.images(batch)
    state = ask(stepping.images(1, seed=5))[NEXT_STATE]
    agree(ask(images, **{STATE: state}), ask(images, **{STATE: np.repeat(state, batch, 0)}), atol=1e-6)
    assert np.abs(ask(images, **{STATE: state})[LOGITS] - ask(images)[LOGITS]).max() > 1e-2


@TARGETS
@BATCHES
def test_a_part_of_a_larger_image_answers_as_the_whole_does(steps, target, batch):
    stepping = steps["mlp-plain"]
    ask, wholes = Graph(stepping, "adaptive", target), stepping.images(batch, 60, 80)
    left, top, right, bottom = 20, 10, 60, 45
    firsts = np.linspace(-0.2, 0.2, 2 * batch, dtype=np.float32).reshape(batch, 2)
    options = {FIRST_LOCATION: firsts, MAX_GLIMPSES: np.int64(1)}
    found = ask(wholes[:, :, top:bottom, left:right], **{FRAME: np.array([left, top, 80, 60], np.float32)}, **options)
    agree(found, ask(wholes, **options))
    assert (found[BOXES][..., 0] >= left).all()


@pytest.mark.parametrize("size", [(24, 32), (90, 41), (5, 200)])
def test_an_image_with_its_channels_last_answers_as_its_planes_do(steps, size):
    ask, planes = Graph(steps["mlp-gru"], "adaptive"), steps["mlp-gru"].images(1, *size)
    last = planes.permute(0, 2, 3, 1).reshape(planes.shape)
    agree(ask(last, **{CHANNELS_LAST: np.int64(1)}), ask(planes), atol=0)


def of_step(stepping: Any, batch: int = 3) -> Numbers:
    generator = np.random.default_rng(1)
    return {
        GLIMPSE: generator.random((batch, *stepping.glimpse_shape)).astype(np.float32),
        LOCATION: generator.uniform(-1, 1, (batch, 2)).astype(np.float32),
        STATE: np.zeros((batch, sum(stepping.state_sizes)), np.float32),
    }


@TARGETS
@BATCHES
def test_steps_one_after_another_are_the_models_episode(stepping, target, batch):
    images = stepping.images(batch)
    wanted, session = expected(stepping, images), Graph(stepping, "step", target).session
    location = np.zeros((batch, 2), np.float32)
    state = np.zeros((batch, sum(stepping.state_sizes)), np.float32)
    size, scales = stepping.options["glimpse_size"], stepping.options["num_scales"]
    for time in range(4):
        np.testing.assert_allclose(location, wanted[LOCATIONS][:, time], atol=1e-4)
        glimpse = crop.extract_glimpse(images.numpy(), location, size, scales, 2)
        logits, probabilities, state, location = session.run(
            [LOGITS, PROBABILITIES, NEXT_STATE, NEXT_LOCATION], {GLIMPSE: glimpse, LOCATION: location, STATE: state}
        )
        np.testing.assert_allclose(logits, wanted[LOGITS][:, time], atol=2e-4, rtol=1e-4)
        np.testing.assert_allclose(probabilities, wanted[PROBABILITIES][:, time], atol=1e-4)


def operators(nodes: Any) -> list[str]:
    """Every operator, those within branches and bodies among them."""
    found = []
    for node in nodes:
        found.append(node.op_type)
        for attribute in node.attribute:
            found += operators(attribute.g.node)
    return found


@TARGETS
@pytest.mark.parametrize("graph", ["episode", "step"])
def test_an_episode_and_a_step_have_no_control_flow(stepping, graph, target):
    found = operators(made(stepping, graph, target).graph.node)
    assert not {"If", "Loop", "Scan", "SequenceMap"} & set(found)
    assert found.count("Pad") == (graph == "episode" and target == "cpu")


@TARGETS
def test_an_adaptive_graph_has_its_glimpses_in_a_loop_and_an_episode_has_none(stepping, target):
    forms = 2 if target == "cpu" else 1
    assert ("If" in operators(made(stepping, "adaptive", target).graph.node)) is (target == "cpu")
    assert operators(made(stepping, "adaptive", target).graph.node).count("Loop") == forms
    cuts = "Pad" if target == "cpu" else "GatherElements"
    layouts = 1 + stepping.card("adaptive", target=target).takes_channels_last
    assert operators(made(stepping, "adaptive", target).graph.node).count(cuts) == layouts
    assert operators(made(stepping, "episode", target).graph.node).count("GatherElements") == 4


@TARGETS
@pytest.mark.parametrize("graph", ["episode", "adaptive", "step"])
def test_the_weights_are_stored_once(stepping, graph, target):
    model = made(stepping, graph, target)
    numbers = sum(
        int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT
    )
    told = [parameter for name, parameter in stepping.model.named_parameters() if not name.startswith("baseline")]
    parameters = sum(parameter.numel() for parameter in told)
    assert 0.9 * parameters <= numbers <= parameters + 200
    names = [tensor.name for tensor in model.graph.initializer]
    assert len(names) == len(set(names))


@TARGETS
@pytest.mark.parametrize("graph", ["episode", "adaptive", "step"])
def test_a_graph_has_the_contracts_names_and_types(stepping, graph, target):
    model = made(stepping, graph, target)
    card = stepping.card(graph, target=target)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert [entry.name for entry in model.graph.input] == [*card.inputs, *card.options]
    assert [entry.name for entry in model.graph.output] == list(card.outputs)
    stored = {tensor.name for tensor in model.graph.initializer}
    assert stored & {*card.inputs, *card.options} == set(card.options)
    kinds = {entry.name: entry.type.tensor_type.elem_type for entry in (*model.graph.input, *model.graph.output)}
    whole = dict.fromkeys((MAX_GLIMPSES, GLIMPSES, CHANNELS_LAST), onnx.TensorProto.INT64)
    whole[INPUT] = onnx.TensorProto.UINT8
    assert kinds == {name: whole.get(name, onnx.TensorProto.FLOAT) for name in kinds}


def axes(entry: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(axis.dim_param or axis.dim_value for axis in entry.type.tensor_type.shape.dim)


def test_a_graph_has_the_contracts_shapes(steps):
    stepping = steps["mlp-gru"]
    shapes = {
        graph: {entry.name: axes(entry) for entry in (*model.graph.input, *model.graph.output)}
        for graph in ("episode", "adaptive", "step")
        for model in [made(stepping, graph)]
    }
    images, several = (
        ("batch", 3, "height", "width"),
        {BOXES: (2, 4), LOCATIONS: (2,), LOGITS: (5,), PROBABILITIES: (5,)},
    )
    assert shapes["episode"] == {
        INPUT: images,
        FIRST_LOCATION: ("locations", 2),
        **{name: ("batch", 4, *rest) for name, rest in several.items()},
    }
    assert shapes["adaptive"] == {
        INPUT: images,
        FIRST_LOCATION: ("locations", 2),
        CONFIDENCE: (),
        MAX_GLIMPSES: (),
        STATE: ("states", 20),
        FRAME: (4,),
        CHANNELS_LAST: (),
        **{name: ("batch", "time", *rest) for name, rest in several.items()},
        GLIMPSES: ("batch",),
        NEXT_STATE: ("batch", 20),
        NEXT_LOCATION: ("batch", 2),
    }
    assert shapes["step"] == {
        GLIMPSE: ("batch", 2, 3, 4, 4),
        LOCATION: ("batch", 2),
        STATE: ("batch", 20),
        LOGITS: ("batch", 5),
        PROBABILITIES: ("batch", 5),
        NEXT_STATE: ("batch", 20),
        NEXT_LOCATION: ("batch", 2),
    }


@BATCHES
@pytest.mark.parametrize(
    ("graph", "outputs"),
    [
        ("episode", (PROBABILITIES,)),
        ("episode", (LOCATIONS, BOXES)),
        ("adaptive", (GLIMPSES, PROBABILITIES)),
        ("adaptive", (NEXT_STATE,)),
        ("step", (NEXT_STATE, LOGITS)),
    ],
)
def test_some_of_the_outputs_are_those_of_the_whole(steps, graph, outputs, batch):
    stepping = steps["conv-gru"]
    model = made(stepping, graph, outputs=outputs)
    assert [entry.name for entry in model.graph.output] == list(outputs)
    feeds = of_step(stepping, batch) if graph == "step" else {INPUT: stepping.images(batch).numpy()}
    found = session_of(model.SerializeToString()).run(list(outputs), feeds)
    wanted = Graph(stepping, graph).session.run(list(outputs), feeds)
    for mine, whole in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, whole, atol=1e-5)


def test_an_episodes_last_step_chooses_no_further_place(steps):
    stepping = steps["mlp-lstm"]
    for target in ("gpu", "cpu"):
        assert operators(made(stepping, "episode", target).graph.node).count("ArgMax") == 3


def test_a_file_carries_its_card_and_the_place_of_its_seal(steps):
    card = steps["mlp-gru"].card("adaptive", temperature=1.5)
    texts = metadata(card)
    assert ModelCard.from_json(texts[CARD_KEY]) == card
    assert texts[SEAL_KEY] == "0" * 64
    model = made(steps["mlp-gru"], "adaptive", temperature=1.5)
    assert {entry.key: entry.value for entry in model.metadata_props} == texts
