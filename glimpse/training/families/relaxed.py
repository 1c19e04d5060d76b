"""Training of relaxed hard attention: by back-propagation through the locations, or mixed with policy gradient."""

import math
from typing import Any, ClassVar

from torch import Tensor

from glimpse.contract.episode import EpisodeRule
from glimpse.data.held_out import LabelledBatch
from glimpse.errors import Argument, ArgumentError, Sentence
from glimpse.models.relaxed import POLICY_OF, RELAXATIONS, rollout_relaxed
from glimpse.rollout import Trace
from glimpse.training.classifier import check_training_options
from glimpse.training.families.hard import SPREADS, check_retina
from glimpse.training.families.hard_model import CHOICES, COUNTS, HardModelTraining
from glimpse.training.objectives import losses

SOFTNESS = {"gumbel": (2.0, 0.2), "gumbel-st": (1.0, 0.5), "gaussian": (1.5, 0.3), "bilinear": (1.0, 1.0)}
"""Temperature or width of the filters at the start and at the end of the training, where the user gives none."""
_RANGES = {
    "policy_weight": (0.0, math.inf),
    "pathwise_weight": (0.0, math.inf),
    "discount": (0.0, 1.0),
    "hard_share": (0.0, 1.0),
}
_CHOICES = CHOICES | {"relaxation": RELAXATIONS}


