"""Glance and focus: a coarse look at the whole image says what is where, and windows at full resolution settle it.

The glance is a convolutional network on the image scaled down. Each place of its map gives evidence for each class, and
the whole map gives evidence for each class that lies nowhere in particular (an empty board, a scene). All evidence is
one distribution over pairs of class and place, and a class's probability is the sum over its places:

    p(class) = softmax over classes of  log( exp(nowhere) + sum over places exp(evidence) )

which is multiple-instance learning with a log-sum-exp (Ramon and De Raedt 2000; Pinheiro and Collobert, CVPR 2015, eq.
2). The gaze goes to the place with the most evidence. There a window is cut out at full resolution (Wang et al., Glance
and Focus, NeurIPS 2020), in which a second network finds a log-likelihood ratio for each class: how much likelier the
window is to show an object of the class than nothing. It is added to the evidence of the places that the window covers,
as in Bayesian search (Stone 1975): a window that shows nothing lowers a false alarm, one that says nothing leaves the
evidence as it is, and one that shows the object settles which it is. A place is looked at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from glimpse.images.geometry import boxes
from glimpse.models.observer import Observer
from glimpse.nn.backbones import Backbone
from glimpse.nn.encoders import middles, standardise
from glimpse.nn.heads import precisely
from glimpse.nn.retina import extract_glimpse, fractions
from glimpse.rollout import Trace, rollout

NOTHING = -6.0
"""Evidence of a place before training."""
NEVER = -1e4
"""Evidence that counts for nothing."""


class FocusState(NamedTuple):
    """All evidence after some glimpses, logarithms that are not normalised."""

    nowhere: Float[Tensor, "batch classes"]
    """For each class in no place."""
    places: Float[Tensor, "batch classes map_height map_width"]
    """For each class in each place of the glance's map: of the glance, and of the windows that cover the place."""
    visited: Bool[Tensor, "batch map_height map_width"]
    """The places that a window covered."""


class FocusChoice(NamedTuple):
    """A place to look at; a :class:`glimpse.rollout.Choice`."""

    location: Float[Tensor, "batch 2"]
    log_prob: Float[Tensor, " batch"]
    entropy: Float[Tensor, " batch"]
    weights: Float[Tensor, "batch map_height map_width"]
    """The distribution over places that it was chosen from."""


class FocusStep(NamedTuple):
    """The result of one glimpse."""

    state: FocusState
    logits: Float[Tensor, "batch classes"]
    value: None = None


