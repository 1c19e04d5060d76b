import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from glimpse.contract.card import CARD_KEY, ContractError, ModelCard
from glimpse.contract.seal import SEAL_KEY, read_seal, seal
from glimpse.export.targets import triton
from glimpse.export.targets.ownership import DeploymentError
from glimpse.export.targets.triton import write_triton
from tests.glimpse.contract.test_card import CARD, NO_RETINA
from tests.glimpse.test_files import no_space, unchanged

EPISODE = replace(CARD, classes=('the "first"', "Ä\\n"), num_glimpses=3)
ADAPTIVE = replace(EPISODE, graph="adaptive", state_size=5)
STEP = replace(EPISODE, graph="step", state_size=5, any_size=False)
SINGLE = replace(EPISODE, model="cnn", num_glimpses=1, any_size=False, **NO_RETINA)
REPOSITORY = Path(__file__).resolve().parents[4]
TYPES = {"uint8": TensorProto.UINT8, "int64": TensorProto.INT64, "float32": TensorProto.FLOAT}


def shapes(card: ModelCard) -> dict[str, tuple[str, tuple[str | int, ...]]]:
    """The type and the shape of every tensor of the contract."""
    sides: tuple[str | int, ...] = ("height", "width") if card.any_size else (card.height, card.width)
    time: tuple[str | int, ...] = () if card.graph == "step" else (card.num_glimpses,)
    if card.graph == "adaptive":
        time = ("time",)
    classes, scales, size = len(card.classes), card.num_scales or 0, card.glimpse_size or 0
    real: dict[str, tuple[str | int, ...]] = {
        "first_location": ("places", 2),
        "confidence": (),
        "state": ("batch" if card.graph == "step" else "states", card.state_size or 0),
        "frame": (4,),
        "glimpse": ("batch", scales, card.channels, size, size),
        "location": ("batch", 2),
        "logits": ("batch", *time, classes),
        "probabilities": ("batch", *time, classes),
        "locations": ("batch", *time, 2),
        "boxes": ("batch", *time, scales, 4),
        "maps": ("batch", *time, "rows", "columns"),
        "next_state": ("batch", card.state_size or 0),
        "next_location": ("batch", 2),
    }
    return {name: ("float32", shape) for name, shape in real.items()} | {
        "images": (card.input_type, ("batch", card.channels, *sides)),
        "max_glimpses": ("int64", ()),
        "glimpses": ("int64", ("batch",)),
    }


def write_sealed(card: ModelCard, path: Path) -> Path:
    """A file with the tensors that a card names, and numbers that depend on all of them."""
    known = shapes(card)

    def declare(name: str) -> onnx.ValueInfoProto:
        kind, shape = known[name]
        return helper.make_tensor_value_info(name, TYPES[kind], list(shape))

    nodes, defaults, sums = [], [], []
    for name in (*card.inputs, *card.options):
        nodes += [
            helper.make_node("Cast", [name], [f"{name}_real"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", [f"{name}_real"], [f"{name}_sum"], keepdims=0),
        ]
        sums.append(f"{name}_sum")
    for name in card.options:
        kind, shape = known[name]
        sides = [1 if isinstance(side, str) else side for side in shape]
        defaults.append(numpy_helper.from_array(np.ones(sides, kind), name))
    nodes.append(helper.make_node("Sum", sums, ["sum"]))
    nodes.append(helper.make_node("Shape", [card.inputs[0]], ["batch"], start=0, end=1))
    for name in card.outputs:
        kind, shape = known[name]
        rest = [2 if isinstance(side, str) else side for side in shape[1:]]
        defaults.append(numpy_helper.from_array(np.array(rest, np.int64), f"{name}_rest"))
        nodes += [
            helper.make_node("Concat", ["batch", f"{name}_rest"], [f"{name}_shape"], axis=0),
            helper.make_node("Expand", ["sum", f"{name}_shape"], [f"{name}_sums"]),
            helper.make_node("Cast", [f"{name}_sums"], [name], to=TYPES[kind]),
        ]
    inputs, outputs = ([declare(name) for name in names] for names in ((*card.inputs, *card.options), card.outputs))
    graph = helper.make_graph(nodes, "toy", inputs, outputs, defaults)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {CARD_KEY: card.to_json(), SEAL_KEY: "0" * 64})
    path.write_bytes(seal(model.SerializeToString()))
    return path


@pytest.fixture
def model(tmp_path):
    return lambda card: write_sealed(card, tmp_path / f"{card.graph}.onnx")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(folder: Path) -> Any:
    """A configuration, as Triton's own schema reads it."""
    protocol = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="Triton's schema is not installed")
    text_format = pytest.importorskip("google.protobuf.text_format")
    return text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), protocol.ModelConfig())


