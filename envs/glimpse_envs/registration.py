"""The ids under which Gymnasium knows the environments."""

from typing import Any, NamedTuple

import gymnasium

NAMESPACE = "Glimpse"
SINGLE, VECTOR = "glimpse_envs.classification.single:GlimpseEnv", "glimpse_envs.classification.vector:GlimpseVectorEnv"


class Registration(NamedTuple):
    """An environment that can be made by its id."""

    id: str
    summary: str
    """What it shows, in a sentence."""
    options: dict[str, Any]
    """Arguments that it has where nothing else is said."""


ENTRIES = (
    Registration(
        "Digits-v0",
        "Scikit-learn's real digits, 24x24 pixels at a random place on 28x28; embedded, no network: the quick start. "
        "One glimpse from the middle shows a whole digit; `num_scales=1, first_location='random'` makes an agent look.",
        {"dataset": "digits", "canvas_height": 28, "canvas_width": 28, "num_glimpses": 4},
    ),
    Registration(
        "MNIST-v0",
        "MNIST as it is, 28x28, through one window of 8x8.",
        {"dataset": "mnist", "glimpse_size": 8, "num_scales": 1, "num_glimpses": 6},
    ),
    Registration(
        "TranslatedMNIST-v0",
        "A digit at a random place on a black 60x60 canvas (Mnih et al. 2014, section 4.1).",
        {"dataset": "mnist", "canvas_height": 60, "canvas_width": 60, "num_glimpses": 6},
    ),
    Registration(
        "ClutteredMNIST-v0",
        "The same among 4 pieces of other digits (Mnih et al. 2014, section 4.1).",
        {"dataset": "mnist", "canvas_height": 60, "canvas_width": 60, "num_pieces": 4, "num_glimpses": 6},
    ),
    Registration(
        "ClutteredMNIST100-v0",
        "A digit on 100x100 among 8 pieces, four scales.",
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
        "Three digits side by side, to be read from left to right.",
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
        "Images of your own, one folder a class, under root.",
        {"dataset": "folder", "num_glimpses": 6},
    ),
)


MAZE = Registration("Maze-v0", "An agent that sees only the way it looks along; its optimum is known.", {})


def register() -> None:
    """Make the ids known to Gymnasium."""
    gymnasium.register(id=f"{NAMESPACE}/{MAZE.id}", entry_point="glimpse_envs.maze.env:MazeEnv")
    for entry in ENTRIES:
        gymnasium.register(
            id=f"{NAMESPACE}/{entry.id}", entry_point=SINGLE, vector_entry_point=VECTOR, kwargs=dict(entry.options)
        )