class GlanceAndFocus(nn.Module):
    """A glance at the whole, and windows where it found most.

    Args:
        glance: Network from the scaled image to a map of ``glance.features`` channels.
        focus: Network from a window to a map of ``focus.features`` channels; None for the glance's own.
        num_classes: Number of classes.
        channels: Channels of the image.
        window: Side of a window, pixels of the image.
        reduction: How many times smaller the glance sees the image than it is.
        dropout: Share of the features that training leaves out before each classifier, in [0, 1).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        glance: nn.Module,
        focus: nn.Module | None,
        num_classes: int,
        channels: int = 3,
        window: int = 64,
        reduction: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.glance, self.focus = glance, focus
        self.window, self.reduction = window, reduction
        features = int(glance.features)  # type: ignore[arg-type]
        close = features if focus is None else int(focus.features)  # type: ignore[arg-type]
        self.dropout = nn.Dropout(dropout)
        self.place_classifier = nn.Conv2d(features, num_classes, 1)
        self.whole_classifier = nn.Linear(2 * features, num_classes)
        self.window_classifier = nn.Linear(2 * close, num_classes)
        for layer in (self.place_classifier, self.whole_classifier, self.window_classifier):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def look_around(self, images: Shaped[Tensor, "batch channels height width"]) -> FocusState:
        """Take the glance: evidence for each class in each place and in none.

        Args:
            images: uint8 in [0, 255], or floating point in [0, 1].
        """
        pixels = fractions(images)
        if self.reduction > 1:
            pixels = functional.avg_pool2d(pixels, self.reduction)
        features = self.glance(standardise(pixels, self.mean, self.std))
        pooled = mean_and_max(features)
        places = precisely(self.place_classifier, self.dropout(features)) + NOTHING
        visited = torch.zeros_like(places[:, 0], dtype=torch.bool)
        return FocusState(precisely(self.whole_classifier, self.dropout(pooled)), places, visited)

    def look_closely(
        self, images: Shaped[Tensor, "batch channels height width"], locations: Float[Tensor, "batch windows 2"]
    ) -> Float[Tensor, "batch windows classes"]:
        """Look at windows of each image: the log-likelihood ratio of each class against nothing.

        Args:
            images: uint8 in [0, 255], or floating point in [0, 1].
            locations: Middles of the windows, (x, y) in [-1, 1], as :meth:`inside` gives them.
        """
        cut = [extract_glimpse(images, each, self.window, 1, 1) for each in locations.unbind(1)]
        pixels = torch.cat(cut, dim=1)
        encode = self.glance if self.focus is None else self.focus
        features = encode(standardise(pixels.flatten(0, 1), self.mean, self.std))
        found: Tensor = precisely(self.window_classifier, self.dropout(mean_and_max(features)))
        windows: Tensor = found.unflatten(0, pixels.shape[:2])
        return windows

    def inside(self, location: Float[Tensor, "*shape 2"], height: int, width: int) -> Float[Tensor, "*shape 2"]:
        """The nearest locations whose windows lie within the image.

        Args:
            location: Locations, (x, y) in [-1, 1].
            height: The image's height, pixels.
            width: The image's width, pixels.
        """
        return within(location, location.new_tensor([self.window / width, self.window / height]))

    def forward(
        self,
        evidence: Float[Tensor, "batch classes"],
        covered: Bool[Tensor, "batch map_height map_width"],
        state: FocusState,
    ) -> FocusStep:
        """Add a window's evidence to that of the places that it covers and no window covered before.

        Args:
            evidence: What :meth:`look_closely` found.
            covered: The places whose middles lie in the window.
            state: The evidence so far.
        """
        new = covered & ~state.visited
        places = state.places + evidence[:, :, None, None] * new.unsqueeze(1)
        return self.believe(FocusState(state.nowhere, places, state.visited | covered))

    @staticmethod
    def believe(state: FocusState) -> FocusStep:
        """Sum the evidence for each class over nowhere and all places."""
        every = torch.cat([state.nowhere.unsqueeze(2), state.places.flatten(2)], dim=2)
        return FocusStep(state, every.logsumexp(2))

    def attend(self, state: FocusState, height: int, width: int) -> FocusChoice:
        """The place not yet visited with the most evidence for any class; of several, the first.

        Args:
            state: The evidence so far.
            height: The images' height, pixels.
            width: The images' width, pixels.
        """
        salience = state.places.logsumexp(1).masked_fill(state.visited, NEVER)
        weights = salience.flatten(1).softmax(1)
        rows, columns = salience.shape[1:]
        place = salience.flatten(1).argmax(1)
        location = self.inside(middles(rows, columns, salience.device)[place], height, width)
        nothing = weights.new_zeros(weights.shape[0])
        entropy = -torch.special.xlogy(weights, weights).sum(1)
        return FocusChoice(location, nothing, entropy, weights.unflatten(1, (rows, columns)))

    def covered(
        self, location: Float[Tensor, "batch 2"], rows: int, columns: int, height: int, width: int
    ) -> Bool[Tensor, "batch map_height map_width"]:
        """The places of the glance's map whose middles lie in the windows.

        Args:
            location: Middles of the windows, (x, y) in [-1, 1].
            rows: Height of the map, places.
            columns: Width of the map, places.
            height: The images' height, pixels.
            width: The images' width, pixels.
        """
        reach = location.new_tensor([self.window / width, self.window / height])
        away = (middles(rows, columns, location.device) - location.unsqueeze(1)).abs() <= reach
        within: Tensor = away.all(2).unflatten(1, (rows, columns))
        return within


def mean_and_max(
    features: Float[Tensor, "batch features map_height map_width"],
) -> Float[Tensor, "batch twice_features"]:
    """The mean of each feature over the places of a map, and its maximum."""
    return torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)


def within(location: Float[Tensor, "*shape 2"], reach: Float[Tensor, " 2"]) -> Float[Tensor, "*shape 2"]:
    """The nearest locations whose windows lie within the image.

    Args:
        location: Locations, (x, y) in [-1, 1].
        reach: From the middle of a window to its edges along x and y, half images.
    """
    edge = (1 - reach).clamp_min(0)
    return torch.minimum(torch.maximum(location, -edge), edge)


class FocusObserver(Observer):
    """A model that glances and focuses, with its roll-out over whole images.

    The first of its glimpses is the glance, which lies in the middle and covers all.

    Args:
        model: The model.
        num_glimpses: Glimpses in an episode, the glance among them.
    """

    model: GlanceAndFocus

    def __init__(self, model: GlanceAndFocus, num_glimpses: int) -> None:
        super().__init__(model, num_glimpses)

    @property
    def any_size(self) -> bool:
        """Whether the model takes images of any height and width: where its networks' graphs do."""
        networks = (self.model.glance, self.model.focus)
        return all(network.any_size for network in networks if isinstance(network, Backbone))

    @property
    def window(self) -> int:
        """Side of the windows, pixels."""
        return self.model.window

    def forward(self, images: Shaped[Tensor, "batch channels height width"]) -> Trace:
        """Roll out, as :meth:`glimpse.models.observer.Observer.forward`."""
        height, width = images.shape[-2:]
        return self._roll_out(images, lambda step, present: self.model.attend(step.state, height, width))

    def following(
        self, images: Shaped[Tensor, "batch channels height width"], locations: Float[Tensor, "batch time 2"]
    ) -> Trace:
        """Roll out with windows at given locations; the first belongs to the glance and is not used.

        Args:
            images: uint8 in [0, 255], or floating point in [0, 1].
            locations: Every fixation, (x, y) in [-1, 1]; moved inside where its window hangs over the edge.
        """
        height, width = images.shape[-2:]
        remaining = iter(locations.unbind(1)[1:])

        def choose(step: FocusStep, present: FocusChoice) -> FocusChoice:
            chosen = self.model.attend(step.state, height, width)
            return chosen._replace(location=self.model.inside(next(remaining), height, width))

        return self._roll_out(images, choose, locations.shape[1])

    def boxes(
        self, locations: Float[Tensor, "batch time 2"], height: int, width: int
    ) -> Float[Tensor, "batch time 1 4"]:
        """What each glimpse covered, as :meth:`Observer.boxes`: the glance the whole image, the others their window."""
        zero = torch.zeros_like(locations[:, :1, 0])
        covered = [torch.stack((zero, zero, zero + width, zero + height), dim=2)]
        if locations.shape[1] > 1:
            ((left, top, right, bottom),) = boxes(locations[:, 1:], height, width, self.window, 1, 1)
            covered.append(torch.stack((left, top, right, bottom), dim=2))
        return torch.cat(covered, dim=1).unsqueeze(2)

    def _roll_out(
        self,
        images: Shaped[Tensor, "batch channels height width"],
        choose: Callable[[FocusStep, FocusChoice], FocusChoice],
        num_glimpses: int | None = None,
    ) -> Trace:
        model, (height, width) = self.model, images.shape[-2:]
        glance = model.look_around(images)
        rows, columns = glance.places.shape[2:]
        nothing = glance.nowhere.new_zeros(images.shape[0])
        even = nothing[:, None, None].expand(-1, rows, columns) + 1 / (rows * columns)
        whole = FocusChoice(nothing.unsqueeze(1).expand(-1, 2), nothing, nothing, even)

        def step(sensed: Tensor | None, choice: FocusChoice, state: FocusState) -> FocusStep:
            if sensed is None:
                return model.believe(state)
            taken: FocusStep = model(sensed, model.covered(choice.location, rows, columns, height, width), state)
            return taken

        return rollout(
            step,
            lambda choice: None if choice is whole else model.look_closely(images, choice.location[:, None])[:, 0],
            choose,
            whole,
            glance,
            num_glimpses or self.num_glimpses,
        )
