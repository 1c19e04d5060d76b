"""ONNX models with two fixed fixations that classify an image by its brightness, and the command that runs them."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from glimpse.cli.classify import command as command_module
from glimpse.cli.classify.options import add_arguments
from glimpse.contract.card import CARD_KEY, ModelCard
from glimpse.contract.seal import SEAL_KEY, seal
from glimpse.images import geometry

LOCATIONS = np.array([[-0.5, 0.25], [0.5, -0.75]], np.float32)
MAPS = np.array([[[0.5, 0.25, 0], [0.25, 0, 0]], [[0, 0, 0], [0, 0, 1]]], np.float32)
CARD = ModelCard(
    model="hard",
    graph="episode",
    classes=("dark", "bright"),
    channels=1,
    height=20,
    width=30,
    num_glimpses=2,
    glimpse_size=4,
    num_scales=2,
    zoom=2,
    has_maps=False,
    any_size=False,
    data="made up",
    recipe={},
    versions={},
)
PLAIN_CARD = replace(CARD, model="cnn", glimpse_size=None, num_scales=None, zoom=None)
MAP_CARD = replace(PLAIN_CARD, model="soft", has_maps=True)


def write_model(path: Path, card: ModelCard = CARD) -> Path:
    boxes = np.stack([np.stack(box, -1) for box in geometry.boxes(LOCATIONS, card.height, card.width, 4, 2, 2)], -2)
    constants = {
        "middle": np.array([127.5], np.float32),
        "where": LOCATIONS[None],
        "windows": boxes[None].astype(np.float32),
        "axes": np.array([1, 2, 3]),
        "shape": np.array([-1, 1, 1]),
        "weights": MAPS[None],
        "shape_of_both": np.array([-1, 1, 1, 1]),
        "slopes": np.array([[[-0.1, 0.1], [-0.2, 0.2]]], np.float32),
        "zero": np.zeros(1, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "middle"], ["brightness"]),
        helper.make_node("Reshape", ["brightness", "shape"], ["column"]),
        helper.make_node("Mul", ["column", "slopes"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "where"], ["locations"]),
        helper.make_node("Reshape", ["nothing", "shape_of_both"], ["nothing_of_both"]),
        helper.make_node("Add", ["nothing_of_both", "windows"], ["boxes"]),
        helper.make_node("Add", ["nothing_of_both", "weights"], ["maps"]),
    ]
    tails = {"logits": (2, 2), "probabilities": (2, 2), "locations": (2, 2), "boxes": (2, 2, 4), "maps": (2, 2, 3)}
    size = [card.channels, card.height, card.width]
    first = helper.make_tensor_value_info("first_location", TensorProto.FLOAT, [1, 2])
    graph = helper.make_graph(
        nodes,
        "episode",
        [
            helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", *size]),
            *[first] * ("first_location" in card.options),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *tails[name]]) for name in card.outputs],
        [
            *(numpy_helper.from_array(value, name) for name, value in constants.items()),
            *[numpy_helper.from_array(np.zeros((1, 2), np.float32), "first_location")]
            * ("first_location" in card.options),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {CARD_KEY: card.to_json(), SEAL_KEY: "0" * 64})
    onnx.checker.check_model(model)
    path.write_bytes(seal(model.SerializeToString()))
    return path


def run(*arguments: Any) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return command_module.run(parser.parse_args(list(map(str, arguments))))
