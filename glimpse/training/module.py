"""The LightningModule of hard attention: recipe, optimiser, and what is logged."""

import math
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from glimpse.core import CORES
from glimpse.data.datamodule import Batch, ImageData, generator_for
from glimpse.encoders import COMBINE, WHAT
from glimpse.episode import REWARDS, EpisodeRule
from glimpse.heads import POLICIES
from glimpse.models.hard import GAZES, HardAttention
from glimpse.objectives import BASELINES, Losses, losses
from glimpse.retina import PIXEL_MAX, Retina
from glimpse.rollout import Trace, look, sample_from

FIRST_LOCATIONS = ("centre", "random")
KIND = "hard"
"""The kind of model, as checkpoints and cards name it."""
TRAINING_FIGURES = ("train_loss", "train_reward", "baseline_error", "policy_entropy")

SPREADS = {"gaussian": (0.2, 0.05), "grid": (1.0, 1.0)}
"""Exploration at the start and at the end of the training, where the user says nothing."""
WIDEST_WINDOW = 4
"""How many times longer than the image's longer side the retina's widest window may be."""
COUNTS = ("num_glimpses", "glimpse_size", "num_scales", "zoom", "hidden", "grid_cells", "gaze_hidden", "num_rollouts")
RANGES = {
    "discount": (0.0, 1.0),
    "smoothing": (0.0, 0.99),
    "warm_up": (0.0, 1.0),
    "weight_decay": (0.0, math.inf),
    "policy_weight": (0.0, math.inf),
    "entropy_weight": (0.0, math.inf),
    "learning_rate": (0.0, math.inf),
    "seed": (0, math.inf),
}
CHOICES = {
    "what": WHAT,
    "combine": COMBINE,
    "core": CORES,
    "policy": POLICIES,
    "gaze": GAZES,
    "first_location": FIRST_LOCATIONS,
    "reward": REWARDS,
    "baseline": BASELINES,
}


