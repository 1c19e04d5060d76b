"""Standard errors of figures on test images that come in groups: frames of one track, photographs of one tile."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64

RESAMPLES = 2000


class GroupSums(NamedTuple):
    """What a figure and its standard error follow from: sums over the images of each group and class."""

    images: Float[np.ndarray, "groups classes"]
    """How many images there are."""
    sums: Float[np.ndarray, "groups classes"]
    """The sum of their values: of 1 for a right prediction and 0 for a wrong one, or of differences of two such."""

    def figure(self, balanced: bool) -> float:
        """The mean of the values.

        Args:
            balanced: Whether it is the mean over the classes of the values' means, else that over all images.
        """
        return float(_figures(self.images.sum(0)[None], self.sums.sum(0)[None], balanced)[0])

    def standard_error(self, balanced: bool) -> float:
        """Bootstrap over groups (Davison and Hinkley 1997, section 3.8): whole groups are drawn with replacement.

        Args:
            balanced: As in :meth:`figure`. A class without an image in a resample does not count there.

        Returns:
            The standard deviation of the figure over resamples; 0 of a single group.
        """
        count = len(self.images)
        drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
        return float(_figures(drawn @ self.images, drawn @ self.sums, balanced).std())


def sums_of_groups(
    values: Float[np.ndarray, " images"], labels: Int64[np.ndarray, " images"], groups: Sequence[str]
) -> GroupSums:
    """Add up the values of the images of each group and class.

    Args:
        values: Of each image: 1 for a right prediction and 0 for a wrong one, or the difference of two such.
        labels: True classes.
        groups: The name of each image's group.
    """
    _, numbers = np.unique(np.asarray(groups), return_inverse=True)
    images, sums = (np.zeros((int(numbers.max()) + 1, int(labels.max()) + 1)) for _ in range(2))
    np.add.at(images, (numbers, labels), 1)
    np.add.at(sums, (numbers, labels), values)
    return GroupSums(images, sums)


def standard_error(
    values: Float[np.ndarray, " images"], labels: Int64[np.ndarray, " images"], groups: Sequence[str], balanced: bool
) -> float:
    """The standard error of a figure by bootstrap over groups, see :meth:`GroupSums.standard_error`.

    Args:
        values: As :func:`sums_of_groups` gets them, as all others.
        labels: See there.
        groups: See there.
        balanced: Whether the figure is the mean over the classes of the values' means, else that over all images.
    """
    return sums_of_groups(values, labels, groups).standard_error(balanced)


def _figures(
    images: Float[np.ndarray, "rows classes"], sums: Float[np.ndarray, "rows classes"], balanced: bool
) -> Float[np.ndarray, " rows"]:
    """The figure of each row of sums over classes."""
    if not balanced:
        overall: Float[np.ndarray, " rows"] = sums.sum(1) / images.sum(1)
        return overall
    means: Float[np.ndarray, " rows"] = np.nanmean(
        np.divide(sums, images, out=np.full_like(sums, np.nan), where=images > 0), axis=1
    )
    return means
