"""Every graph in other runtimes than onnxruntime as we set it up: the same answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from glimpse.contract.tensors import CONFIDENCE, FIRST_LOCATION, INPUT, STATE
from glimpse.export.graph.assembly import GraphPlan, assemble
from glimpse.export.graph.passes import simplify
from glimpse.export.parity import session_of
from tests.conftest import Stepping

Numbers = dict[str, npt.NDArray[Any]]
Runtime = Callable[[Numbers], Numbers]
BATCHES = (1, 2, 3, 7, 64, 1)


def in_openvino(model: onnx.ModelProto, folder: Path, fixed: Numbers | None = None) -> Runtime:
    """OpenVINO in float32: by default it computes in bfloat16 where the processor can.

    Args:
        model: The graph.
        folder: For a file.
        fixed: Inputs whose sizes the model is compiled for; any sizes when left out.
    """
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install '.[runtimes]'")
    onnx.save(model, folder / "model.onnx")
    core = openvino.Core()
    read = core.read_model(folder / "model.onnx")
    if fixed is not None:
        read.reshape({name: list(array.shape) for name, array in fixed.items()})
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    # An input with a default has become a constant.
    taken = {name for port in compiled.inputs for name in port.names}

    def run(feeds: Numbers) -> Numbers:
        assert feeds.keys() <= taken
        found = compiled(feeds)
        return {entry.name: np.array(found[compiled.output(entry.name)]) for entry in model.graph.output}

    return run


def in_onnxruntime_as_written(model: onnx.ModelProto, folder: Path) -> Runtime:
    """onnxruntime without any optimisation: each node as it stands in the file."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in model.graph.output]
    return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True))


RUNTIMES = pytest.mark.parametrize("runtime", [in_openvino, in_onnxruntime_as_written], ids=["openvino", "as-written"])


def graph_of(stepping: Stepping, graph: str, target: str, input_type: str = "uint8") -> onnx.ModelProto:
    card = stepping.card(graph, target=target, input_type=input_type)
    fragment = stepping.fragment
    simplify(fragment, 1 / 255 if card.input_type == "uint8" else 1.0)
    return assemble(GraphPlan(fragment, stepping.state_sizes, card))


def agree(model: onnx.ModelProto, found: Numbers, feeds: Numbers) -> None:
    names = [entry.name for entry in model.graph.output]
    expected = dict(zip(names, session_of(model.SerializeToString()).run(names, feeds), strict=True))
    for name in names:
        assert found[name].shape == expected[name].shape, name
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5, rtol=1e-4, err_msg=name)


def images_of(stepping: Stepping, batch: int, height: int, width: int, input_type: str = "uint8") -> Numbers:
    pixels = stepping.images(batch, height, width, seed=batch).numpy()
    return {INPUT: pixels if input_type == "uint8" else (pixels / np.float32(255)).astype(np.float32)}


@RUNTIMES
@pytest.mark.parametrize("target", ["cpu", "gpu"])
@pytest.mark.parametrize("graph", ["episode", "adaptive"])
def test_images_of_any_number_and_size_give_the_same_answers(stepping, runtime, graph, target, tmp_path):
    if runtime is in_openvino and graph == "adaptive":
        pytest.skip("OpenVINO 2026.4 is said to run the episode alone, see docs/deployment.md")
    model = graph_of(stepping, graph, target)
    run = runtime(model, tmp_path)
    for batch in BATCHES:
        for height, width in ((20, 26), (37, 19)):
            feeds = images_of(stepping, batch, height, width)
            agree(model, run(feeds), feeds)


@pytest.mark.parametrize("target", ["cpu", "gpu"])
@pytest.mark.parametrize("batch", [1, 2, 64])
def test_openvino_agrees_when_it_is_told_the_sizes_beforehand(stepping, target, batch, tmp_path):
    if stepping.name == "mlp-plain":
        pytest.skip("OpenVINO 2026.4.1 crashes on a plain core with a gaze core of its own, see docs/deployment.md")
    model = graph_of(stepping, "episode", target)
    feeds = images_of(stepping, batch, 20, 26)
    agree(model, in_openvino(model, tmp_path, feeds)(feeds), feeds)


@RUNTIMES
@pytest.mark.parametrize("graph", ["episode", "adaptive"])
def test_fractions_give_the_same_answers(stepping, runtime, graph, tmp_path):
    if runtime is in_openvino and graph == "adaptive":
        pytest.skip("OpenVINO 2026.4 is said to run the episode alone, see docs/deployment.md")
    model = graph_of(stepping, graph, "cpu", "float32")
    run = runtime(model, tmp_path)
    for batch in (2, 1, 5):
        feeds = images_of(stepping, batch, 20, 26, "float32")
        agree(model, run(feeds), feeds)


def test_the_options_give_the_same_answers_in_nodes_as_written(stepping, tmp_path):
    place: Numbers = {FIRST_LOCATION: np.array([[0.4, -0.3]], np.float32)}
    adaptive: Numbers = {
        CONFIDENCE: np.array(0.3, np.float32),
        STATE: np.full((1, sum(stepping.state_sizes)), 0.1, np.float32),
    }
    for graph, options in (("episode", place), ("adaptive", place | adaptive)):
        model = graph_of(stepping, graph, "cpu")
        for batch in (1, 3):
            feeds = images_of(stepping, batch, 20, 26) | options
            agree(model, in_onnxruntime_as_written(model, tmp_path)(feeds), feeds)
