import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from glimpse.contract.card import CARD_KEY, ContractError
from glimpse.contract.seal import SEAL_KEY
from glimpse.runtime.model_file import load_model_file
from tests.glimpse.runtime.test_session import CARD, MAP_CARD, PLAIN_CARD, write_model
from tests.support import toys
from tests.support.toys import write_sealed, write_toy

CARDS = (toys.ADAPTIVE, toys.EPISODE, toys.STEP)


@pytest.mark.parametrize("card", [*CARDS, CARD, PLAIN_CARD, MAP_CARD], ids=lambda card: f"{card.model}-{card.graph}")
def test_a_file_in_order_is_loaded_with_its_card_and_its_seal(tmp_path, card):
    write = write_toy if card in CARDS else write_model
    path = write(tmp_path / "model.onnx", card)
    model = load_model_file(path)
    assert model.content == path.read_bytes()
    assert model.card == card
    assert f"{SEAL_KEY}\x12\x40{model.sha256}".encode() in model.content


def test_a_missing_model_is_rejected(tmp_path):
    with pytest.raises(
        ContractError, match=r"gone\.onnx': no such file; expected an ONNX file written by 'glimpse exp"
    ):
        load_model_file(tmp_path / "gone.onnx")


def test_a_directory_is_rejected(tmp_path):
    with pytest.raises(ContractError, match="a directory; expected an ONNX file"):
        load_model_file(tmp_path)


def test_more_bytes_than_a_file_can_have_are_refused_unread(tmp_path):
    path = tmp_path / "huge.onnx"
    with path.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(ContractError, match=r"huge\.onnx': 1,099,511,627,776 bytes, more than an ONNX file can have"):
        load_model_file(path)


def test_the_seal_can_be_asked_for(tmp_path):
    path = write_model(tmp_path / "model.onnx")
    sha256 = load_model_file(path).sha256
    assert load_model_file(path, sha256).sha256 == sha256
    with pytest.raises(ContractError, match=rf"expected the file with the seal {'0' * 64}, got that with {sha256}"):
        load_model_file(path, "0" * 64)


def test_card_and_seal_are_checked_before_the_runtime_gets_the_file(tmp_path, monkeypatch):
    path = write_model(tmp_path / "model.onnx", replace(CARD, num_glimpses=10**9))
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(path.read_bytes().replace(b'"dark"', b'"DARK"'))
    bare = write_model(tmp_path / "bare.onnx", card=None)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the runtime got the file")

    monkeypatch.setattr("glimpse.runtime.model_file.onnxruntime.InferenceSession", refuse)
    for file, sentence in (
        (path, "num_glimpses in the card from 1"),
        (changed, "were changed"),
        (bare, "no model card"),
    ):
        with pytest.raises(ContractError, match=sentence):
            load_model_file(file)


def test_a_pipe_and_a_device_are_no_regular_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path / "pipe.onnx", Path("/dev/null")):
        with pytest.raises(ContractError, match=f"can't load the model '{path}': no regular file; expected an ONNX"):
            load_model_file(path)


@pytest.mark.parametrize("start", [b"PK\x03\x04 zipped tensors", b"\x80\x04\x95 pickled code"])
def test_a_checkpoint_is_rejected_without_being_opened(tmp_path, start):
    path = tmp_path / "last.ckpt"
    path.write_bytes(start)
    with pytest.raises(
        ContractError, match=r"last\.ckpt' is a checkpoint or pickled code.*'glimpse export CHECKPOINT'"
    ):
        load_model_file(path)


@pytest.mark.parametrize("data", [b"", b"hello, I am a text", bytes(range(64)) * 10])
def test_what_is_no_onnx_file_is_rejected(tmp_path, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ContractError, match=r"can't load the model .*model\.onnx' .*expected an ONNX file written by"):
        load_model_file(path)


def test_a_truncated_model_is_rejected(tmp_path):
    path = write_model(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ContractError, match="can't load the model"):
        load_model_file(path)


def test_an_onnx_file_without_its_card_is_rejected(tmp_path):
    path = write_model(tmp_path / "model.onnx", card=None)
    with pytest.raises(ContractError, match=r"model\.onnx' has no model card \(metadata key 'glimpse\.card'\)"):
        load_model_file(path)


def test_a_file_without_a_seal_is_rejected(tmp_path):
    model = onnx.load(str(write_model(tmp_path / "model.onnx")))
    helper.set_model_props(model, {CARD_KEY: CARD.to_json()})
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(ContractError, match=r"bare\.onnx': expected a file with a seal \(metadata key"):
        load_model_file(tmp_path / "bare.onnx")


def test_a_changed_weight_is_rejected(tmp_path):
    path = write_model(tmp_path / "model.onnx")
    model = onnx.load(str(path))
    weight = next(each for each in model.graph.initializer if each.name == "slopes")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.001), "slopes"))
    onnx.save(model, path)
    with pytest.raises(ContractError, match=r"model\.onnx': expected a file with the SHA-256 .* were changed"):
        load_model_file(path)


def test_a_changed_card_is_rejected(tmp_path):
    path = write_model(tmp_path / "model.onnx")
    content = path.read_bytes()
    assert content.count(b'["dark", "bright"]') == 1
    path.write_bytes(content.replace(b'["dark", "bright"]', b'["bright", "dark"]'))
    with pytest.raises(ContractError, match=r"its weights or its card were changed"):
        load_model_file(path)


def test_a_newer_card_is_named_rather_than_a_broken_seal(tmp_path):
    path = write_model(tmp_path / "model.onnx", json.dumps({"schema_version": 7}))
    path.write_bytes(path.read_bytes() + b"\x72\x00")
    with pytest.raises(ContractError, match="schema version 3, got 7"):
        load_model_file(path)


