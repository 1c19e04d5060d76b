"""Training of glance and focus: from class labels alone, or with boxes that tell where the objects are."""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from glimpse.data.datamodule import ImageData
from glimpse.errors import Argument, ArgumentError
from glimpse.models.focus import FocusObserver, FocusState, GlanceAndFocus, within
from glimpse.nn.encoders import ImageEncoder, middles
from glimpse.nn.retina import extract_glimpse
from glimpse.training.box_objectives import (
    SEEN,
    Windows,
    empty_class,
    evenly,
    known_first,
    near_objects,
    placed_loss,
    window_loss,
)
from glimpse.training.classifier import check_training_options
from glimpse.training.transfer.backbone import BackboneTraining

CLOSE = ("own", "glance")
"""What looks at windows: an encoder of their own, or the glance's."""
_COUNTS = ("num_glimpses", "window", "reduction", "candidates", "crops")
AROUND = 0.75
"""Share of the crops of an image with objects that are cut around one."""


class FocusTraining(BackboneTraining):
    """Train glance and focus (see :mod:`glimpse.models.focus`).

    The loss has up to four parts. The glance's: minus the log-probability of the truth, a pair of class and place where
    a box tells the place, a class where none does. The answer's, after windows that were sampled from the glance's
    evidence without replacement (Kool et al. 2019). The windows' own, where boxes tell what they show: the class, or
    nothing. The policy's, where no box tells: each sampled window's improvement of the true class's log-probability,
    less the mean of the others of the same image (leave-one-out; Mnih and Rezende 2016, eq. 9).

    Args:
        classes: Class names, taken from the data.
        image_shape: Channels, height and width of the images, taken from the data.
        num_glimpses: Glimpses in an episode: the glance, and windows.
        window: Side of a window, pixels; a third of the image's shorter side when left out, at most 64.
        reduction: How many times smaller the glance sees the image than it is.
        candidates: Windows of each image that a training step looks at.
        crop: Side of the square crops that the first part of a training with boxes is on, pixels; 0 for none. A crop
            holds an object that would take up far less of the whole image, and costs less.
        crop_share: Share of the training that is on crops, in [0, 1).
        crops: Crops of each image in a batch.
        widths: Channels of each stage of the glance's own encoder; each stage halves the map's sides.
        depths: Layers of each stage.
        close: What looks at windows: own, an encoder of their own, or glance, that of the glance.
        focus_widths: Channels of each stage of the windows' own encoder.
        focus_depths: Layers of each stage.
        dropout: Share of the features that training leaves out before each classifier, in [0, 1).
        policy_weight: Weight of the policy's loss.
        options: Those of :class:`glimpse.training.transfer.backbone.BackboneTraining`; a backbone takes the place of
            the glance's own encoder.

    Raises:
        ValueError: When an option is unknown or out of its range, or the images are smaller than a window.
    """

    kind: ClassVar[str] = "focus"
    title: ClassVar[str] = "glance and focus"
    figures: ClassVar[tuple[str, ...]] = ("train_loss", "glance_loss", "window_loss")
    takes_boxes: ClassVar[bool] = True
    """Whether a training batch has the boxes of objects, where they are known."""
    observer: FocusObserver

    def __init__(
        self,
        classes: list[str],
        image_shape: list[int],
        num_glimpses: int = 5,
        window: int | None = None,
        reduction: int = 2,
        candidates: int = 4,
        crop: int = 0,
        crop_share: float = 0.6,
        crops: int = 4,
        widths: list[int] = [16, 32, 64],  # noqa: B006
        depths: list[int] = [1, 1, 3],  # noqa: B006
        close: str = "own",
        focus_widths: list[int] = [32, 64, 96],  # noqa: B006
        focus_depths: list[int] = [1, 2, 2],  # noqa: B006
        dropout: float = 0.1,
        policy_weight: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(classes, image_shape, **options)
        channels, height, width = image_shape
        if window is None:
            window = min(64, max(8, 8 * round(min(height, width) / 24)))
        self.save_hyperparameters()
        ranges = {"dropout": (0.0, 0.99), "policy_weight": (0.0, math.inf), "crop_share": (0.0, 0.99)}
        check_training_options(self.hparams, _COUNTS, ranges, {"close": CLOSE})
        if min(height, width) < window:
            raise ArgumentError(
                f"expected images at least as large as a window of {window}x{window} pixels, got {height}x{width}; "
                "lower ",
                Argument("window"),
                ", or use larger images",
            )
        if crop and not window <= crop <= min(height, width):
            raise ArgumentError(
                "expected ",
                Argument("crop"),
                f" of 0, or from a window's {window} to the images' {min(height, width)} pixels, got {crop}",
            )
        self.candidates, self.policy_weight = candidates, policy_weight
        self.empty_class: int | None = None
        trunk = self.new_trunk((height // reduction, width // reduction), "images")
        glance = ImageEncoder(channels, tuple(widths), tuple(depths)) if trunk is None else trunk
        own = ImageEncoder(channels, tuple(focus_widths), tuple(focus_depths)) if close == "own" else None
        model = GlanceAndFocus(glance, own, len(classes), channels, window, reduction, dropout)
        self.observer = FocusObserver(model, num_glimpses)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """One step of all parts of the loss."""
        images, labels, *given = batch
        generator = self.step_generator(images.device, batch_idx)
        boxes, candidates = known_first(given[0]) if given else None, self.candidates
        if boxes is not None and self.hparams["crop"] and self.progress() < self.hparams["crop_share"]:
            told = self.is_told(labels, boxes)
            if told.any():
                images, labels, boxes = self.cropped(images[told], labels[told], boxes[told], generator)
                candidates = max(1, candidates // self.hparams["crops"])
        losses = self.losses(images, labels, boxes, generator, candidates)
        total = losses["glance"] + losses["answer"] + losses["windows"] + self.policy_weight * losses["policy"]
        self.note(losses["answer"], losses["glance"], losses["windows"])
        return total

    def losses(
        self,
        images: Tensor,
        labels: Int64[Tensor, " batch"],
        boxes: Float[Tensor, "batch most 4"] | None,
        generator: torch.Generator,
        candidates: int,
    ) -> dict[str, Tensor]:
        """The parts of the loss, each a mean over the batch.

        Args:
            images: uint8 NCHW.
            labels: Their classes.
            boxes: Where objects are, (left, top, right, bottom) as fractions of the image, padded with NaN; None where
                nothing is known of any image. See :meth:`is_told` for images that have none.
            generator: Where the randomness comes from.
            candidates: Windows of each image that are sampled.
        """
        model, size = self.observer.model, images.shape[-2:]
        state = model.look_around(images)
        sampled, log_prob = self._sample(state, size, generator, candidates)
        windows = self._look(images, state, sampled)
        after = state
        for evidence, covered in zip(windows.evidence.unbind(1), windows.covered.unbind(1), strict=True):
            after = model(evidence, covered, after).state
        logits = model.believe(after).logits
        answer = self.classification(images, logits.unsqueeze(1), labels)
        before = model.believe(state).logits
        if boxes is None:
            glance = self.classification(images, before.unsqueeze(1), labels)
            policy = self._policy_loss(state, windows, before, labels, log_prob)
            return {"glance": glance, "answer": answer, "windows": answer.new_zeros(()), "policy": policy}
        told = self.is_told(labels, boxes)
        placed = placed_loss(state, labels, boxes, told)
        glance = (placed if self.class_weights is None else placed * self.class_weights[labels]).mean()
        reach = boxes.new_tensor([model.window / size[1], model.window / size[0]])
        near = near_objects(boxes, reach * SEEN, torch.ones_like(labels, dtype=torch.bool), generator)
        shown = self._look(images, state, model.inside(near, size[0], size[1]).unsqueeze(1))
        both = Windows(*(torch.cat(pair, dim=1) for pair in zip(windows, shown, strict=True)))
        close = window_loss(both, labels, boxes, told, model.window / size[1], model.window / size[0])
        return {"glance": glance, "answer": answer, "windows": close, "policy": answer.new_zeros(())}

    def on_fit_start(self) -> None:
        """Find the class of what shows nothing; see :meth:`ClassifierTraining.on_fit_start`."""
        super().on_fit_start()
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, ImageData) and data.source.train.boxes is not None:
            self.empty_class = empty_class(data.source.train, len(self.classes))

    def is_told(self, labels: Int64[Tensor, " batch"], boxes: Float[Tensor, "batch most 4"]) -> Bool[Tensor, " batch"]:
        """Whether it is known of each image where its objects are: it has boxes, or its class never shows an object.

        Of other images the place is unknown, and the label alone teaches.

        Args:
            labels: The classes.
            boxes: The boxes, NaN where there is none.
        """
        known = ~boxes[:, :, 0].isnan().all(1)
        return known if self.empty_class is None else known | (labels == self.empty_class)

    def cropped(
        self,
        images: Tensor,
        labels: Int64[Tensor, " batch"],
        boxes: Float[Tensor, "batch most 4"],
        generator: torch.Generator,
    ) -> tuple[Tensor, Int64[Tensor, " crops"], Float[Tensor, "crops most 4"]]:
        """Cut crops out of images of which it is known where their objects are, most of them around one.

        What shows no object is of the class that never has any; without such a class every crop is around an object.

        Args:
            images: uint8 NCHW.
            labels: Their classes.
            boxes: Their boxes, NaN where there is none, the known ones first.
            generator: Where the randomness comes from.

        Returns:
            Crops, pixels in [0, 1], those of an image next to one another; their classes; their boxes.
        """
        (height, width), side = images.shape[-2:], self.hparams["crop"]
        count = self.hparams["crops"]
        labels, boxes = (each.repeat_interleave(count, 0) for each in (labels, boxes))
        around = evenly(boxes[:, 0, 0], generator) < AROUND
        if self.empty_class is None:
            around = torch.ones_like(around)
        reach = boxes.new_tensor([side / width, side / height])
        location = within(near_objects(boxes, reach, around, generator), reach)
        of_each = location.unflatten(0, (-1, count)).unbind(1)
        pixels = torch.cat([extract_glimpse(images, each, side, 1, 1) for each in of_each], dim=1).flatten(0, 1)
        corner = ((location - reach + 1) / 2)[:, None]
        scale = boxes.new_tensor([width / side, height / side])
        moved = torch.cat(((boxes[..., :2] - corner) * scale, (boxes[..., 2:] - corner) * scale), -1).clamp(0, 1)
        seen = (moved[..., 2:] > moved[..., :2]).all(-1, keepdim=True)
        moved = known_first(torch.where(seen, moved, torch.nan))
        if self.empty_class is not None:
            empty = moved[..., 0].isnan().all(1)
            labels = torch.where(empty, self.empty_class, labels)
        return pixels, labels, moved

    def _look(self, images: Tensor, state: FocusState, locations: Float[Tensor, "batch windows 2"]) -> Windows:
        model, count = self.observer.model, locations.shape[1]
        flat = locations.flatten(0, 1)
        rows, columns = state.places.shape[2:]
        evidence = model.look_closely(images, locations)
        covered = model.covered(flat, rows, columns, images.shape[-2], images.shape[-1])
        return Windows(locations, evidence, covered.unflatten(0, (-1, count)))

    def _sample(
        self, state: FocusState, size: tuple[int, int] | torch.Size, generator: torch.Generator, count: int
    ) -> tuple[Float[Tensor, "batch windows 2"], Float[Tensor, "batch windows"]]:
        """Sample places without replacement, by the Gumbel-top-k trick (Kool et al. 2019, section 3)."""
        rows, columns = state.places.shape[2:]
        log_prob = state.places.logsumexp(1).flatten(1).log_softmax(1)
        noise = evenly(log_prob, generator).clamp(1e-9, 1 - 1e-7)
        chosen = (log_prob.detach() - (-noise.log()).log()).topk(min(count, rows * columns), dim=1).indices
        locations = middles(rows, columns, log_prob.device)[chosen]
        return self.observer.model.inside(locations, size[0], size[1]), log_prob.gather(1, chosen)

    def _policy_loss(
        self, state: FocusState, windows: Windows, before: Tensor, labels: Tensor, log_prob: Tensor
    ) -> Tensor:
        """REINFORCE on each window's own improvement, less the mean of the others'."""
        count = windows.evidence.shape[1]
        if count < 2:
            return log_prob.new_zeros(())
        with torch.no_grad():
            truth = labels[:, None]
            start = before.log_softmax(1).gather(1, truth)
            rewards = torch.cat(
                [
                    self.observer.model(windows.evidence[:, k], windows.covered[:, k], state)
                    .logits.log_softmax(1)
                    .gather(1, truth)
                    - start
                    for k in range(count)
                ],
                dim=1,
            )
            advantages = rewards - (rewards.sum(1, keepdim=True) - rewards) / (count - 1)
            advantages = advantages / advantages.square().mean().sqrt().clamp_min(1e-8)
        return -(log_prob * advantages).sum(1).mean()
