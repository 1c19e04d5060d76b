"""The colours of drawings."""

import numpy as np
from jaxtyping import UInt8

from glimpse.drawing.text import Colour

BACKGROUND: Colour = (22, 24, 29)

OUTSIDE: Colour = (41, 44, 52)
"""What lies around the image, where windows hang over its edge."""

TEXT: Colour = (236, 238, 242)

MUTED: Colour = (150, 156, 168)

RIGHT: Colour = (74, 201, 126)

WRONG: Colour = (255, 92, 92)

_TIME_ANCHORS = np.array([[64, 190, 255], [142, 124, 255], [255, 92, 148], [255, 188, 76]])


def time_colours(count: int) -> UInt8[np.ndarray, "count 3"]:
    """Give each glimpse its RGB colour, from blue by violet and pink to amber.

    Args:
        count: Glimpses in the episode, at least 1.
    """
    place = np.linspace(0, len(_TIME_ANCHORS) - 1, count)
    channels = [np.interp(place, np.arange(len(_TIME_ANCHORS)), channel) for channel in _TIME_ANCHORS.T]
    return np.stack(channels, axis=1).round().astype(np.uint8)