FIXED = replace(CARD, any_size=False)


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ("{", "card is no valid JSON"),
        (json.dumps({"schema_version": 7}), "schema version 3, got 7"),
        (replace(CARD, zoom=0), "whole numbers of at least 1 in the card, got .*zoom=0"),
        (replace(CARD, zoom=None), "whole numbers of at least 1 in the card, got .*zoom=None"),
        (replace(CARD, graph="adaptive"), "whole numbers of at least 1 in the card, got .*state_size=None"),
        (replace(PLAIN_CARD, graph="step", state_size=4), "in the card, got .*glimpse_size=None"),
        (
            replace(CARD, size_policy="stretch"),
            r"a size_policy out of \('fit', 'squash'\), got 'stretch'; use a version of Gl",
        ),
        (replace(CARD, graph="spiral"), r"a graph out of \('adaptive', 'episode', 'step'\), got 'spiral'"),
        (replace(CARD, input_type="int16"), r"an? input_type out of \('uint8', 'float32'\), got 'int16'"),
        (replace(CARD, precision="int4"), r"a precision out of \('float32', 'float16', 'int8'\), got 'int4'"),
        (replace(CARD, channels=2), "channels=2"),
        (replace(CARD, classes=()), "0 classes"),
        (replace(CARD, classes=("dark", "dark")), r"names each class once, got \['dark'\] more than once; expected"),
        *(
            (replace(CARD, temperature=value), f"a finite temperature above 0 in the card, got {value}; expected")
            for value in (0.0, -1.0, float("inf"), float("nan"))
        ),
        (replace(FIXED, height=21), r"'images' as uint8 \(any batch, 1, 21, 30\), as its card says, got .*20, 30"),
        (replace(CARD, channels=3), r"'images' as uint8 \(any batch, 3, any height, any width\)"),
        (replace(CARD, input_type="float32"), r"'images' as float \(.*got tensor\(uint8\)"),
        (replace(CARD, classes=("a", "b", "c")), r"'logits' as float \(any, any, 3\), .* got tensor\(float\) \(batch"),
        (replace(CARD, num_scales=3), r"'boxes' as float \(any, any, 3, 4\)"),
        (replace(CARD, has_maps=True), r"expected the outputs \(.*'maps'\) as its card says, got \('logits'"),
    ],
)
def test_a_card_that_is_wrong_is_rejected_by_file(tmp_path, card, sentence):
    height = {"sides": [20, 30]} if card == replace(FIXED, height=21) else {}
    written = CARD if not isinstance(card, str) else card
    path = write_model(tmp_path / "model.onnx", written, **height)
    if not isinstance(card, str):
        write_sealed(path, onnx.load(str(path)), card.to_json())
    with pytest.raises(ContractError, match=r"model\.onnx'.*" + sentence):
        load_model_file(path)


def test_a_graph_of_one_size_whose_card_states_any_is_rejected(tmp_path):
    with pytest.raises(ContractError, match=r"any height, any width\), as its card says, got .*\(batch, 1, 20, 30\)"):
        load_model_file(write_model(tmp_path / "model.onnx", sides=[20, 30]))


def test_a_graph_with_other_names_is_rejected(tmp_path):
    with pytest.raises(ContractError, match=r"expected the inputs \('images',\) as its card says, got \('pictures',"):
        load_model_file(write_model(tmp_path / "input.onnx", input="pictures"))
    with pytest.raises(ContractError, match=r"expected the outputs \('logits', 'probabilities', .* got \('scores',"):
        load_model_file(write_model(tmp_path / "outputs.onnx", outputs=("scores", "probabilities")))


def remade(path: Path, card: Any, change: Any) -> Path:
    """A toy whose graph was changed and sealed again."""
    model = onnx.load(str(write_toy(path, card)))
    change(model.graph)
    return write_sealed(path, model, card.to_json())


def drop(values: Any, name: str) -> None:
    values.remove(next(value for value in values if value.name == name))


def add_output(graph: Any) -> None:
    graph.output.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, ["batch", 2]))
    graph.node.append(helper.make_node("Identity", ["next_location"], ["extra"]))


@pytest.mark.parametrize(
    ("card", "change", "sentence"),
    [
        (toys.STEP, add_output, r"expected the outputs \(.*'next_location'\) as its card says, got .*'extra'\)"),
        (toys.ADAPTIVE, add_output, r"expected the outputs .*, got .*'next_location', 'extra'\)"),
        (
            toys.EPISODE,
            lambda graph: drop(graph.output, "boxes"),
            r"expected the outputs .*'boxes'\) as its card says, got .*'locations'\)",
        ),
        (
            toys.ADAPTIVE,
            lambda graph: drop(graph.initializer, "state"),
            r"expected the inputs \('images',\) as its card says, got \('images', 'state'\)",
        ),
        (
            toys.EPISODE,
            lambda graph: drop(graph.input, "first_location"),
            r"expected the inputs with a default \('first_location',\) as its card says, got \(\)",
        ),
    ],
)
def test_a_tensor_too_few_or_too_many_is_rejected(tmp_path, card, change, sentence):
    with pytest.raises(ContractError, match=sentence):
        load_model_file(remade(tmp_path / "toy.onnx", card, change))


def test_a_state_of_another_length_is_rejected(tmp_path):
    path = write_toy(tmp_path / "toy.onnx", toys.STEP)
    write_sealed(path, onnx.load(str(path)), replace(toys.STEP, state_size=4).to_json())
    with pytest.raises(ContractError, match=r"'state' as float \(any, 4\), as its card says, got tensor\(float\)"):
        load_model_file(path)