def test_a_repository_holds_the_file_and_its_configuration(model, tmp_path):
    source = model(EPISODE)
    version = write_triton(source, EPISODE, tmp_path / "models", "digits")
    assert version == tmp_path / "models" / "digits" / "1"
    assert (version / "model.onnx").read_bytes() == source.read_bytes()
    assert names(version.parent) == ["1", "config.pbtxt"]
    assert names(tmp_path / "models") == ["digits"]
    assert version.stat().st_mode & 0o777 == (tmp_path / "models").stat().st_mode & 0o777


UINT8, INT64, FP32 = 2, 9, 11
"""Triton's numbers for the types."""


def test_an_episode_is_batched_without_its_options(model, tmp_path):
    config = read(write_triton(model(EPISODE), EPISODE, tmp_path / "models", "digits").parent)
    assert (config.name, config.platform, config.backend) == ("digits", "onnxruntime_onnx", "onnxruntime")
    assert config.default_model_filename == "model.onnx"
    assert config.max_batch_size == triton.MAX_BATCH
    assert {entry.name: (entry.data_type, list(entry.dims), entry.optional) for entry in config.input} == {
        "images": (UINT8, [1, -1, -1], False)
    }
    assert {entry.name: (entry.data_type, list(entry.dims)) for entry in config.output} == {
        "logits": (FP32, [3, 2]),
        "probabilities": (FP32, [3, 2]),
        "locations": (FP32, [3, 2]),
        "boxes": (FP32, [3, 2, 4]),
    }
    assert [(group.kind, group.count) for group in config.instance_group] == [(2, 1)]
    assert {config.parameters[name].string_value for name in ("intra_op_thread_count", "inter_op_thread_count")} == {
        "1"
    }


def test_an_adaptive_model_has_optional_inputs_and_batches_of_its_clients_own(model, tmp_path):
    config = read(write_triton(model(ADAPTIVE), ADAPTIVE, tmp_path / "models", "digits").parent)
    assert config.max_batch_size == 0
    assert {entry.name: (entry.data_type, list(entry.dims), entry.optional) for entry in config.input} == {
        "images": (UINT8, [-1, 1, -1, -1], False),
        "first_location": (FP32, [-1, 2], True),
        "confidence": (FP32, [1], True),
        "max_glimpses": (INT64, [1], True),
        "state": (FP32, [-1, 5], True),
        "frame": (FP32, [4], True),
    }
    assert {entry.name: list(entry.dims) for entry in config.output}["glimpses"] == [-1]
    assert {entry.name: list(entry.dims) for entry in config.output}["logits"] == [-1, -1, 2]


def test_an_adaptive_model_that_is_batched_counts_its_glimpses_in_scalars(model, tmp_path):
    folder = write_triton(model(ADAPTIVE), ADAPTIVE, tmp_path / "models", "digits", max_batch=8).parent
    config = read(folder)
    assert config.max_batch_size == 8
    assert [entry.name for entry in config.input] == ["images"]
    (glimpses,) = (entry for entry in config.output if entry.name == "glimpses")
    assert (glimpses.data_type, list(glimpses.dims)) == (INT64, [1])
    assert glimpses.HasField("reshape")
    assert list(glimpses.reshape.shape) == []


def test_the_queue_never_waits_for_company_and_refuses_what_is_too_much(model, tmp_path):
    batching = read(write_triton(model(EPISODE), EPISODE, tmp_path / "models", "digits").parent).dynamic_batching
    assert batching.max_queue_delay_microseconds == 0
    assert list(batching.preferred_batch_size) == []
    policy = batching.default_queue_policy
    assert policy.TimeoutAction.Name(policy.timeout_action) == "REJECT"
    assert policy.default_timeout_microseconds == 1_000_000
    assert (policy.max_queue_size, policy.allow_timeout_override) == (256, True)