class RelaxedAttentionTraining(HardModelTraining):
    """Train the hard model end to end through a smooth choice of where to look, which hardens as training goes on.

    It is evaluated and exported as the hard model that it is: one place at a time, cut in whole pixels.

    Mixed, two estimates are added, each with its weight: the pathwise gradient of the classifier's loss, and the policy
    gradient of the hard model's training, with its rewards by improvement, learned baseline and advantages divided by
    their root mean square.

    Args:
        classes: Class names, taken from the data.
        image_shape: Channels, height and width of the images, taken from the data.
        relaxation: gumbel or gumbel-st (Gumbel-softmax over a grid of locations, soft or straight-through), gaussian
            (DRAW's filter bank), or bilinear (the pathwise gradient through a bilinear crop).
        mixed: For gaussian and bilinear, whether the score function's estimate (REINFORCE with a learned baseline) of
            the same choice is added to the pathwise one, which holds the later choices.
        policy_weight: Weight of the score function's estimate, for mixed alone. When left out 1.
        pathwise_weight: What the pathwise gradient is multiplied by, for gaussian and bilinear alone. When left out 1.
        discount: Factor in [0, 1] for rewards further away, for mixed alone. When left out 0.
        softness: Temperature of the Gumbel-softmax, or width of the Gaussian filters in pixels of each scale, at the
            start. When left out 2 for gumbel, 1 for gumbel-st, 1.5 for gaussian; bilinear has none.
        final_softness: The same at the end; between the two it falls by a constant factor a step. When left out 0.2,
            0.5 and 0.3.
        spread: Noise of the locations at the start, half images, for gaussian and bilinear alone. When left out 0.2.
        final_spread: The same at the end. When left out 0.05.
        hard_share: Share of the training, at its end, in which the model sees as hard as in evaluation, and only the
            gradient is smooth.
        options: Those of :class:`glimpse.training.families.hard_model.HardModelTraining`.

    Raises:
        ValueError: When an option is unknown, would do nothing, or does not go with the images or with another.
    """

    kind: ClassVar[str] = "relaxed"
    title: ClassVar[str] = "relaxed hard attention"
    figures: ClassVar[tuple[str, ...]] = ("train_loss", "policy_entropy", "softness")

    def __init__(
        self,
        classes: list[str],
        image_shape: list[int],
        relaxation: str = "bilinear",
        mixed: bool = False,
        policy_weight: float | None = None,
        pathwise_weight: float | None = None,
        discount: float | None = None,
        softness: float | None = None,
        final_softness: float | None = None,
        spread: float | None = None,
        final_spread: float | None = None,
        hard_share: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(classes, image_shape, **options)
        self.save_hyperparameters()
        # As they were given, so that a checkpoint has no value that its user did not choose.
        given = dict(self.hparams)
        full = filled_in(given)
        check_training_options(full, COUNTS, _RANGES, _CHOICES)
        check_idle(given)
        check_relaxation(full)
        check_retina(full)
        self.observer = self.make_observer(POLICY_OF[relaxation])
        self.relaxation, self.mixed = relaxation, mixed
        self.policy_weight, self.discount = full["policy_weight"], full["discount"]
        self.pathwise_weight = full["pathwise_weight"]
        self.rule = EpisodeRule(full["num_glimpses"])
        self.softness = (full["softness"], full["final_softness"])
        self.spread = (full["spread"], full["final_spread"])
        self.every_glimpse, self.hard_share = full["every_glimpse"], hard_share

    def annealed(self, ends: tuple[float, float]) -> float:
        """A quantity at this point of the training, which falls by a constant factor a step."""
        start, end = ends
        return float(start * (end / start) ** self.progress())

    def explore(self, images: Tensor, generator: Any) -> Trace:
        """Look at images with smooth and noisy choices, as training does."""
        observer = self.observer
        return rollout_relaxed(
            observer.model,
            observer.retina,
            images,
            observer.num_glimpses,
            self.relaxation,
            self.annealed(self.softness),
            self.annealed(self.spread),
            generator,
            self.pathwise_weight,
            hard=self.progress() >= 1 - self.hard_share,
        )

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Cross-entropy, whose gradient goes through the choices; mixed, the policy's and baseline's loss as well."""
        images, labels = batch
        trace = self.explore(images, self.step_generator(images.device, batch_idx))
        total = classification = self.classification(images, trace.logits, labels, self.every_glimpse)
        if self.mixed:
            parts = losses(trace, labels, self.rule, discount=self.discount)
            total = total + self.policy_weight * parts.policy + parts.baseline
        softness = classification.new_tensor(self.annealed(self.softness))
        self.note(classification, trace.entropy[:, 1:].sum(1).mean(), softness)
        return total


def filled_in(options: dict[str, Any]) -> dict[str, Any]:
    """Options with a number for each that was left out.

    Args:
        options: The arguments of :class:`RelaxedAttentionTraining`, by name.
    """
    softness, final_softness = SOFTNESS.get(options["relaxation"], SOFTNESS["bilinear"])
    spread, final_spread = SPREADS["gaussian"]
    usual = {"softness": softness, "spread": spread, "policy_weight": 1.0, "pathwise_weight": 1.0, "discount": 0.0}
    full = options | {name: value for name, value in usual.items() if options[name] is None}
    # A start below the usual end stays where it is.
    ends = {"final_softness": min(full["softness"], final_softness), "final_spread": min(full["spread"], final_spread)}
    return full | {name: value for name, value in ends.items() if options[name] is None}


def check_idle(options: dict[str, Any]) -> None:
    """Reject options that would do nothing.

    Args:
        options: The arguments of :class:`RelaxedAttentionTraining` as they were given, by name.

    Raises:
        ArgumentError: When one is given whose time does not come under this relaxation, or without ``mixed``.
    """
    relaxation = options["relaxation"]
    idle: dict[str, tuple[Sentence, str]] = {}
    if relaxation == "bilinear":
        width = Sentence("bilinear interpolation has no width"), "take gaussian"
        idle |= dict.fromkeys(("softness", "final_softness"), width)
    if POLICY_OF[relaxation] == "grid":
        mean = Sentence(f"the choice of {relaxation} is no mean plus noise"), "take gaussian or bilinear"
        idle |= dict.fromkeys(("spread", "final_spread", "pathwise_weight"), mean)
    if not options["mixed"]:
        policy = Sentence("there is a policy gradient with ", Argument("mixed"), " alone"), "set that"
        idle |= dict.fromkeys(("policy_weight", "discount"), policy)
    for name, (reason, remedy) in idle.items():
        if options[name] is not None:
            raise ArgumentError(Argument(name), " would do nothing, since ", reason, f"; leave it out, or {remedy}")


def check_relaxation(options: dict[str, Any]) -> None:
    """Reject options of the relaxation that do not go with one another.

    Args:
        options: The arguments of :class:`RelaxedAttentionTraining`, by name, none left out.

    Raises:
        ArgumentError: When there is nothing to mix, or an end lies above its start.
    """
    if options["mixed"] and POLICY_OF[options["relaxation"]] == "grid":
        raise ArgumentError(
            "expected ",
            Argument("mixed"),
            " with ",
            Argument("relaxation"),
            f" gaussian or bilinear, got {options['relaxation']}, whose choice is no sample with a log-probability; "
            "leave it out, or choose another relaxation",
        )
    for start, end in (("softness", "final_softness"), ("spread", "final_spread")):
        if not 0 < options[end] <= options[start]:
            raise ArgumentError(
                "expected 0 < ",
                Argument(end),
                " <= ",
                Argument(start),
                f", got {options[end]} and {options[start]}",
            )
