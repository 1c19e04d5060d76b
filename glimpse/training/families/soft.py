"""Training of soft attention, by back-propagation alone."""

import math
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from glimpse.data.held_out import LabelledBatch
from glimpse.errors import Argument, ArgumentError, Setting
from glimpse.models.soft import ATTENTIONS, SoftAttention, SoftObserver
from glimpse.nn.core import CORES
from glimpse.nn.encoders import ImageEncoder
from glimpse.nn.scores import SCORES
from glimpse.training.classifier import check_training_options
from glimpse.training.transfer.backbone import BackboneTraining

_COUNTS = ("num_glimpses", "hidden", "window")
_RANGES = {"coverage": (0.0, math.inf)}
_CHOICES = {"score": SCORES, "attention": ATTENTIONS, "core": CORES}


class SoftAttentionTraining(BackboneTraining):
    """Train a recurrent model of soft attention over a map of features (Xu et al., ICML 2015).

    Args:
        classes: Class names, taken from the data.
        image_shape: Channels, height and width of the images, taken from the data.
        num_glimpses: How many times the map is attended to.
        widths: Channels of each stage of our own image encoder; each stage halves the map's sides.
        depths: Layers of each stage.
        hidden: Length of the core's output, which is the query.
        score: Score function: dot, scaled-dot, general, additive, location or content.
        attention: global, local-p (around a predicted centre) or local-m (around the cells of a grid in turn).
        window: For local attention, cells from the centre to the window's edge.
        gate: Whether the core decides how much of what it attends to it takes in.
        core: Recurrent cell: gru, lstm or plain.
        every_glimpse: Whether the belief after every glimpse is trained, or that after the last.
        coverage: Weight of the doubly stochastic penalty, which is least if all places get the same weight over time.
        options: Those of :class:`glimpse.training.transfer.backbone.BackboneTraining`.

    Raises:
        ValueError: When an option is unknown, or does not go with the images or with another.
    """

    kind: ClassVar[str] = "soft"
    title: ClassVar[str] = "soft attention"
    figures: ClassVar[tuple[str, ...]] = ("train_loss", "coverage_penalty", "attention_entropy")
    observer: SoftObserver

    def __init__(
        self,
        classes: list[str],
        image_shape: list[int],
        num_glimpses: int = 4,
        widths: list[int] = [32, 64],  # noqa: B006
        depths: list[int] = [1, 3],  # noqa: B006
        hidden: int = 128,
        score: str = "additive",
        attention: str = "global",
        window: int = 3,
        gate: bool = False,
        core: str = "gru",
        every_glimpse: bool = True,
        coverage: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(classes, image_shape, **options)
        self.save_hyperparameters()
        check_training_options(self.hparams, _COUNTS, _RANGES, _CHOICES)
        channels, height, width = image_shape
        encoder = self.new_trunk((height, width), "images") or ImageEncoder(channels, tuple(widths), tuple(depths))
        if score in ("dot", "scaled-dot") and hidden != encoder.features:
            raise ArgumentError(
                "expected ",
                Argument("hidden"),
                f" as long as the map's features, {encoder.features}, for ",
                Setting("score", score),
                f"; got {hidden}; make it {encoder.features}, widen the last of ",
                Argument("widths"),
                ", or choose another score",
            )
        map_size = encoder.map_size(height, width)
        if attention != "global" and window >= max(map_size):
            raise ArgumentError(
                "expected ",
                Argument("window"),
                f" of at most {max(map_size) - 1} cells to each side on a map of {map_size[0]} x {map_size[1]}, got "
                f"{window}; lower it, or set ",
                Setting("attention", "global"),
            )
        model = SoftAttention(
            encoder, len(classes), channels, hidden, score, attention, window, gate, core, num_glimpses, map_size
        )
        self.observer = SoftObserver(model, num_glimpses)
        self.every_glimpse, self.coverage = every_glimpse, coverage

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Cross-entropy, and the coverage penalty."""
        images, labels = batch
        trace = self(images)
        assert trace.maps is not None
        classification = self.classification(images, trace.logits, labels, self.every_glimpse)
        penalty = coverage_penalty(trace.maps)
        self.note(classification, penalty, trace.entropy.mean())
        return classification + self.coverage * penalty


def coverage_penalty(maps: Float[Tensor, "batch time map_height map_width"]) -> Float[Tensor, ""]:
    """The doubly stochastic penalty, ``sum_i (tau - sum_t alpha_ti)^2``, a batch's mean (Xu et al. 2015, eq. 14).

    A place's weights over time are to sum to tau, which is 1 in the paper; here it is the share of a place when
    ``time`` glimpses are spread evenly. As a map's weights sum to one, the choice of tau changes the penalty by a
    constant, and its gradient not at all.

    Args:
        maps: Attention weights.
    """
    received = maps.sum(1).flatten(1)
    even = maps.shape[1] / received.shape[1]
    return (received - even).square().sum(1).mean()
