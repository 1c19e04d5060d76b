"""Soft spatial attention: a recurrent core that receives a weighted mean over all places of a feature map.

After Xu et al., Show, Attend and Tell (ICML 2015), section 3.1: a convolutional network turns the image into a map of
features, the *annotation vectors* of its places. In each step the core's state is the query, a score function compares
it with every place, and the weighted sum of the features is the core's input. Everything is differentiable, so the
model is trained by back-propagation alone. A classifier reads the state after every step.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from glimpse.images.geometry import grid
from glimpse.models.observer import Observer
from glimpse.nn.attention import GlobalAttention, LocalAttention
from glimpse.nn.backbones import Backbone
from glimpse.nn.core import Core
from glimpse.nn.encoders import mean_location, middles, standardise
from glimpse.nn.heads import precisely
from glimpse.nn.scores import LocationScore, score_function
from glimpse.rollout import Trace, rollout

ATTENTIONS = ("global", "local-m", "local-p")


class Features(NamedTuple):
    """An encoded image, to which the model attends at every step."""

    keys: Float[Tensor, "batch places prepared"]
    """Keys of the places, as the score function prepared them."""
    values: Float[Tensor, "batch places features"]
    """Feature vectors of the places, row by row."""
    places: Float[Tensor, "places 2"]
    """Middles of the places, (x, y) in [-1, 1]."""
    shape: tuple[Any, Any]
    """Height and width of the map, cells."""


class SoftState(NamedTuple):
    """The model's state between glimpses."""

    belief: Float[Tensor, "batch belief"]
    """State of the core."""
    time: int
    """Glimpses taken."""


class SoftChoice(NamedTuple):
    """The attention weights over the map, and the context under them; a :class:`glimpse.rollout.Choice`."""

    location: Float[Tensor, "batch 2"]
    log_prob: Float[Tensor, " batch"]
    entropy: Float[Tensor, " batch"]
    weights: Float[Tensor, "batch map_height map_width"]
    context: Float[Tensor, "batch features"]
    """The features' expectation under the weights."""


class SoftStep(NamedTuple):
    """The result of one step."""

    state: SoftState
    """The next state."""
    logits: Float[Tensor, "batch classes"]
    """Belief about the class, before the softmax."""
    value: None = None
    """There is no policy, and so no baseline that predicts its return."""


class SoftAttention(nn.Module):
    """A recurrent model of soft attention: ``encode`` an image once, then ``attend`` and step, repeatedly.

    Args:
        encoder: Network from pixels to a feature map of ``encoder.features`` channels.
        num_classes: Number of classes.
        channels: Channels of the image.
        hidden: Length of the core's output, which is the query.
        score: Score function, see :func:`glimpse.nn.scores.score_function`.
        attention: ``global``; ``local-p``, around a centre that the query predicts; or ``local-m``, around centres that
            run over the image row by row, one for each glimpse (Luong et al. 2015, section 3.2).
        window: For local attention, cells from the centre to the window's edge.
        gate: Whether the context is multiplied by ``sigmoid(w^T h)``, a gate computed from the core's output (Xu et al.
            2015, section 4.2.1).
        core: Recurrent cell, see :class:`glimpse.nn.core.Core`.
        num_glimpses: Glimpses in an episode; only ``local-m`` needs it.
        map_size: Height and width of the map; only the location score needs it.

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
        """Encode images: keys and values of every place.

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
        """Compute the attention weights for the state, and the context under them."""
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
        """Take one step: update the state with a context, and classify.

        Args:
            context: The features' expectation under the attention weights.
            state: The state after the previous glimpse.
        """
        belief = self.core(context, state.belief)
        return SoftStep(SoftState(belief, state.time + 1), precisely(self.classifier, self.core.output(belief)))


class SoftObserver(Observer):
    """A model of soft attention with its roll-out over whole images.

    Args:
        model: The model.
        num_glimpses: Glimpses in an episode.
    """

    model: SoftAttention

    def __init__(self, model: SoftAttention, num_glimpses: int) -> None:
        super().__init__(model, num_glimpses)

    @property
    def any_size(self) -> bool:
        """Whether the model takes images of any size: local windows and the location score fix the size of the map."""
        attention, encoder = self.model.attention, self.model.encoder
        if isinstance(encoder, Backbone) and not encoder.any_size:
            return False
        return isinstance(attention, GlobalAttention) and not isinstance(attention.score, LocationScore)

    def forward(self, images: Shaped[Tensor, "batch channels height width"]) -> Trace:
        """Roll out, as :meth:`glimpse.models.observer.Observer.forward`; training and evaluation do not differ."""
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
