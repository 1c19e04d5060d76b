"""Soft spatial attention: a recurrent core that looks at a map of features, everywhere at once but not equally.

After Xu et al., Show, Attend and Tell (ICML 2015), section 3.1: a convolutional network turns the image into a map of
features, the places' *annotation vectors*; in each step the core's state asks (the query), a score function compares,
and the weighted sum of the features is what the core takes in. Everything has a gradient, so that the whole is trained
by back-propagation alone. A classifier reads the state after every step.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from glimpse.images.geometry import grid
from glimpse.models.observer import Observer
from glimpse.nn.attention import GlobalAttention, LocalAttention
from glimpse.nn.core import Core
from glimpse.nn.encoders import mean_location, middles, standardise
from glimpse.nn.heads import precisely
from glimpse.nn.scores import LocationScore, score_function
from glimpse.rollout import Trace, rollout

ATTENTIONS = ("global", "local-m", "local-p")


class Features(NamedTuple):
    """An encoded image, which is looked at again and again."""

    keys: Float[Tensor, "batch places prepared"]
    """What queries are compared with, as the score function prepared it."""
    values: Float[Tensor, "batch places features"]
    """What is handed back, the map's places row by row."""
    places: Float[Tensor, "places 2"]
    """Middles of the places, (x, y) in [-1, 1]."""
    shape: tuple[Any, Any]
    """Height and width of the map, cells."""


class SoftState(NamedTuple):
    """What the model carries from one glimpse to the next."""

    belief: Float[Tensor, "batch belief"]
    """State of the core."""
    time: int
    """Glimpses taken."""


class SoftChoice(NamedTuple):
    """A choice that is a distribution, and what is seen under it; see :class:`glimpse.rollout.Choice`."""

    location: Float[Tensor, "batch 2"]
    log_prob: Float[Tensor, " batch"]
    entropy: Float[Tensor, " batch"]
    weights: Float[Tensor, "batch map_height map_width"]
    context: Float[Tensor, "batch features"]
    """The features' expectation under the weights."""


class SoftStep(NamedTuple):
    """What one glimpse leads to."""

    state: SoftState
    """The next state."""
    logits: Float[Tensor, "batch classes"]
    """Belief about the class, before the softmax."""
    value: None = None
    """There is no policy, so nothing has to be foreseen."""


class SoftAttention(nn.Module):
    """A recurrent model of soft attention: ``encode`` an image once, then ``attend`` and take a step, again and again.

    Args:
        encoder: From pixels to a map; it has ``features`` channels.
        num_classes: How many classes there are.
        channels: Channels of the image.
        hidden: Length of the core's output, which is the query.
        score: Score function, see :func:`glimpse.nn.scores.score_function`.
        attention: ``global``; ``local-p``, around a centre that the query predicts; or ``local-m``, around centres that
            go over the image row by row, one for each glimpse (Luong et al. 2015, section 3.2).
        window: For local attention, cells from the centre to the window's edge.
        gate: Whether the context is multiplied by ``sigmoid(w^T h)``, how much the core wants to see (Xu et al. 2015,
            section 4.2.1).
        core: Recurrent cell, see :class:`glimpse.nn.core.Core`.
        num_glimpses: Glimpses in an episode; only ``local-m`` needs to know.
        map_size: Height and width of the map; only the location score needs to know.

    Raises:
        ValueError: When a score, an attention or a core is unknown, or options do not go with one another.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        num_classes: int,
        channels: int = 1,
        hidden: int = 128,
        score: str = "additive",
        attention: str = "global",
        window: int = 3,
        gate: bool = False,
        core: str = "gru",
        num_glimpses: int = 1,
        map_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f"expected an attention out of {ATTENTIONS}, got {attention!r}; choose one of them")
        self.encoder = encoder
        features = int(encoder.features)  # type: ignore[arg-type]
        self.where = nn.Sequential(nn.Linear(2, features), nn.ReLU(), nn.Linear(features, features))
        self.begin = nn.Linear(features, hidden)
        compare = score_function(score, hidden, features, map_size[0] * map_size[1] if map_size else None)
        self.attention: GlobalAttention | LocalAttention = (
            GlobalAttention(compare)
            if attention == "global"
            else LocalAttention(compare, window, predictive=attention == "local-p")
        )
        self.gate = nn.Linear(hidden, 1) if gate else None
        self.core = Core(features, hidden, core)
        self.classifier = nn.Linear(hidden, num_classes)
        self.path = grid(num_glimpses) if attention == "local-m" else ()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def encode(self, images: Shaped[Tensor, "batch channels height width"]) -> Features:
        """Turn images into what is attended to.

        Args:
            images: uint8 in [0, 255], or floating point in [0, 1].
        """
        encoded = self.encoder(standardise(images, self.mean, self.std))
        height, width = encoded.shape[-2:]
        places = middles(height, width, encoded.device)
        values = encoded.flatten(2).transpose(1, 2) + self.where(places)
        return Features(self.attention.score.prepare(values), values, places, (height, width))

    def initial_state(self, features: Features) -> SoftState:
        """The state before the first glimpse, from the features' mean (Xu et al. 2015, section 3.1.2).

        An LSTM's memory begins at zero; the paper has a second network for it.
        """
        start = torch.tanh(self.begin(features.values.mean(1)))
        rest = self.core.state_size - start.shape[1]
        return SoftState(nn.functional.pad(start, (0, rest)), 0)

    def attend(self, features: Features, state: SoftState) -> SoftChoice:
        """Choose where to look, and look."""
        query = self.core.output(state.belief)
        around: dict[str, Any] = {}
        if isinstance(self.attention, LocalAttention):
            around["shape"] = features.shape
            if self.path:
                centre = torch.tensor(self.path[state.time], device=query.device)
                around["centres"] = centre.expand(query.shape[0], 2)
        context, weights = self.attention(query, features.keys, features.values, prepared=True, **around)
        if self.gate:
            context = context * torch.sigmoid(self.gate(query))
        return SoftChoice(
            location=mean_location(weights, features.places),
            log_prob=weights.new_zeros(query.shape[0]),
            entropy=-torch.special.xlogy(weights, weights).sum(1),
            weights=weights.unflatten(1, features.shape),
            context=context,
        )

    def forward(self, context: Float[Tensor, "batch features"], state: SoftState) -> SoftStep:
        """Take in what was seen.

        Args:
            context: The features' expectation under the attention weights.
            state: The state after the glimpse before.
        """
        belief = self.core(context, state.belief)
        return SoftStep(SoftState(belief, state.time + 1), precisely(self.classifier, self.core.output(belief)))


class SoftObserver(Observer):
    """A model of soft attention at whole images.

    Args:
        model: The model.
        num_glimpses: Glimpses in an episode.
    """

    model: SoftAttention

    def __init__(self, model: SoftAttention, num_glimpses: int) -> None:
        super().__init__(model, num_glimpses)

    @property
    def any_size(self) -> bool:
        """Local windows and the location score are laid out for one size of map."""
        attention = self.model.attention
        return isinstance(attention, GlobalAttention) and not isinstance(attention.score, LocationScore)

    def forward(self, images: Shaped[Tensor, "batch channels height width"]) -> Trace:
        """Look, see :meth:`glimpse.models.observer.Observer.forward`. Training and evaluation are the same here."""
        model = self.model
        features = model.encode(images)
        state = model.initial_state(features)
        return rollout(
            lambda context, look, state: model(context, state),
            lambda look: look.context,
            lambda step, look: model.attend(features, step.state),
            model.attend(features, state),
            state,
            self.num_glimpses,
        )
