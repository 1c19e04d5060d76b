"""Training of hard attention by policy gradient."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from glimpse.contract.episode import FIRST_LOCATIONS, REWARDS, EpisodeRule
from glimpse.data.held_out import LabelledBatch, generator_for
from glimpse.data.share import drawn_for
from glimpse.errors import Argument, ArgumentError, Setting
from glimpse.models.hard import HardAttention, rollout_hard
from glimpse.nn.heads import POLICIES
from glimpse.nn.retina import Retina
from glimpse.rollout import Chooser, Trace, sample_from
from glimpse.training.classifier import check_training_options
from glimpse.training.families.hard_model import CHOICES, COUNTS, HardModelTraining
from glimpse.training.objectives import BASELINES, losses

RollOut = Callable[[HardAttention, Retina, Tensor, Tensor, int, EpisodeRule, Chooser, Tensor | None], Trace]
"""A roll-out in an environment: model, retina, images, labels, classes, rule, chooser, first location."""

SPREADS = {"gaussian": (0.2, 0.05), "grid": (1.0, 1.0)}
"""Exploration at the start and at the end of the training, where the user gives none."""
WIDEST_WINDOW = 4
"""Greatest width of the retina's widest window, in units of the image's longer side."""
_RANGES = {
    "discount": (0.0, 1.0),
    "policy_weight": (0.0, math.inf),
    "entropy_weight": (0.0, math.inf),
}
_CHOICES = CHOICES | {
    "policy": POLICIES,
    "first_location": FIRST_LOCATIONS,
    "reward": REWARDS,
    "baseline": BASELINES,
}


class HardAttentionTraining(HardModelTraining):
    """Train a recurrent model of hard attention by policy gradient (Mnih et al., NIPS 2014, section 3.2).

    Args:
        classes: Class names, taken from the data.
        image_shape: Channels, height and width of the images, taken from the data.
        policy: Location policy: gaussian or grid.
        first_location: First location in training: centre, or random as in the paper; evaluation begins as
            training does, with locations that are the same in every run.
        reward: improvement of the true class's log-probability, terminal (0 or 1 at the end), or dense (a share of 1
            for each glimpse after which the prediction is right).
        discount: Factor in [0, 1] for rewards further away.
        baseline: learned, leave-one-out or none.
        num_rollouts: Roll-outs an image in a batch.
        normalise: Whether advantages are divided by their root mean square.
        spread: Exploration at the start: a Gaussian's standard deviation in half images (0.2 when left out), or a
            grid's temperature (1 when left out).
        final_spread: Exploration at the end; between the two it falls by a constant factor a step. When left out 0.05
            for a Gaussian, 1 for a grid.
        policy_weight: Weight of the policy's loss.
        entropy_weight: Weight of the entropy bonus, for a grid policy; a Gaussian's entropy is settled by its spread.
        options: Those of :class:`glimpse.training.families.hard_model.HardModelTraining`.

    Raises:
        ValueError: When an option is unknown, or the images are smaller than the retina's finest window.
    """

    kind: ClassVar[str] = "hard"
    title: ClassVar[str] = "hard attention"
    figures: ClassVar[tuple[str, ...]] = ("train_loss", "train_reward", "baseline_error", "policy_entropy")

    def __init__(
        self,
        classes: list[str],
        image_shape: list[int],
        policy: str = "gaussian",
        first_location: str = "centre",
        reward: str = "improvement",
        discount: float = 1.0,
        baseline: str = "learned",
        num_rollouts: int = 1,
        normalise: bool = True,
        spread: float | None = None,
        final_spread: float | None = None,
        policy_weight: float = 1.0,
        entropy_weight: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(classes, image_shape, **options)
        usual_spread, usual_final_spread = SPREADS.get(policy, SPREADS["gaussian"])
        spread = usual_spread if spread is None else spread
        final_spread = min(spread, usual_final_spread) if final_spread is None else final_spread
        self.save_hyperparameters()
        self.spread, self.final_spread = spread, final_spread
        given = dict(self.hparams)
        check_training_options(given, (*COUNTS, "num_rollouts"), _RANGES, _CHOICES)
        check_policy(given)
        check_retina(given)
        self.rule = EpisodeRule(given["num_glimpses"], reward)
        self.observer = self.make_observer(policy)
        self.roll_out: RollOut | None = None
        self.first_location = first_location
        self.num_rollouts = num_rollouts
        self.objective: dict[str, Any] = {
            "discount": discount,
            "baseline": baseline,
            "num_rollouts": num_rollouts,
            "normalise": normalise,
            "every_glimpse": given["every_glimpse"],
            "smoothing": self.smoothing,
        }
        self.policy_weight, self.entropy_weight = policy_weight, entropy_weight

    def current_spread(self) -> float:
        """Exploration at this point of the training."""
        return float(self.spread * (self.final_spread / self.spread) ** self.progress())

    def explore(self, images: Tensor, generator: torch.Generator, labels: Tensor | None = None) -> Trace:
        """Look at images with sampled locations, as training does.

        Args:
            images: uint8 NCHW.
            generator: Where the randomness comes from.
            labels: Their classes, which an environment needs to know, where there is one.
        """
        first = None
        if self.first_location == "random":
            rows = torch.empty(len(images), 2, device=images.device)
            first = drawn_for(generator, rows, lambda rows: rows.uniform_(generator=generator)) * 2 - 1
        model, retina = self.observer.model, self.observer.retina
        choose = sample_from(model.policy, self.current_spread(), generator)
        if self.roll_out is not None and labels is not None:
            return self.roll_out(model, retina, images, labels, len(self.classes), self.rule, choose, first)
        return rollout_hard(model, retina, images, self.rule.num_glimpses, choose, first)

    def validate(self, images: Tensor, batch_idx: int) -> Trace:
        """Look at validation images, from locations that are the same in every epoch.

        Args:
            images: uint8 NCHW.
            batch_idx: Which batch of the validation images they are.
        """
        if self.first_location == "centre":
            return super().validate(images, batch_idx)
        generator = generator_for(images.device, self.seed, 3, batch_idx)
        first = torch.rand(len(images), 2, generator=generator, device=images.device) * 2 - 1
        trace: Trace = self.observer(images, first)
        return trace

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """One step of the hybrid objective: classification, policy gradient, baseline."""
        given, labels = batch
        images = given
        if self.num_rollouts > 1:
            images = images.repeat_interleave(self.num_rollouts, 0)
            labels = labels.repeat_interleave(self.num_rollouts)
        trace = self.explore(images, self.step_generator(images.device, batch_idx), labels)
        parts = losses(trace, labels, self.rule, class_weights=self.class_weights, **self.objective)
        classification = self.taught(
            parts.classification, given, trace.logits, self.objective["every_glimpse"], self.num_rollouts
        )
        total = (
            classification + self.policy_weight * parts.policy + parts.baseline - self.entropy_weight * parts.entropy
        )
        self.note(classification, parts.reward, parts.baseline, parts.entropy)
        return total


def check_policy(options: dict[str, Any]) -> None:
    """Reject options of the policy that do not go with one another.

    Args:
        options: The arguments of :class:`HardAttentionTraining`, by name.

    Raises:
        ArgumentError: When one of them would do nothing, or misses another.
    """
    if options["entropy_weight"] and options["policy"] == "gaussian":
        raise ArgumentError(
            Argument("entropy_weight"),
            " would do nothing, since a Gaussian's entropy is settled by ",
            Argument("spread"),
            "; leave it out, or raise the spread",
        )
    if options["baseline"] == "leave-one-out" and options["num_rollouts"] < 2:
        raise ArgumentError("a leave-one-out baseline needs ", Argument("num_rollouts"), " of at least 2; raise it")
    if not 0 < options["final_spread"] <= options["spread"]:
        raise ArgumentError(
            "expected 0 < ",
            Argument("final_spread"),
            " <= ",
            Argument("spread"),
            f", got {options['final_spread']} and {options['spread']}",
        )


def check_retina(options: dict[str, Any]) -> None:
    """Reject a retina that does not fit the images or the encoder.

    Args:
        options: The arguments of a family that takes glimpses, by name.

    Raises:
        ArgumentError: When the retina's windows are larger than images have use for, or too small for the encoder.
    """
    if options["what"] == "conv" and options["backbone"] is not None:
        raise ArgumentError(
            Setting("what", "conv"),
            " would do nothing, since ",
            Argument("backbone"),
            " sees the windows; leave one of the two out",
        )
    if options["what"] == "conv" and options["glimpse_size"] < 2:
        raise ArgumentError(
            "a conv encoder needs ",
            Argument("glimpse_size"),
            " of at least 2; raise it, or use ",
            Setting("what", "mlp"),
        )
    size, (height, width) = options["glimpse_size"], options["image_shape"][1:]
    widest = size * options["zoom"] ** (options["num_scales"] - 1)
    if widest > WIDEST_WINDOW * max(height, width):
        raise ArgumentError(
            f"expected a widest window of at most {WIDEST_WINDOW} times the image's longer side, {max(height, width)} "
            f"pixels; got {widest}; lower ",
            Argument("num_scales"),
            " or ",
            Argument("zoom"),
        )
    if min(height, width) < size:
        raise ArgumentError(
            f"expected images at least as large as the retina's finest window, {size}x{size} pixels; "
            f"got {height}x{width}; lower ",
            Argument("glimpse_size"),
            ", or use larger images or canvases",
        )
