"""The attention maps of any observer on its images: the explicit map of its trace, the implicit one of its prediction.

*Explicit* attention is what the model itself weighed, or took glimpses of, on its way to a prediction. *Implicit*
attention is what its prediction depends on, which can be computed for any model; see
:mod:`glimpse.evaluation.attribution`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from glimpse.evaluation.attribution import fixation_density, integrated, jacobian, resize_map, saliency, smoothed
from glimpse.models.observer import Observer
from glimpse.nn.retina import fractions
from glimpse.rollout import Trace

MAP_METHODS = {"jacobian": jacobian, "smoothed": smoothed, "integrated": integrated}
"""How the implicit map is found, by name."""


def explicit_maps(
    observer: Observer, trace: Trace, height: int, width: int
) -> Float[Tensor, "batch {height} {width}"] | None:
    """Map what a model attended to, over its whole episode.

    Attention weights are the mean over the glimpses, spread over the image's pixels. A model without them has
    :func:`fixation_maps` instead.

    Args:
        observer: The model.
        trace: What it did.
        height: The images' height, pixels.
        width: The images' width, pixels.

    Returns:
        Maps that each sum to one; None for a model that attends to nothing in particular.
    """
    if trace.maps is not None:
        return resize_map(trace.maps.detach().float().mean(1), height, width)
    return fixation_maps(observer, trace, height, width)


def fixation_maps(
    observer: Observer, trace: Trace, height: int, width: int
) -> Float[Tensor, "batch {height} {width}"] | None:
    """Map where a model looked: the density of its fixations, each a Gaussian of half the finest window.

    A glance at the whole image is no fixation.

    Args:
        observer: The model.
        trace: What it did.
        height: The images' height, pixels.
        width: The images' width, pixels.

    Returns:
        Maps that each sum to one; None for a model that looked at no place in particular.
    """
    locations = trace.locations.detach()
    if observer.retina is not None:
        return fixation_density(locations, height, width, observer.retina.size / 2)
    if observer.window is not None and locations.shape[1] > 1:
        return fixation_density(locations[:, 1:], height, width, observer.window / 2)
    return None


def implicit_maps(
    observer: Observer,
    images: Shaped[Tensor, "batch channels height width"],
    outputs: Int64[Tensor, " batch"],
    method: str = "jacobian",
    first_location: Float[Tensor, "batch 2"] | None = None,
) -> Float[Tensor, "batch height width"]:
    """Map how much each pixel would change one logit of the last glimpse.

    The fixations of a model that looks at windows are held at the locations that it chose itself: a crop in whole
    pixels has no derivative with respect to its place. The model is run as it is, in evaluation mode, and no parameter
    gets a gradient.

    Args:
        observer: The model.
        images: uint8 in [0, 255], or floating point in [0, 1].
        outputs: The class whose logit is explained, for each image.
        method: One of ``MAP_METHODS``: jacobian, smoothed, or through captum integrated.
        first_location: Where a model with a retina begins, (x, y) in [-1, 1]; the image's centre when left out.

    Returns:
        Maps that each sum to one; see :func:`glimpse.evaluation.attribution.saliency`.

    Raises:
        ModuleNotFoundError: When the method needs captum, which is not installed.
        ValueError: When the method is unknown, or the model has no such output.
    """
    if method not in MAP_METHODS:
        raise ValueError(f"expected a method out of {', '.join(MAP_METHODS)}; got {method!r}; choose one of them")
    was_training = observer.training
    observer.eval()
    try:
        return saliency(MAP_METHODS[method](last_logits(observer, images, first_location), fractions(images), outputs))
    finally:
        observer.train(was_training)


def last_logits(
    observer: Observer,
    images: Shaped[Tensor, "batch channels height width"],
    first_location: Float[Tensor, "batch 2"] | None = None,
) -> Callable[[Float[Tensor, "batch channels height width"]], Float[Tensor, "batch classes"]]:
    """The model as a function of pixels, for all of :mod:`glimpse.evaluation.attribution`: what it believes in the end.

    Args:
        observer: The model.
        images: What it looks at. A model that looks at windows keeps the fixations of these images, whatever images the
            function is then called with.
        first_location: Where a model with a retina begins, (x, y) in [-1, 1]; the image's centre when left out.
    """
    if not observer.chooses:
        return lambda pixels: observer(pixels).logits[:, -1]
    given = () if first_location is None else (first_location,)
    with torch.no_grad():
        locations = observer(images, *given).locations
    return lambda pixels: observer.following(pixels, locations).logits[:, -1]
