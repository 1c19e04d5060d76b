"""The benchmarks of the runtime, at sizes at which their figures mean nothing: what they compare must be comparable."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import pytorch_lightning as lightning
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks.harness import fresh_process
from benchmarks.runtime import early_exit, reference, sizes
from benchmarks.runtime.product_chain import chain_of, multiply_accumulates, optimised, products_of
from glimpse.data.datamodule import ImageData
from glimpse.training.families.hard import HardAttentionTraining

REPOSITORY = Path(__file__).resolve().parents[3]
QUICK = """
import json, sys
from pathlib import Path
from benchmarks.runtime import early_exit, gpu, models, parity, product_chain, sizes, speed, start

folder, checkpoint, reference = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
for module, args in (
    (speed, ["--reference", reference]), (start, []), (sizes, []), (early_exit, [checkpoint]), (parity, [checkpoint]),
    (gpu, []),
):
    name = module.__name__.rpartition(".")[2]
    status = module.main([*args, "--quick", "--output", str(folder / f"{name}.json")])
    assert status == 0, (name, status)

model = models.paper_model()
episode = product_chain.optimised(model.graph(outputs=("logits",)), model.sizes)
feeds = {"images": models.real_images(28, 3, None)[0].numpy()}
nodes = gpu.nodes_run(model.graph("adaptive", target="gpu"), feeds, (models.CPU,))
(folder / "nodes.json").write_text(json.dumps([node._asdict() for node in nodes]))
(folder / "episode.onnx").write_bytes(episode.SerializeToString())
"""
REFERENCE = """
import torch

class RecurrentAttention(torch.nn.Module):
    def __init__(self, *arguments):
        super().__init__()
        assert arguments == (8, 1, 1, 1, 128, 128, 0.05, 256, 10)

    def forward(self, x, l_t_prev, h_t_prev, last=False):
        assert x.dtype == torch.float32 and x.shape[1:] == (1, 28, 28)
        known = h_t_prev + 1
        return (known, l_t_prev, None, known[:, :10], None) if last else (known, l_t_prev, None, None)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, without_hook: Callable[..., str]) -> Path:
    """What quick runs of all of them wrote, over the embedded digits, in one process without the hook."""
    folder = tmp_path_factory.mktemp("runtime")
    data = ImageData("digits", canvas_height=28, canvas_width=28)
    training = HardAttentionTraining(
        data.classes, data.image_shape, num_glimpses=3, glimpse_size=6, num_scales=1, hidden=16, gaze_hidden=8
    )
    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(training)
    trainer._data_connector.attach_datamodule(training, datamodule=data)
    trainer.save_checkpoint(folder / "last.ckpt")
    (folder / "reference").mkdir()
    (folder / "reference" / "model.py").write_text(REFERENCE)
    paths = (str(folder), str(folder / "last.ckpt"), str(folder / "reference"))
    (folder / "told.txt").write_text(without_hook(QUICK, *paths, GLIMPSE_DATA=str(folder)))
    return folder


def result_of(results: Path, name: str) -> Any:
    return json.loads((results / f"{name}.json").read_text())


@pytest.mark.slow
def test_speed_is_measured_on_every_side(results):
    found = result_of(results, "speed")
    single, batch = found["tables"]
    assert (single["batch"], batch["batch"]) == (1, 64)
    for part in (single, batch):
        assert part["reference"] == part["sides"][0]["side"] == reference.NAME
        assert part["sides"][0]["times_reference"] == 1
        names = {row["side"] for row in part["sides"]}
        assert {"ours, eager", "episode, logits alone", "adaptive, all outputs"} < names
    assert found["data"] == "digits"
    assert "versions" in found["machine"]
    assert "onnxruntime" in found["machine"]["versions"]
    assert any("torch.compile" in sentence for sentence in found["left_out"])


@pytest.mark.slow
def test_the_chain_has_the_products_of_the_graph(results):
    (share,) = result_of(results, "speed")["shares"]
    assert 0 < share["multiply_accumulates"] <= share["multiply_accumulates_of_the_model"]
    graph = onnx.load(str(results / "episode.onnx"))
    chain = chain_of(graph)
    gemms = [node for node in graph.graph.node if node.op_type in ("Gemm", "FusedGemm", "MatMul")]
    windows = 6  # one product places each glimpse's window
    assert chain.products == share["products"] == len(gemms) - windows
    left = products_of(optimised(chain.model, {}))
    assert len(left) == chain.products
    assert multiply_accumulates(left) == chain.multiply_accumulates == share["multiply_accumulates"]
    assert {node.op_type for node in chain.model.graph.node} <= {"Gemm", "MatMul", "Concat", "Split"}
    assert sum(node.op_type == "Concat" for node in chain.model.graph.node) == 1


@pytest.mark.slow
def test_a_start_is_measured_in_a_process_of_its_own(results):
    starts = result_of(results, "start")["starts"]
    assert len(starts) == 2
    assert all(row["resident"] <= row["peak"] and row["import"] > 0 for row in starts.values())