class HardAttentionTraining(lightning.LightningModule):
    """Train a recurrent model of hard attention by policy gradient (Mnih et al., NIPS 2014, section 3.2).

    Args:
        classes: Class names; the data say them.
        image_shape: Channels, height and width of the images; the data say them.
        num_glimpses: Glimpses in an episode.
        glimpse_size: Side of a glimpse in pixels, the same at every scale.
        num_scales: Windows in a glimpse.
        zoom: How many times wider each window is than the one before it.
        hidden: Length of the encoding and of the core's output.
        what: Glimpse encoder: conv or mlp.
        combine: How what and where are joined: multiply or add.
        core: Recurrent cell: gru, lstm or plain.
        policy: Location policy: gaussian or grid.
        relative: For a Gaussian policy, whether it computes a saccade or a location.
        grid_cells: For a grid policy, cells along each side of the image.
        gaze: What the policy has of its own: eyes, layer or nothing; see HardAttention.
        gaze_hidden: Length of the output of the policy's own recurrent layer.
        first_location: Where training looks first: centre, or random as in the paper. Evaluation begins at the centre.
        reward: improvement of the true class's log-probability, or terminal (0 or 1 at the end).
        discount: Factor in [0, 1] for rewards further away.
        baseline: learned, leave-one-out or none.
        num_rollouts: Roll-outs an image in a batch.
        normalise: Whether advantages are divided by their root mean square.
        every_glimpse: Whether the belief after every glimpse is trained, or that after the last.
        smoothing: Label smoothing, in [0, 1).
        spread: Exploration at the start: a Gaussian's standard deviation in half images (0.2 when left out), or a
            grid's temperature (1 when left out).
        final_spread: Exploration at the end; between the two it falls by a constant factor a step. When left out 0.05
            for a Gaussian, 1 for a grid.
        policy_weight: Weight of the policy's loss.
        entropy_weight: Weight of the entropy bonus, for a grid policy; a Gaussian's entropy is settled by its spread.
        learning_rate: Peak of the one-cycle schedule (Smith and Topin 2018).
        warm_up: Share of the training in which the rate rises, in (0, 1).
        weight_decay: Of AdamW (Loshchilov and Hutter 2019).
        seed: Fixes the exploration, and the first locations when they are random.

    Raises:
        ValueError: When an option is unknown, or the images are smaller than the retina's finest window.
    """

    def __init__(
        self,
        classes: list[str],
        image_shape: list[int],
        num_glimpses: int = 6,
        glimpse_size: int = 8,
        num_scales: int = 2,
        zoom: int = 2,
        hidden: int = 256,
        what: str = "mlp",
        combine: str = "multiply",
        core: str = "gru",
        policy: str = "gaussian",
        relative: bool = True,
        grid_cells: int = 9,
        gaze: str = "eyes",
        gaze_hidden: int = 128,
        first_location: str = "centre",
        reward: str = "improvement",
        discount: float = 1.0,
        baseline: str = "learned",
        num_rollouts: int = 1,
        normalise: bool = True,
        every_glimpse: bool = True,
        smoothing: float = 0.0,
        spread: float | None = None,
        final_spread: float | None = None,
        policy_weight: float = 1.0,
        entropy_weight: float = 0.0,
        learning_rate: float = 1.5e-3,
        warm_up: float = 0.15,
        weight_decay: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__()
        usual_spread, usual_final_spread = SPREADS.get(policy, SPREADS["gaussian"])
        spread = usual_spread if spread is None else spread
        final_spread = min(spread, usual_final_spread) if final_spread is None else final_spread
        self.save_hyperparameters()
        check_options({**self.hparams, "spread": spread, "final_spread": final_spread})
        self.classes = tuple(classes)
        self.image_shape = tuple(image_shape)
        self.rule = EpisodeRule(num_glimpses, reward)
        self.retina = Retina(glimpse_size, num_scales, zoom)
        self.model = HardAttention(
            num_classes=len(classes),
            channels=image_shape[0],
            glimpse_size=glimpse_size,
            num_scales=num_scales,
            hidden=hidden,
            what=what,
            combine=combine,
            core=core,
            policy=policy,
            relative=relative,
            grid_cells=grid_cells,
            gaze=gaze,
            gaze_hidden=gaze_hidden,
        )
        self.first_location = first_location
        self.num_rollouts = num_rollouts
        self.objective: dict[str, Any] = {
            "discount": discount,
            "baseline": baseline,
            "num_rollouts": num_rollouts,
            "normalise": normalise,
            "every_glimpse": every_glimpse,
            "smoothing": smoothing,
        }
        self.spread, self.final_spread = spread, final_spread
        self.policy_weight, self.entropy_weight = policy_weight, entropy_weight
        self.learning_rate, self.warm_up, self.weight_decay = learning_rate, warm_up, weight_decay
        self.seed = seed
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor) -> Trace:
        """Look at images deterministically: the policy's mode, from the centre on. uint8 or floating point, NCHW."""
        return look(self.model, self.retina, images, self.rule.num_glimpses)

    def setup(self, stage: str) -> None:
        """Before a new fit, take the pixels' mean and standard deviation over to the model."""
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, ImageData) and self.trainer.ckpt_path is None:
            sample = data.draw(data.source.train.images[:2000]).float() / PIXEL_MAX
            self.model.mean.copy_(sample.mean((0, 2, 3)))
            self.model.std.copy_(sample.std((0, 2, 3)).clamp_min(1e-3))

    def current_spread(self) -> float:
        """Exploration at this point of the training."""
        done = self.global_step / schedule_steps(self.trainer)
        return float(self.spread * (self.final_spread / self.spread) ** min(1.0, done))

    def explore(self, images: Tensor, generator: torch.Generator) -> Trace:
        """Look at images with sampled locations, as training does."""
        first = None
        if self.first_location == "random":
            first = torch.rand(len(images), 2, generator=generator, device=images.device) * 2 - 1
        choose = sample_from(self.model.policy, self.current_spread(), generator)
        return look(self.model, self.retina, images, self.rule.num_glimpses, choose, first)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step of the hybrid objective: classification, policy gradient, baseline."""
        images, labels = batch
        if self.num_rollouts > 1:
            images = images.repeat_interleave(self.num_rollouts, 0)
            labels = labels.repeat_interleave(self.num_rollouts)
        trace = self.explore(images, generator_for(images.device, self.seed, 2, self.current_epoch, batch_idx))
        parts = losses(trace, labels, self.rule, **self.objective)
        total = (
            parts.classification
            + self.policy_weight * parts.policy
            + parts.baseline
            - self.entropy_weight * parts.entropy
        )
        self.note(parts)
        return total

    def note(self, parts: Losses) -> None:
        """Log a step's figures, as means over the epoch and all at once: logging each step costs more than its loss."""
        self.shown.append(torch.stack([parts.classification, parts.reward, parts.baseline, parts.entropy]).detach())
        if self.trainer.is_last_batch:
            means = torch.stack(self.shown).mean(0)
            self.shown.clear()
            self.log_dict(dict(zip(TRAINING_FIGURES, means, strict=True)), on_step=False, on_epoch=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Deterministic error on the validation images, spread of the gaze, and what of it is owed to the image.

        The spread is over images and time together; a gaze that follows one path whatever the image has it too. Its
        reaction is the spread over the images alone, the mean over time. Both are standard deviations, in half images.
        """
        images, labels = batch
        trace = self(images)
        wrong = (trace.logits[:, -1].argmax(1) != labels).float().mean()
        chosen = trace.locations[:, 1:] if trace.locations.shape[1] > 1 else trace.locations
        spread = chosen.flatten(0, 1).std(0, correction=0).mean()
        reaction = chosen.std(0, correction=0).mean()
        self.log_dict({"val_error": wrong, "gaze_spread": spread, "gaze_reaction": reaction}, batch_size=len(labels))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with a one-cycle learning rate."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        # A rate that rises in a single step would be divided by zero.
        steps = schedule_steps(self.trainer)
        rise = max(self.warm_up, 2 / steps)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=steps, pct_start=rise)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Mark the checkpoint as ours, so that no other is taken for one."""
        checkpoint["glimpse_model"] = KIND


def schedule_steps(trainer: lightning.Trainer) -> int:
    """Steps of the learning rate's schedule: those of the training, and at least the 3 that a cycle needs."""
    return max(3, int(trainer.estimated_stepping_batches))


def check_options(options: dict[str, Any]) -> None:
    """Refuse options that make no sense, each with its name.

    Args:
        options: The arguments of :class:`HardAttentionTraining`, by name.

    Raises:
        ValueError: When one is out of its range or its choices, or does not go with another.
    """
    if len(options["classes"]) < 2:
        raise ValueError(f"expected at least 2 classes, got {len(options['classes'])}")
    for name in COUNTS:
        if options[name] < 1:
            raise ValueError(f"expected --model.{name} of at least 1, got {options[name]}; raise it")
    for name, (least, most) in RANGES.items():
        if not least <= options[name] <= most:
            raise ValueError(f"expected --model.{name} from {least:g} to {most:g}, got {options[name]}")
    for name, choices in CHOICES.items():
        if options[name] not in choices:
            raise ValueError(f"expected --model.{name} out of {', '.join(choices)}; got {options[name]!r}")
    if options["learning_rate"] <= 0 or options["warm_up"] in (0, 1):
        raise ValueError(
            "expected --model.learning_rate above 0 and --model.warm_up between 0 and 1, got "
            f"{options['learning_rate']} and {options['warm_up']}"
        )
    if options["what"] == "conv" and options["glimpse_size"] < 2:
        raise ValueError("a conv encoder needs --model.glimpse_size of at least 2; raise it, or use --model.what mlp")
    if options["entropy_weight"] and options["policy"] == "gaussian":
        raise ValueError(
            "a Gaussian's entropy is settled by --model.spread, so --model.entropy_weight would do nothing; leave it "
            "out, or raise the spread"
        )
    size, (height, width) = options["glimpse_size"], options["image_shape"][1:]
    widest = size * options["zoom"] ** (options["num_scales"] - 1)
    if widest > WIDEST_WINDOW * max(height, width):
        raise ValueError(
            f"expected a widest window of at most {WIDEST_WINDOW} times the image's longer side, {max(height, width)} "
            f"pixels; got {widest}; lower --model.num_scales or --model.zoom"
        )
    if min(height, width) < size:
        raise ValueError(
            f"expected images at least as large as the retina's finest window, {size}x{size} pixels; "
            f"got {height}x{width}; lower --model.glimpse_size, or use larger images or canvases"
        )
    if options["baseline"] == "leave-one-out" and options["num_rollouts"] < 2:
        raise ValueError("a leave-one-out baseline needs --model.num_rollouts of at least 2; raise it")
    if not 0 < options["final_spread"] <= options["spread"]:
        raise ValueError(
            "expected 0 < --model.final_spread <= --model.spread, got "
            f"{options['final_spread']} and {options['spread']}"
        )
