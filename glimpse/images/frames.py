"""Locations and boxes in the frames of images, and in that of the canvas onto which the images were fitted.

In a frame of locations the edges lie at -1 and 1, x to the right, y down; boxes are in pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Float32

from glimpse.contract.card import FIT
from glimpse.images.pixels import placement


class Frames:
    """Where the images of a batch lie on their canvases.

    Args:
        sizes: Each image's (height, width) before it was fitted, pixels.
        height: The canvas's height, pixels.
        width: The canvas's width, pixels.
        size_policy: How they were brought onto it, one of :data:`glimpse.contract.card.SIZE_POLICIES`.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], height: int, width: int, size_policy: str = FIT) -> None:
        places = [placement(*size, height, width, size_policy) for size in sizes]
        self._canvas = np.array([width, height])
        self._own = np.array([(own_width, own_height) for own_height, own_width in sizes])
        self._corner = np.array([(place.left, place.top) for place in places])
        self._scaled = np.array([(place.width, place.height) for place in places])

    def locations_on_canvas(self, locations: npt.NDArray[Any]) -> Float32[np.ndarray, "batch 2"]:
        """Move locations from the images onto the canvas.

        Args:
            locations: (batch, 2), one for each image, or (2,), the same in each.
        """
        return np.asarray((2 * self._corner + (locations + 1) * self._scaled) / self._canvas - 1, np.float32)

    def locations_on_images(self, locations: Float[np.ndarray, "batch time 2"]) -> Float32[np.ndarray, "batch time 2"]:
        """Move locations from the canvas onto the images.

        Args:
            locations: Those beside an image, on the black that ``fit`` leaves, come to lie beyond -1 or 1.
        """
        stretch = self._canvas / self._scaled
        shift = (self._canvas - 2 * self._corner - self._scaled) / self._scaled
        return np.asarray(locations * stretch[:, None] + shift[:, None], np.float32)

    def boxes_on_images(
        self, boxes: Float[np.ndarray, "batch time scales 4"], glances: bool = False
    ) -> Float32[np.ndarray, "batch time scales 4"]:
        """Move boxes from the canvas onto the images.

        Args:
            boxes: (left, top, right, bottom), pixels.
            glances: Whether a box of the whole canvas is a glance, whose box is the whole image, without the black that
                ``fit`` leaves beside it.
        """
        corners = np.tile(self._corner, 2)[:, None, None]
        moved = np.asarray((boxes - corners) * np.tile(self._own / self._scaled, 2)[:, None, None], np.float32)
        if not glances:
            return moved
        is_glance = (boxes == (0, 0, *self._canvas)).all(-1, keepdims=True)
        whole = np.concatenate([np.zeros_like(self._own), self._own], axis=1)[:, None, None]
        return np.where(is_glance, whole, moved).astype(np.float32)