def test_instances_and_graphics_processors_are_as_they_were_asked_for(model, tmp_path):
    folder = write_triton(model(EPISODE), EPISODE, tmp_path / "models", "digits", instances=3, gpu=True).parent
    (group,) = read(folder).instance_group
    assert (group.Kind.Name(group.kind), group.count) == ("KIND_GPU", 3)


@pytest.mark.parametrize("card", [EPISODE, ADAPTIVE, STEP, SINGLE], ids=lambda card: f"{card.model}-{card.graph}")
def test_the_warm_up_is_an_image_that_the_file_takes(card, model, tmp_path):
    source = model(card)
    config = read(write_triton(source, card, tmp_path / "models", "digits").parent)
    (warmup,) = config.model_warmup
    assert warmup.batch_size == 1
    assert set(warmup.inputs) == set(card.inputs)
    batch = [1] if config.max_batch_size else []
    types = {UINT8: np.uint8, FP32: np.float32}
    fed = {
        name: np.zeros(batch + list(entry.dims), types[entry.data_type])
        for name, entry in warmup.inputs.items()
        if entry.zero_data
    }
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    found = dict(zip(card.outputs, session.run(list(card.outputs), fed), strict=True))
    for output in config.output:
        wanted = list(output.reshape.shape) if output.HasField("reshape") else list(output.dims)
        shape = found[output.name].shape
        assert all(side in (-1, given) for side, given in zip([-1] * len(batch) + wanted, shape, strict=True))


def test_a_client_reads_the_card_and_the_seal_in_the_configuration(model, tmp_path):
    source = model(EPISODE)
    config = read(write_triton(source, EPISODE, tmp_path / "models", "digits").parent)
    assert ModelCard.from_json(config.parameters[CARD_KEY].string_value) == EPISODE
    assert config.parameters[SEAL_KEY].string_value == read_seal(source.read_bytes())


@pytest.mark.parametrize("card", [STEP, SINGLE], ids=["step", "single"])
def test_one_vector_of_classes_an_image_is_labelled(card, model, tmp_path):
    card = replace(card, classes=("cat", "dog"))
    folder = write_triton(model(card), card, tmp_path / "models", "digits").parent
    assert (folder / "labels.txt").read_text() == "cat\ndog\n"
    labelled = {entry.name: entry.label_filename for entry in read(folder).output}
    assert labelled == {name: "labels.txt" if name == "probabilities" else "" for name in card.outputs}


def test_several_glimpses_are_not_labelled_because_triton_would_label_the_first_alone(model, tmp_path):
    folder = write_triton(model(EPISODE), EPISODE, tmp_path / "models", "digits").parent
    assert "label_filename" not in (folder / "config.pbtxt").read_text()
    assert not (folder / "labels.txt").exists()


def test_the_next_model_of_that_name_is_the_next_version(model, tmp_path):
    first = write_triton(model(SINGLE), SINGLE, tmp_path / "models", "digits")
    old = (first / "model.onnx").read_bytes()
    changed = replace(SINGLE, classes=("cat", "dog"), data="others")
    second = write_triton(model(changed), changed, tmp_path / "models", "digits")
    assert (first.name, second.name) == ("1", "2")
    assert (first / "model.onnx").read_bytes() == old
    assert (second / "model.onnx").read_bytes() != old
    assert "others" in (first.parent / "config.pbtxt").read_text()
    assert (first.parent / "labels.txt").read_text() == "cat\ndog\n"
    (first.parent / "9").mkdir()
    (first.parent / "notes").mkdir()
    assert write_triton(model(changed), changed, tmp_path / "models", "digits").name == "10"
    assert names(tmp_path / "models") == ["digits"]


