"""The ids of the environments, and their registration with Gymnasium."""

from typing import Any, NamedTuple

import gymnasium

NAMESPACE = "Glimpse"
SINGLE, VECTOR = "glimpse_envs.classification.single:GlimpseEnv", "glimpse_envs.classification.vector:GlimpseVectorEnv"


class Registration(NamedTuple):
    """An environment that is registered with Gymnasium."""

    id: str
    summary: str
    """A short description."""
    options: dict[str, Any]
    """Default arguments of this id."""


ENTRIES = (
    Registration(
        "Digits-v0",
        "Handwritten digits of scikit-learn, 24x24 pixels at a random position on 28x28; no download needed. A "
        "glimpse at the centre covers the whole digit; `num_scales=1, first_location='random'` requires several.",
        {"dataset": "digits", "canvas_height": 28, "canvas_width": 28, "num_glimpses": 4},
    ),
    Registration(
        "MNIST-v0",
        "MNIST, 28x28 pixels, with one scale of 8x8 pixels.",
        {"dataset": "mnist", "glimpse_size": 8, "num_scales": 1, "num_glimpses": 6},
    ),
    Registration(
        "TranslatedMNIST-v0",
        "An MNIST digit at a random position on a black 60x60 canvas (Mnih et al. 2014, section 4.1).",
        {"dataset": "mnist", "canvas_height": 60, "canvas_width": 60, "num_glimpses": 6},
    ),
    Registration(
        "ClutteredMNIST-v0",
        "An MNIST digit on a 60x60 canvas with 4 clutter pieces of other digits (Mnih et al. 2014, section 4.1).",
        {"dataset": "mnist", "canvas_height": 60, "canvas_width": 60, "num_pieces": 4, "num_glimpses": 6},
    ),
    Registration(
        "ClutteredMNIST100-v0",
        "An MNIST digit on a 100x100 canvas with 8 clutter pieces; four scales.",
        {
            "dataset": "mnist",
            "canvas_height": 100,
            "canvas_width": 100,
            "num_pieces": 8,
            "num_scales": 4,
            "num_glimpses": 8,
        },
    ),
    Registration(
        "Sequence-v0",
        "Three digits side by side, to be classified from left to right.",
        {
            "dataset": "digits",
            "canvas_height": 32,
            "canvas_width": 32,
            "num_targets": 3,
            "num_scales": 2,
            "num_glimpses": 9,
            "grid_cells": 6,
        },
    ),
    Registration(
        "ImageFolder-v0",
        "Your own images in the folder `root`, with one folder for each class.",
        {"dataset": "folder", "num_glimpses": 6},
    ),
)


MAZE = Registration(
    "Maze-v0", "A maze in which the agent observes one corridor at a time; the optimal return is known.", {}
)


def register() -> None:
    """Register the environments with Gymnasium."""
    gymnasium.register(id=f"{NAMESPACE}/{MAZE.id}", entry_point="glimpse_envs.maze.env:MazeEnv")
    for entry in ENTRIES:
        gymnasium.register(
            id=f"{NAMESPACE}/{entry.id}", entry_point=SINGLE, vector_entry_point=VECTOR, kwargs=dict(entry.options)
        )
