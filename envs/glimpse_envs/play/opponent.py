"""The model that a person plays against: an exported file that looks at the same images. No torch."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from glimpse.drawing import scanpath
from glimpse.drawing.view import View, draw
from glimpse_envs.play.record import ModelEntry

DATA_OPTIONS = (
    "dataset",
    "canvas_height",
    "canvas_width",
    "num_pieces",
    "piece_size",
    "image_height",
    "image_width",
    "channels",
)
"""What a model's recipe says of its images that an environment can be told."""


class OpponentError(ValueError):
    """A model that can't look at the images of a game."""


class Opponent:
    """An exported model.

    Args:
        path: An ONNX file written by ``glimpse export``.

    Raises:
        ModuleNotFoundError: When there is no onnxruntime.
        ContractError: When it is none.
    """

    def __init__(self, path: Path) -> None:
        # A game without a model does without onnxruntime.
        from glimpse.runtime.session import GlimpseSession

        self.session = GlimpseSession(path)
        self.path = path
        self.card = self.session.card

    def options(self) -> dict[str, Any]:
        """Its retina and its budget, as options of an environment; none of a model without a retina."""
        card = self.card
        if card.glimpse_size is None:
            return {}
        return {name: getattr(card, name) for name in ("num_glimpses", "glimpse_size", "num_scales", "zoom")}

    def data_options(self) -> dict[str, Any]:
        """The images that it was trained on, as options of an environment, as far as its card knows them."""
        data = self.card.recipe.get("data")
        if not isinstance(data, dict):
            return {}
        return {name: data[name] for name in DATA_OPTIONS if data.get(name) is not None}

    def describe(self) -> dict[str, Any]:
        """What a record says of it; the digest tells one file from another."""
        card = self.card
        return {
            "file": self.path.name,
            "sha256": hashlib.sha256(self.path.read_bytes()).hexdigest(),
            "model": card.model,
            "data": card.data,
            "num_glimpses": card.num_glimpses,
            "test_error": card.test_error,
        }

    def check(self, image_shape: tuple[int, int, int], classes: tuple[str, ...]) -> None:
        """Refuse images that the model was not made for.

        Args:
            image_shape: Channels, height and width of the game's images.
            classes: Names of their classes.

        Raises:
            OpponentError: When they are of another size, with other channels, or of other classes than the model's.
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

    def look(self, image: UInt8[np.ndarray, "height width channels"]) -> View:
        """Have the model look at an image.

        Args:
            image: Of its card's size and channels.
        """
        seen = self.session.run(image[None])
        return View(image, image, seen, seen)

    def entry(self, sight: View) -> ModelEntry:
        """What a record says of its look at an image."""
        probabilities, locations = sight.on_image.probabilities[0], sight.on_image.locations[0]
        return ModelEntry(
            answers=tuple(probabilities.argmax(1).tolist()),
            confidences=tuple(probabilities.max(1).astype(float).round(4).tolist()),
            fixations=tuple((round(x, 4), round(y, 4)) for x, y in locations.astype(float).tolist()),
        )

    def picture(self, sight: View) -> Image.Image:
        """Its scanpath over the whole image; for a model without a retina what it drew its answer from."""
        seen = sight.on_image
        if seen.boxes is None:
            return draw(self.session, sight)
        return scanpath.draw_scanpath(sight.image, seen.boxes[0], seen.locations[0])


def _size(channels: int, height: int, width: int) -> str:
    return f"{height}x{width} pixels with {channels} channel{'s' * (channels > 1)}"


def _names(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:12])
    return shown if len(classes) <= 12 else f"{shown} and {len(classes) - 12} more"
