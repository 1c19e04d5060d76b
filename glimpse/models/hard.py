"""The recurrent model of hard attention: one step of it.

Mnih et al., Recurrent Models of Visual Attention (NIPS 2014), figure 1 and section 3.1. A glimpse and its location are
encoded (the glimpse network), the encoding is the input of a recurrent core (the core network), a classifier reads its
state (the action network) and a location policy chooses where to look next (the location network). As in Ba et al.
(Multiple Object Recognition with Visual Attention, ICLR 2015, section 3) the policy has a recurrent layer of its own
above the first. It may also have a glimpse encoder of its own, because locating a digit needs other features than
classifying it.

The gradients are separated here: the classifier's loss reaches the encoder, the core and the classifier; the policy's
loss reaches the policy's own layers; neither reaches the other's. No gradient leads from a choice to an earlier one.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from glimpse.models.observer import Observer
from glimpse.nn.backbones import Backbone
from glimpse.nn.core import Core
from glimpse.nn.encoders import GlimpseEncoder
from glimpse.nn.heads import POLICIES, GaussianPolicy, GridPolicy, LocationPolicy, precisely
from glimpse.nn.retina import Retina
from glimpse.rollout import Chooser, Trace, fixed, follow, mode_of, rollout

GAZES = ("eyes", "layer", "nothing")


class HardState(NamedTuple):
    """The model's state between glimpses."""

    belief: Float[Tensor, "batch belief"]
    """State of the core, which the classifier reads."""
    gaze: Float[Tensor, "batch gaze"]
    """State of the policy's own recurrent layer; empty where it has none."""


class Step(NamedTuple):
    """The result of one step."""

    state: HardState
    """The next state."""
    logits: Float[Tensor, "batch classes"]
    """Belief about the class, before the softmax."""
    policy: Float[Tensor, "batch parameters"]
    """Parameters of the next location's distribution; see ``HardAttention.policy``."""
    value: Float[Tensor, " batch"]
    """Learned baseline: the expected return of the following glimpses."""


