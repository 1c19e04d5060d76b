"""Standard errors of figures on test images that come in groups: frames of one track, photographs of one tile."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64

RESAMPLES = 2000


def standard_error(
    values: Float[np.ndarray, " images"], labels: Int64[np.ndarray, " images"], groups: Sequence[str], balanced: bool
) -> float:
    """Bootstrap over groups (Davison and Hinkley 1997, section 3.8): whole groups are drawn with replacement.

    Args:
        values: Of each image: 1 for a right prediction and 0 for a wrong one, or the difference of two such.
        labels: True classes.
        groups: The name of each image's group.
        balanced: Whether the figure is the mean over the classes of the values' means, else that over all images. A
            class without an image in a resample does not count there.

    Returns:
        The standard deviation of the figure over resamples; 0 of a single group.
    """
    _, numbers = np.unique(np.asarray(groups), return_inverse=True)
    count = int(numbers.max()) + 1
    images, sums = (np.zeros((count, int(labels.max()) + 1)) for _ in range(2))
    np.add.at(images, (numbers, labels), 1)
    np.add.at(sums, (numbers, labels), values)
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    of_class, total = drawn @ images, drawn @ sums
    if balanced:
        means = np.divide(total, of_class, out=np.full_like(total, np.nan), where=of_class > 0)
        return float(np.nanmean(means, axis=1).std())
    return float((total.sum(1) / of_class.sum(1)).std())
