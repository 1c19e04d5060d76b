"""Models, and images for them."""

from pathlib import Path

import pytest
from PIL import Image

from tests.support.brightness import MAP_CARD, PLAIN_CARD, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "model.onnx")


@pytest.fixture
def bright(tmp_path: Path) -> Path:
    path = tmp_path / "bright.png"
    Image.new("L", (30, 20), 255).save(path)
    return path


@pytest.fixture
def dark(tmp_path: Path) -> Path:
    path = tmp_path / "dark.png"
    Image.new("RGB", (60, 40), (0, 0, 0)).save(path)
    return path


@pytest.fixture(scope="module")
def soft(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "soft.onnx", MAP_CARD)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "plain.onnx", PLAIN_CARD)


@pytest.fixture
def greyish(tmp_path: Path) -> Path:
    """An image of which the model is 71 % and then 86 % sure."""
    path = tmp_path / "greyish.png"
    Image.new("L", (30, 20), 132).save(path)
    return path