def test_a_configuration_that_somebody_edited_is_left_alone(model, tmp_path):
    source = model(EPISODE)
    config = write_triton(source, EPISODE, tmp_path / "models", "digits").parent / "config.pbtxt"
    config.write_text(edited := config.read_text().replace("count: 1", "count: 2"))
    with pytest.raises(DeploymentError, match=r"config\.pbtxt' was edited since Glimpse wrote it, and is left alone"):
        write_triton(source, EPISODE, tmp_path / "models", "digits")
    assert config.read_text() == edited
    assert names(config.parent) == ["1", "config.pbtxt"]


@pytest.mark.parametrize("nxt", [SINGLE, EPISODE], ids=["labelled", "unlabelled"])
def test_labels_that_somebody_edited_are_left_alone(nxt, model, tmp_path):
    card = replace(SINGLE, classes=("cat", "dog"))
    labels = write_triton(model(card), card, tmp_path / "models", "digits").parent / "labels.txt"
    labels.write_text("Cat\nDog\n")
    with pytest.raises(DeploymentError, match=r"labels\.txt' was edited since Glimpse wrote it, and is left alone"):
        write_triton(model(nxt), nxt, tmp_path / "models", "digits")
    assert labels.read_text() == "Cat\nDog\n"
    assert names(labels.parent) == ["1", "config.pbtxt", "labels.txt"]


def test_labels_that_somebody_else_put_there_are_left_alone(model, tmp_path):
    folder = write_triton(model(EPISODE), EPISODE, tmp_path / "models", "digits").parent
    (folder / "labels.txt").write_text("cat\ndog\n")
    for card in (EPISODE, SINGLE):
        with pytest.raises(DeploymentError, match=r"labels\.txt' was not written by Glimpse, and is left alone"):
            write_triton(model(card), card, tmp_path / "models", "digits")
    assert names(folder) == ["1", "config.pbtxt", "labels.txt"]


def test_labels_go_when_the_next_version_has_none_and_come_back_with_one_that_has(model, tmp_path):
    card = replace(SINGLE, classes=("cat", "dog"))
    folder = write_triton(model(card), card, tmp_path / "models", "digits").parent
    write_triton(model(EPISODE), EPISODE, tmp_path / "models", "digits")
    assert names(folder) == ["1", "2", "config.pbtxt"]
    assert "labels.txt" not in (folder / "config.pbtxt").read_text()
    write_triton(model(card), card, tmp_path / "models", "digits")
    (folder / "labels.txt").unlink()
    write_triton(model(card), card, tmp_path / "models", "digits")
    assert (folder / "labels.txt").read_text() == "cat\ndog\n"


def test_a_folder_of_somebody_elses_is_left_alone(model, tmp_path):
    (tmp_path / "models" / "digits").mkdir(parents=True)
    with pytest.raises(DeploymentError, match=r"to have been written by Glimpse, but it can't be read"):
        write_triton(model(EPISODE), EPISODE, tmp_path / "models", "digits")
    (tmp_path / "models" / "digits" / "config.pbtxt").write_text('name: "digits"\n')
    with pytest.raises(DeploymentError, match=r"was not written by Glimpse, and is left alone; choose another name"):
        write_triton(model(EPISODE), EPISODE, tmp_path / "models", "digits")
    assert names(tmp_path / "models" / "digits") == ["config.pbtxt"]


