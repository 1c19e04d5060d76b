"""Heads on the model's state: the location policies, and heads that compute in float32.

A location policy computes the parameters of a distribution from a hidden vector. It samples from the distribution, and
computes its mode, log-probability and entropy. An *action* is the sample; a *location* is the resulting place of the
retina, (x, y) in [-1, 1]. The two differ for the Gaussian policy, whose samples are unbounded while the image is not.
The log-probability is always that of the action.
"""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

POLICIES = ("gaussian", "grid")


@runtime_checkable
class LocationPolicy(Protocol):
    """A distribution over the next location, given parameters that a network computed."""

    def __call__(
        self, hidden: Float[Tensor, "batch hidden"], location: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, "batch parameters"]:
        """Parameters of the next fixation's distribution, from the hidden vector and the present location."""
        ...

    def sample(
        self,
        parameters: Float[Tensor, "batch parameters"],
        spread: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Draw an action."""
        ...

    def mode(self, parameters: Float[Tensor, "batch parameters"]) -> Tensor:
        """The most probable action."""
        ...

    def location(self, action: Tensor) -> Float[Tensor, "batch 2"]:
        """The location of an action, (x, y) in [-1, 1]."""
        ...

    def log_prob(
        self,
        parameters: Float[Tensor, "batch parameters"],
        action: Tensor,
        spread: float,
    ) -> Float[Tensor, " batch"]:
        """Log-probability (a density for the Gaussian) of an action, nats."""
        ...

    def entropy(self, parameters: Float[Tensor, "batch parameters"], spread: float) -> Float[Tensor, " batch"]:
        """Entropy of the distribution, nats."""
        ...


class GaussianPolicy(nn.Module):
    """A Gaussian of given standard deviation around a mean that the network computes (Mnih et al. 2014, section 3.1).

    The action is sampled without bounds, its log-probability is that of the sample, the fixation is its clamp to
    [-1, 1]; the deterministic fixation is the clamp of the mean.

    Args:
        hidden: Length of the hidden vector.
        relative: Whether the network computes a saccade, added to the present location, or the location itself.
    """

    def __init__(self, hidden: int, relative: bool = True) -> None:
        super().__init__()
        self.relative = relative
        self.mean = nn.Linear(hidden, 2)
        nn.init.zeros_(self.mean.bias)
        nn.init.normal_(self.mean.weight, std=0.1 / math.sqrt(hidden))

    def forward(
        self, hidden: Float[Tensor, "batch hidden"], location: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, "batch 2"]:
        """Means, (x, y), unbounded."""
        mean: Tensor = self.mean(hidden)
        return mean + location if self.relative else mean

    def sample(
        self,
        parameters: Float[Tensor, "batch 2"],
        spread: float,
        generator: torch.Generator | None,
    ) -> Float[Tensor, "batch 2"]:
        """Draw an unbounded action; ``spread`` is the standard deviation, in units of half an image."""
        noise = torch.randn(
            parameters.shape,
            generator=generator,
            device=parameters.device,
            dtype=parameters.dtype,
        )
        return parameters.detach() + spread * noise

    def mode(self, parameters: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch 2"]:
        """The mean."""
        return parameters.detach()

    def location(self, action: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch 2"]:
        """The action, clamped to the image."""
        return action.clamp(-1.0, 1.0)

    def log_prob(
        self,
        parameters: Float[Tensor, "batch 2"],
        action: Float[Tensor, "batch 2"],
        spread: float,
    ) -> Float[Tensor, " batch"]:
        """Log-density of the unbounded action, nats."""
        scaled = (action - parameters) / spread
        return -0.5 * scaled.square().sum(1) - 2 * math.log(spread) - math.log(2 * math.pi)

    def entropy(self, parameters: Float[Tensor, "batch 2"], spread: float) -> Float[Tensor, " batch"]:
        """Differential entropy, nats; it depends on the spread alone."""
        return parameters.new_full((len(parameters),), 1 + math.log(2 * math.pi) + 2 * math.log(spread))


class GridPolicy(nn.Module):
    """A categorical distribution over the cells of a square grid laid over the image.

    Args:
        hidden: Length of the hidden vector.
        cells: Cells along each side; an action is a cell's number, row by row from the upper left.

    Raises:
        ValueError: When there is no cell.
    """

    centres: Tensor

    def __init__(self, hidden: int, cells: int = 9) -> None:
        super().__init__()
        if cells < 1:
            raise ValueError(f"expected a grid of at least 1 cell along each side, got {cells}; raise it")
        self.scores = nn.Linear(hidden, cells**2)
        middles = (2 * torch.arange(cells) + 1) / cells - 1
        rows, columns = torch.meshgrid(middles, middles, indexing="ij")
        self.register_buffer(
            "centres",
            torch.stack([columns.flatten(), rows.flatten()], dim=1),
            persistent=False,
        )

    def forward(
        self, hidden: Float[Tensor, "batch hidden"], location: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, "batch cells"]:
        """Unnormalised log-probabilities of the cells; the present location is in the hidden vector already."""
        return self.scores(hidden)  # type: ignore[no-any-return]

    def sample(
        self,
        parameters: Float[Tensor, "batch cells"],
        spread: float,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Draw a cell's number; ``spread`` is the softmax's temperature."""
        probabilities = (parameters.detach() / spread).softmax(1)
        return torch.multinomial(probabilities, 1, generator=generator).squeeze(1)

    def mode(self, parameters: Float[Tensor, "batch cells"]) -> Tensor:
        """The most probable cell's number."""
        return parameters.argmax(1)

    def location(self, action: Tensor) -> Float[Tensor, "batch 2"]:
        """The middle of the cell."""
        return self.centres[action]

    def log_prob(
        self, parameters: Float[Tensor, "batch cells"], action: Tensor, spread: float
    ) -> Float[Tensor, " batch"]:
        """Log-probability of the cell, nats."""
        return (parameters / spread).log_softmax(1).gather(1, action.unsqueeze(1)).squeeze(1)

    def entropy(self, parameters: Float[Tensor, "batch cells"], spread: float) -> Float[Tensor, " batch"]:
        """Entropy over the cells, nats."""
        log_probabilities = (parameters / spread).log_softmax(1)
        return -(log_probabilities.exp() * log_probabilities).sum(1)


def precisely(head: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Run a head in float32 also under autocast: rewards are small differences of logits, which bfloat16 rounds.

    Args:
        head: The head, a function of tensors.
        inputs: Its arguments.
    """
    device = inputs[0].device.type
    if not torch.is_autocast_enabled(device):
        return head(*inputs)
    with torch.autocast(device, enabled=False):
        return head(*(part.float() for part in inputs))