class HardAttention(nn.Module):
    """A recurrent attention model; one call is one step, with one glimpse.

    Args:
        num_classes: Number of classes.
        channels: Channels of the image.
        glimpse_size: Side of a glimpse in pixels, the same at every scale.
        num_scales: Windows in a glimpse.
        hidden: Length of the encoding and of the core's output.
        what: Glimpse encoder, see :class:`glimpse.nn.encoders.GlimpseEncoder`.
        combine: How what and where are joined, see :class:`glimpse.nn.encoders.GlimpseEncoder`.
        core: Recurrent cell, see :class:`glimpse.nn.core.Core`.
        policy: ``gaussian`` or ``grid``.
        relative: For a Gaussian policy, whether it computes a saccade or a location.
        grid_cells: For a grid policy, cells along each side of the image.
        gaze: Layers of the policy's own. ``eyes``: a glimpse encoder and a recurrent layer. ``layer``: a recurrent
            layer, which reads the classifier's encoding. ``nothing``: it reads the core's output, as in the paper.
        gaze_hidden: Length of the output of the policy's own recurrent layer.
        backbone: A network that sees every window of a glimpse, with the same weights at every scale; the encoders read
            its pooled features in place of pixels, by the paper's linear layer. The policy's loss never reaches it.

    Raises:
        ValueError: When an encoder, a way to combine, a core, a policy or a gaze is unknown.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int = 1,
        glimpse_size: int = 12,
        num_scales: int = 3,
        hidden: int = 256,
        what: str = "mlp",
        combine: str = "multiply",
        core: str = "gru",
        policy: str = "gaussian",
        relative: bool = True,
        grid_cells: int = 9,
        gaze: str = "eyes",
        gaze_hidden: int = 128,
        backbone: Backbone | None = None,
    ) -> None:
        super().__init__()
        if gaze not in GAZES:
            raise ValueError(f"expected a gaze out of {GAZES}, got {gaze!r}; choose one of them")
        if policy not in POLICIES:
            raise ValueError(f"expected a location policy out of {POLICIES}, got {policy!r}; choose one of them")
        self.backbone = backbone
        size, inputs, what = (1, backbone.features, "mlp") if backbone else (glimpse_size, channels, what)
        self.encoder = GlimpseEncoder(size, num_scales, inputs, hidden, what, combine)
        self.core = Core(hidden, hidden, core)
        self.classifier = nn.Linear(hidden, num_classes)
        self.gaze_encoder = GlimpseEncoder(size, num_scales, inputs, hidden, what, combine) if gaze == "eyes" else None
        self.gaze_core = Core(2 * hidden, gaze_hidden, core) if gaze != "nothing" else None
        policy_input = gaze_hidden if self.gaze_core else hidden
        self.policy: LocationPolicy = (
            GaussianPolicy(policy_input, relative) if policy == "gaussian" else GridPolicy(policy_input, grid_cells)
        )
        self.baseline = nn.Linear(policy_input, 1)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def initial_state(self, batch: int) -> HardState:
        """The state before the first glimpse: zeros."""
        device = self.mean.device
        belief = self.core.initial_state(batch, device)
        return HardState(belief, self.gaze_core.initial_state(batch, device) if self.gaze_core else belief[:, :0])

    def forward(
        self,
        glimpse: Float[Tensor, "batch scales channels size size"],
        location: Float[Tensor, "batch 2"],
        state: HardState,
    ) -> Step:
        """Take one step: update the state with a glimpse, classify, and compute the policy's parameters.

        Args:
            glimpse: Pixels in [0, 1].
            location: Location of the glimpse, (x, y) in [-1, 1].
            state: The state after the previous glimpse.
        """
        pixels = (glimpse - self.mean[:, None, None]) / self.std[:, None, None]
        seen = self.backbone.glimpse_features(pixels) if self.backbone else pixels
        encoding = self.encoder(seen, location)
        belief = self.core(encoding, state.belief)
        hidden = self.core.output(belief)
        gaze, policy_input = state.gaze, hidden.detach()
        # No gradient flows from a choice to earlier steps. This matters if locations have a gradient, as in the relaxed
        # family: through a chain of choices the gradient would explode.
        seen, location = seen.detach(), location.detach()
        if self.gaze_core:
            gaze_encoding = self.gaze_encoder(seen, location) if self.gaze_encoder else encoding.detach()
            gaze = self.gaze_core(torch.cat([policy_input, gaze_encoding], dim=1), state.gaze)
            policy_input = self.gaze_core.output(gaze)
        return Step(
            state=HardState(belief, gaze),
            logits=precisely(self.classifier, hidden),
            policy=precisely(self.policy, policy_input, location),
            value=precisely(self.baseline, policy_input.detach()).squeeze(1),
        )


def rollout_hard(
    model: HardAttention,
    retina: Retina,
    images: Shaped[Tensor, "batch channels height width"],
    num_glimpses: int,
    choose: Chooser | None = None,
    first_location: Float[Tensor, "batch 2"] | None = None,
) -> Trace:
    """Roll the hard model out over images; each glimpse is a crop.

    Args:
        model: The model.
        retina: Its retina.
        images: uint8 in [0, 255], or floating point in [0, 1].
        num_glimpses: Number of glimpses.
        choose: Chooses the next location; the policy's mode when left out.
        first_location: Location of the first glimpse, (x, y) in [-1, 1]; the image's centre when left out.
    """
    batch = images.shape[0]
    if first_location is None:
        first_location = torch.zeros(batch, 2, device=images.device)
    return rollout(
        lambda glimpse, choice, state: model(glimpse, choice.location, state),
        lambda choice: retina(images, choice.location),
        choose or mode_of(model.policy),
        fixed(first_location),
        model.initial_state(batch),
        num_glimpses,
    )


class HardObserver(Observer):
    """A hard model with its roll-out over whole images: from the centre or a given location, then at its policy's mode.

    Args:
        model: The model.
        retina: Its retina.
        num_glimpses: Glimpses in an episode.
    """

    def __init__(self, model: HardAttention, retina: Retina, num_glimpses: int) -> None:
        super().__init__(model, num_glimpses, retina)
        self.model: HardAttention
        self.retina: Retina

    def forward(
        self,
        images: Shaped[Tensor, "batch channels height width"],
        first_location: Float[Tensor, "batch 2"] | None = None,
    ) -> Trace:
        """Classify with deterministic locations, as :meth:`glimpse.models.observer.Observer.forward`.

        Args:
            images: uint8 in [0, 255], or floating point in [0, 1].
            first_location: Location of the first glimpse, (x, y) in [-1, 1]; the image's centre when left out.
        """
        return rollout_hard(self.model, self.retina, images, self.num_glimpses, first_location=first_location)

    def following(
        self, images: Shaped[Tensor, "batch channels height width"], locations: Float[Tensor, "batch time 2"]
    ) -> Trace:
        """Take glimpses at given locations, (x, y) in [-1, 1]."""
        return rollout_hard(self.model, self.retina, images, locations.shape[1], follow(locations), locations[:, 0])
