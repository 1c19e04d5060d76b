"""Near-duplicates: photographs of one object or scene that differ in light, framing, or a detail.

Images are compared by how the brightness changes from each cell of a 16x16 thumbnail to the next, as in a difference
hash (dHash), but with a soft sign, so that exposure and contrast don't count and noise in smooth areas counts little.
Two images are near-duplicates when two cosines are high: that of their descriptors without what all images have in
common, and that of their whitened principal components, in which a structure that many images share, such as the
outline of a traffic sign, counts as little as it says.

The descriptors are an argument: those of a pretrained network serve as well.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float32, Int64, UInt8

THUMBNAIL_SIDE = 16
"""Width and height of a thumbnail, pixels."""
LEAST_COSINE = 0.65
"""Least cosine of near-duplicates, of both kinds."""

_SOFT = 0.3
_COMPONENTS = 100
_IMAGES_PER_COMPONENT = 8
_SMALLEST_VARIANCE = 1e-4
_NEIGHBOURS = 20
_BLOCK = 1000
_TINY = 1e-6


class Pairs(NamedTuple):
    """Pairs of near-duplicates, the most similar first."""

    first: Int64[np.ndarray, " pairs"]
    """Place of one image, less than that of the other."""
    second: Int64[np.ndarray, " pairs"]
    """Place of the other image."""


def gradient_descriptors(
    thumbnails: UInt8[np.ndarray, "images height width"],
) -> Float32[np.ndarray, "images features"]:
    """Describe images by the changes of brightness between neighbouring pixels of their thumbnails.

    Args:
        thumbnails: Grey, 0 to 255.

    Returns:
        Of length 1 each; zeros where a thumbnail has one value throughout, which is like no other image.
    """
    grey = thumbnails.astype(np.float32)
    count = len(grey)
    if count == 0:
        return np.zeros((0, 1), np.float32)
    across, down = np.diff(grey, axis=2).reshape(count, -1), np.diff(grey, axis=1).reshape(count, -1)
    changes = np.concatenate([across, down], axis=1)
    usual = np.abs(changes).mean(axis=1, keepdims=True)
    return _unit(changes / (np.abs(changes) + _SOFT * usual + _TINY))


def similar_pairs(descriptors: Float32[np.ndarray, "images features"], least: float = LEAST_COSINE) -> Pairs:
    """Find the pairs of near-duplicates.

    Each image is compared with all others, in blocks, and keeps its 20 most similar ones at most.

    Args:
        descriptors: Of any length; zeros for an image that is like no other.
        least: Least cosine of near-duplicates, in (0, 1).
    """
    count = len(descriptors)
    if count < 2:
        nothing = np.zeros(0, np.int64)
        return Pairs(nothing, nothing)
    centred = descriptors - descriptors.mean(axis=0)
    centred[~descriptors.any(axis=1)] = 0
    whitened = _unit(_whiten(centred))
    centred = _unit(centred)
    neighbours = min(_NEIGHBOURS, count - 1)
    firsts, seconds, cosines = [], [], []
    for start in range(0, count, _BLOCK):
        similarity = whitened[start : start + _BLOCK] @ whitened.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -1
        nearest = np.argpartition(-similarity, neighbours - 1, axis=1)[:, :neighbours].ravel()
        rows = rows.repeat(neighbours)
        cosine = similarity[rows, nearest]
        plain = np.einsum("pf,pf->p", centred[start + rows], centred[nearest])
        chosen = (cosine > least) & (plain > least)
        firsts.append(start + rows[chosen])
        seconds.append(nearest[chosen])
        cosines.append(cosine[chosen])
    first, second, cosine = map(np.concatenate, (firsts, seconds, cosines))
    first, second = np.minimum(first, second), np.maximum(first, second)
    # By place where the cosines are equal, and each pair once, though both of its images may have found the other.
    order = np.lexsort((second, first, -cosine))
    _, once = np.unique(first[order].astype(np.int64) * count + second[order], return_index=True)
    order = order[np.sort(once)]
    return Pairs(first[order].astype(np.int64), second[order].astype(np.int64))


def join_pairs(pairs: Pairs, cells: Sequence[int]) -> tuple[list[list[int]], int]:
    """Join near-duplicates to groups, the most similar pairs first, none of which takes up a class.

    This is single linkage, which alone may join a whole class by a chain of images each of which is like the next. Two
    groups are therefore not joined where they would have more than a tenth of the images of a class, and more than
    20 images or a third of them, whichever is less: so that the class can still be in three parts.

    Args:
        pairs: As from :func:`similar_pairs`.
        cells: For each image the number of its class; that of its class and part, where parts are laid out.

    Returns:
        The places of the images of each group of several, in order, and how many pairs were not joined.
    """
    sizes = np.bincount(cells, minlength=1)
    limits = np.maximum(sizes // 10, np.minimum(20, sizes // 3)).tolist()
    top = list(range(len(cells)))
    held = [{cell: 1} for cell in cells]
    refused = 0

    def top_of(place: int) -> int:
        while top[place] != place:
            top[place] = top[top[place]]
            place = top[place]
        return place

    for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        one, other = sorted((top_of(first), top_of(second)))
        if one == other:
            continue
        if any(held[one].get(cell, 0) + number > limits[cell] for cell, number in held[other].items()):
            refused += 1
            continue
        top[other] = one
        for cell, number in held[other].items():
            held[one][cell] = held[one].get(cell, 0) + number
    groups: dict[int, list[int]] = {}
    for place in range(len(cells)):
        groups.setdefault(top_of(place), []).append(place)
    return [group for group in groups.values() if len(group) > 1], refused


def _whiten(centred: Float32[np.ndarray, "images features"]) -> Float32[np.ndarray, "images components"]:
    """The principal components, each of variance 1; so few that images of one object don't become components."""
    count = len(centred)
    components = max(1, min(_COMPONENTS, count // _IMAGES_PER_COMPONENT, centred.shape[1]))
    variances, directions = np.linalg.eigh(centred.T @ centred / count)
    variances, directions = variances[::-1][:components], directions[:, ::-1][:, :components]
    spread = np.sqrt(np.maximum(variances, max(variances[0] * _SMALLEST_VARIANCE, _TINY)))
    return np.asarray(centred @ directions / spread, np.float32)


def _unit(vectors: npt.NDArray[np.float32]) -> Float32[np.ndarray, "images features"]:
    """Vectors of length 1 in the same directions; zeros stay."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY), np.float32)