def test_a_copy_that_fails_leaves_nothing(model, monkeypatch, tmp_path):
    def fail(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("the disk is full")

    source = model(EPISODE)
    monkeypatch.setattr("shutil.copyfile", fail)
    with pytest.raises(OSError, match="the disk is full"):
        write_triton(source, EPISODE, tmp_path / "models", "digits")
    assert names(tmp_path / "models") == []


def test_a_file_that_was_changed_is_not_deployed(model, tmp_path):
    source = model(EPISODE)
    source.write_bytes(source.read_bytes() + b"\0")
    with pytest.raises(ContractError, match="expected a file with the SHA-256"):
        write_triton(source, EPISODE, tmp_path / "models", "digits")
    with pytest.raises(ContractError, match="can't read the model"):
        write_triton(tmp_path / "none.onnx", EPISODE, tmp_path / "models", "digits")
    assert not (tmp_path / "models").exists()


def test_a_file_that_is_not_what_its_card_says_is_not_deployed(model, tmp_path):
    source = model(EPISODE)
    with pytest.raises(DeploymentError, match=r"expected the inputs of .* to be \('glimpse', 'location', 'state'\)"):
        write_triton(source, STEP, tmp_path / "models", "digits")
    with pytest.raises(DeploymentError, match=r"expected the options of .* to be \(\), as its card says, got \('first"):
        write_triton(source, SINGLE, tmp_path / "models", "digits")
    with pytest.raises(DeploymentError, match=r"expected the outputs of .*'maps'\), as its card says"):
        write_triton(source, replace(EPISODE, has_maps=True), tmp_path / "models", "digits")


def test_a_file_with_a_fixed_batch_is_not_batched(tmp_path, monkeypatch):
    known = shapes(EPISODE)
    monkeypatch.setattr(f"{__name__}.shapes", lambda card: known | {"images": ("uint8", (1, 1, 40, 60))})
    source = write_sealed(EPISODE, tmp_path / "fixed.onnx")
    with pytest.raises(DeploymentError, match=r"expected 'images' to have a free batch .* set max_batch to 0"):
        write_triton(source, EPISODE, tmp_path / "models", "digits")


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "-x", "a b", "x" * 64, "ä", "a\n"])
def test_a_name_that_is_none_is_refused(name, model, tmp_path):
    with pytest.raises(DeploymentError, match="expected a model name of 1 to 63 letters, digits"):
        write_triton(model(EPISODE), EPISODE, tmp_path / "models", name)


@pytest.mark.parametrize("options", [{"max_batch": -1}, {"instances": 0}])
def test_numbers_that_are_none_are_refused(options, model, tmp_path):
    with pytest.raises(DeploymentError, match="expected a batch of at least 0 and at least 1 instance"):
        write_triton(model(EPISODE), EPISODE, tmp_path / "models", "digits", **options)


def test_a_repository_that_can_not_be_made_is_named(model, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "no" / "where"):
        with pytest.raises(DeploymentError, match="expected a folder to hold the model repository"):
            write_triton(model(EPISODE), EPISODE, folder, "digits")


def test_the_configuration_says_why_it_is_as_it_is(model, tmp_path):
    text = (write_triton(model(EPISODE), EPISODE, tmp_path / "models", "digits").parent / "config.pbtxt").read_text()
    assert "Images of any height and width, but requests are merged only with others of the same" in text
    assert json.dumps(EPISODE.data) in text.replace("\\", "")


def test_the_manual_turns_tf32_off_in_words_that_triton_reads(model, tmp_path):
    manual = (REPOSITORY / "docs" / "deployment.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```protobuf\n(.*?)```", manual, re.DOTALL)
    folder = write_triton(model(EPISODE), EPISODE, tmp_path / "models", "digits", gpu=True).parent
    with (folder / "config.pbtxt").open("a", encoding="utf-8") as config:
        config.write(example)
    (accelerator,) = read(folder).optimization.execution_accelerators.gpu_execution_accelerator
    assert (accelerator.name, dict(accelerator.parameters)) == ("cuda", {"use_tf32": "0"})


@pytest.mark.child
def test_the_manual_writes_what_it_says(tmp_path):
    manual = (REPOSITORY / "docs" / "deployment.md").read_text(encoding="utf-8")
    (example,) = [text for text in re.findall(r"```python\n(.*?)```", manual, re.DOTALL) if "write_triton" in text]
    write_sealed(EPISODE, tmp_path / "model.onnx")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", example]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert names(tmp_path) == ["model.onnx", "models", "service.yaml"]
    assert names(tmp_path / "models" / "digits") == ["1", "config.pbtxt"]


@pytest.mark.parametrize("there", [True, False])
def test_a_repository_that_cannot_be_written_stays_as_it_was(there, model, monkeypatch, tmp_path):
    source = model(EPISODE)
    (tmp_path / "models").mkdir()
    if there:
        write_triton(source, EPISODE, tmp_path / "models", "digits")
    monkeypatch.setattr(os, "fsync", no_space)
    with unchanged(tmp_path / "models"), pytest.raises(OSError, match="No space left on device"):
        write_triton(source, EPISODE, tmp_path / "models", "digits")
