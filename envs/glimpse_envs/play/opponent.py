"""The model that a person plays against: an exported file that classifies the same images. No torch."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from glimpse.drawing import scanpath
from glimpse.drawing.view import View, draw
from glimpse_envs.play.record import ModelRecord

DATA_OPTIONS = (
    "dataset",
    "canvas_height",
    "canvas_width",
    "num_pieces",
    "piece_size",
    "image_height",
    "image_width",
    "fit",
    "channels",
)
"""Data options in a model's recipe that are also arguments of an environment."""


class OpponentError(ValueError):
    """A model that does not match the images of a game."""


class Opponent:
    """An exported model.

    Args:
        path: An ONNX file written by ``glimpse export``.

    Raises:
        ModuleNotFoundError: When onnxruntime is not installed.
        ContractError: When the file is not an exported model.
    """

    def __init__(self, path: Path) -> None:
        # A game without a model does not need onnxruntime.
        from glimpse.runtime.session import GlimpseSession

        self.session = GlimpseSession(path)
        self.path = path
        self.card = self.session.card

    def retina_options(self) -> dict[str, Any]:
        """The model's retina and glimpse budget as arguments of an environment; empty for a model without a retina."""
        card = self.card
        if card.glimpse_size is None:
            return {}
        return {name: getattr(card, name) for name in ("num_glimpses", "glimpse_size", "num_scales", "zoom")}

    def data_options(self) -> dict[str, Any]:
        """The model's training data as arguments of an environment, as far as its card contains them."""
        data = self.card.recipe.get("data")
        if not isinstance(data, dict):
            return {}
        return {name: data[name] for name in DATA_OPTIONS if data.get(name) is not None}

    def description(self) -> dict[str, Any]:
        """The entry of the model in a record; the digest identifies the file."""
        card = self.card
        return {
            "file": self.path.name,
            "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest(),
            "model": card.model,
            "data": card.data,
            "num_glimpses": card.num_glimpses,
            "test_error": card.test_error,
        }

    def check_images(self, image_shape: tuple[int, int, int], classes: tuple[str, ...]) -> None:
        """Check that the model matches the images of a game.

        Args:
            image_shape: Channels, height and width of the game's images.
            classes: Names of their classes.

        Raises:
            OpponentError: When size, channels or classes differ from those of the model.
        """
        card = self.card
        advice = "name an environment with such images, or leave its id out to play on those that the model learned"
        if (card.channels, card.height, card.width) != image_shape:
            channels, height, width = image_shape
            raise OpponentError(
                f"{str(self.path)!r} looks at images of {_size(card.channels, card.height, card.width)}, but those of "
                f"the game are {_size(channels, height, width)}; {advice}"
            )
        if card.classes != classes:
            raise OpponentError(
                f"{str(self.path)!r} knows the classes {_names(card.classes)}, but those of the game are "
                f"{_names(classes)}; {advice}"
            )

    def classify(self, image: UInt8[np.ndarray, "height width channels"]) -> View:
        """Run the model on an image.

        Args:
            image: An image with the size and channels of the model's card.
        """
        prediction = self.session.run(image[None])
        return View(image, image, prediction, prediction)

    def record(self, view: View) -> ModelRecord:
        """The model's result for an image, as an entry of a record."""
        probabilities, locations = view.on_image.probabilities[0], view.on_image.locations[0]
        return ModelRecord(
            answers=tuple(probabilities.argmax(1).tolist()),
            confidences=tuple(probabilities.max(1).astype(float).round(4).tolist()),
            fixations=tuple((round(x, 4), round(y, 4)) for x, y in locations.astype(float).tolist()),
        )

    def draw_scanpath(self, view: View) -> Image.Image:
        """Draw the model's scanpath over the full image; for a model without a retina, its attention or attribution."""
        prediction = view.on_image
        if prediction.boxes is None:
            return draw(self.session, view)
        return scanpath.draw_scanpath(view.image, prediction.boxes[0], prediction.locations[0])


def _size(channels: int, height: int, width: int) -> str:
    return f"{height}x{width} pixels with {channels} channel{'s' * (channels > 1)}"


def _names(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:12])
    return shown if len(classes) <= 12 else f"{shown} and {len(classes) - 12} more"
