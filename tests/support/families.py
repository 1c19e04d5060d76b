"""A small model of each kind of attention for digits on a canvas, and the data for it."""

from typing import Any

import torch

from glimpse.training.classifier import ClassifierTraining
from glimpse.training.families import FAMILIES

SIDE, BOX = 48, 24  # the sides of a canvas and of a digit, pixels
DATA: dict[str, Any] = {"dataset": "digits", "canvas_height": SIDE, "canvas_width": SIDE, "num_pieces": 1}
SMALL: dict[str, dict[str, Any]] = {
    "hard": {"num_glimpses": 3, "glimpse_size": 4, "num_scales": 2, "hidden": 16, "gaze_hidden": 8},
    "soft": {"num_glimpses": 2, "widths": [4, 8], "depths": [1, 1], "hidden": 16},
    "self": {"features": 8, "heads": 2, "layers": 2},
    "cnn": {"widths": [4, 8], "depths": [1, 1]},
}


def small(kind: str) -> ClassifierTraining:
    """A model of random weights that are the same each time."""
    torch.manual_seed(3)
    return FAMILIES[kind](list("0123456789"), [1, SIDE, SIDE], **SMALL[kind])