@pytest.mark.slow
def test_sizes_are_compared_with_the_smallest(results):
    rows = result_of(results, "sizes")["sizes"]
    assert [row["side"] for row in rows] == [64, 128] * 3
    assert all(row["ended"] is None and row["peak_mebibytes"] > 0 for row in rows)
    assert all(row["times_smallest"] == 1 for row in rows[::2])


@pytest.mark.slow
def test_every_budget_of_the_table_is_measured(results):
    (found,) = result_of(results, "early_exit")["models"]
    names = [row["budget"] for row in found["budgets"]]
    assert names[:4] == ["1 glimpse", "2 glimpses", "3 glimpses", "until 0.5"]
    full = found["budgets"][2]
    assert full["glimpses"] == 3
    assert full["answers_unlike_full"] == 0
    assert full["of_full_1"] == full["of_full_64"] == 1
    assert full["accuracy"] == found["full_accuracy"]


@pytest.mark.slow
def test_files_are_compared_with_their_model(results):
    found = result_of(results, "parity")
    (model,) = found["models"]
    assert {row["graph"] for row in model["files"]} == {"adaptive", "episode", "step"}
    assert [row["within"] for row in model["files"] if row["precision"] == "float32"] == [True]
    assert "CPUExecutionProvider" in found["providers"]


@pytest.mark.slow
def test_a_gpu_that_is_not_there_is_told_and_nodes_are_placed(results):
    found = result_of(results, "gpu")
    if "skipped" in found:
        assert "nothing is measured: " in (results / "told.txt").read_text()
    else:
        assert found["placement"]
    nodes = json.loads((results / "nodes.json").read_text())
    assert {node["provider"] for node in nodes} == {"CPUExecutionProvider"}
    assert "Where" in {node["kind"] for node in nodes}
    assert any(node["times"] == 6 for node in nodes)


def graph_of(*nodes: Any, **weights: Any) -> Any:
    values = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes),
        "toy",
        [values("x", TensorProto.FLOAT, [1, 5])],
        [values("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(np.asarray(weight, np.float32), name) for name, weight in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_products_keep_what_they_depend_on_where_the_widths_fit():
    chain = chain_of(
        graph_of(
            helper.make_node("Gemm", ["x", "a", "bias"], ["first"]),
            helper.make_node("Relu", ["first"], ["active"]),
            helper.make_node("Gemm", ["active", "b"], ["second"], transB=1),
            helper.make_node("Gemm", ["x", "a", "second"], ["added"]),
            helper.make_node("MatMul", ["added", "a"], ["y"]),
            helper.make_node("MatMul", ["x", "of_the_cut"], ["place"]),
            a=np.ones((5, 5)),
            b=np.ones((5, 5)),
            bias=np.ones(5),
            of_the_cut=np.ones((2, 4)),
        )
    )
    first, *products, last = chain.model.graph.node
    assert (first.op_type, list(first.output)) == ("Split", ["input_0", "input_2"])
    assert [list(node.input) for node in products] == [
        ["input_0", "a"],
        ["result_0", "b"],
        ["input_2", "a", "result_1"],
        ["result_2", "a"],
    ]
    assert list(last.input) == ["result_3"]
    assert {name: array.shape for name, array in chain.feeds.items()} == {"numbers": (1, 10)}
    assert (chain.products, chain.multiply_accumulates) == (4, 100)


def test_products_in_a_branch_are_not_passed_over():
    inner = helper.make_graph([], "inner", [], [])
    with pytest.raises(ValueError, match="expected a straight line of nodes, got If; give every size"):
        products_of(graph_of(helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)))


@pytest.mark.parametrize(("wrong", "chosen"), [(0, 0.8), (1, 0.95), (2, None)])
def test_the_smallest_threshold_is_chosen_that_changes_next_to_nothing(wrong, chosen):
    # 1,000 images that end right; so many times three of them are sure of the wrong answer at first.
    logits = torch.zeros(1000, 2, 2)
    logits[:, 0, 0] = 5.0
    logits[:, 1, 0] = 9.0
    misled = slice(0, 3)
    if wrong:
        logits[misled, 0] = torch.tensor([0.0, 2.0 if wrong == 1 else 20.0])
    assert early_exit.choose(logits, torch.zeros(1000, dtype=torch.int64), 1.0, (0.95, 0.8)) == chosen


def test_large_images_are_made_of_all_the_tiles(tmp_path):
    tiles = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 64, 64), np.uint8)
    sizes.tiled(tmp_path / "image.npy", 256, tiles)
    image = np.load(tmp_path / "image.npy", mmap_mode="r")
    assert image.shape == (256, 256)
    assert image.dtype == np.uint8
    assert set(np.unique(image)) == set(range(5))
    assert (image[:64, 64:128] == 1).all()


@pytest.mark.child
def test_a_process_that_ends_early_says_how(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    np.save(tmp_path / "image.npy", np.zeros((8, 8), np.uint8))
    taken = fresh_process.in_a_fresh_process("onnx", tmp_path / "broken.onnx", tmp_path / "image.npy")
    assert taken["ended"].startswith("status 1: ")


def test_the_reference_implementation_must_be_in_the_folder_that_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"found no model\.py there; clone it"):
        reference.reference_episode(tmp_path, torch.zeros(1, 1, 28, 28, dtype=torch.uint8))
