"""Write an untrained model as an ONNX file, and an image for it to classify: ``export_untrained.py MODEL IMAGE``."""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from glimpse.contract.card import ModelCard
from glimpse.export.graph.fragment import state_sizes
from glimpse.export.model import export_model, versions
from glimpse.models.hard import HardAttention, HardObserver
from glimpse.nn.retina import Retina

CLASSES = ("zero", "one", "two")


def write_image(path: Path) -> None:
    """Draw a bright square on a colour gradient."""
    pixels = np.zeros((90, 70, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 120, 90, dtype=np.uint8)[:, None]
    pixels[..., 2] = np.linspace(120, 0, 70, dtype=np.uint8)[None, :]
    pixels[20:40, 30:50] = 255
    Image.fromarray(pixels).save(path)


def write_model(path: Path) -> None:
    """Export a small model with random weights, made for colour images of another size than the one drawn above."""
    torch.manual_seed(0)
    retina = Retina(size=8, num_scales=2, zoom=2)
    model = HardAttention(
        len(CLASSES), channels=3, glimpse_size=retina.size, num_scales=retina.num_scales, hidden=32, gaze_hidden=16
    )
    card = ModelCard(
        model="hard",
        graph="adaptive",
        classes=CLASSES,
        channels=3,
        height=40,
        width=56,
        num_glimpses=3,
        glimpse_size=retina.size,
        num_scales=retina.num_scales,
        zoom=retina.zoom,
        state_size=sum(state_sizes(model)),
        has_maps=False,
        any_size=True,
        data="none: the weights are random",
        recipe={},
        versions=versions(),
    )
    images = torch.randint(0, 256, (4, 3, card.height, card.width), dtype=torch.uint8)
    export_model(HardObserver(model, retina, card.num_glimpses), card, path, images)


if __name__ == "__main__":
    model_path, image_path = map(Path, sys.argv[1:])
    write_image(image_path)
    write_model(model_path)
