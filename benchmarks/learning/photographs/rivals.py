"""The rivals of ``glimpse train DIR``: classifiers of the whole image, each as options of a training."""

from collections.abc import Sequence
from pathlib import Path

from glimpse.cli.automatic.candidates import BACKBONE, Contender, candidates_for
from glimpse.cli.automatic.survey import Survey

PROBE, FINE_TUNED, CNN, RESNET = "linear-probe", "fine-tuned", "cnn", "resnet18"
RIVALS = (PROBE, FINE_TUNED, CNN, RESNET)
"""All rivals, in the order in which they are trained."""
ALL = "all"
PRETRAINED = (PROBE, FINE_TUNED)
"""Those that need the weights of a network that was trained on ImageNet."""
RESNET_RATE = 0.001
"""Learning rate of AdamW for resnet18, torch's default: three times less than that of the CNN, which is narrower."""
_FROM_SCRATCH, _AUGMENTATION = "--config=folder-cnn", "--data.augmentation="


def chosen_rivals(names: Sequence[str]) -> tuple[str, ...]:
    """The rivals that are named, in the order in which they are trained.

    Args:
        names: Some of ``RIVALS``, or ``ALL`` among them for all.
    """
    return tuple(name for name in RIVALS if name in names or ALL in names)


def linear_probe(survey: Survey) -> Contender:
    """Logistic regression on the features of the frozen network, of all training images.

    Args:
        survey: What the images are like.
    """
    return Contender(
        name=PROBE,
        reason=f"{BACKBONE}, trained on ImageNet, frozen, with a linear head, on the image squashed to 224x224",
        options=("--config=folder-pretrained", f"--data.channels={_channels(survey)}"),
        is_pretrained=True,
    )


def fine_tuned(survey: Survey, probe: Path) -> Contender:
    """The last stages of the network, trained on from the linear probe.

    Args:
        survey: What the images are like.
        probe: The checkpoint of the linear probe.
    """
    return Contender(
        name=FINE_TUNED,
        reason=f"{BACKBONE}, its last stages trained on from the linear probe, at 224x224",
        options=("--config=folder-finetuned", f"--data.channels={_channels(survey)}", f"--finetune={probe}"),
    )


def from_scratch(name: str, survey: Survey, augmentation: str) -> Contender:
    """A network from random weights, at the side that the product gives to its own CNN: 96 pixels, or 48 of signs.

    Args:
        name: ``cnn``, the product's own without its choice of an augmentation; or ``resnet18`` (He et al. 2016), that
            of torchvision, which sees the same images.
        survey: What the images are like.
        augmentation: How the training images are changed.
    """
    own = next(each for each in candidates_for(survey, has_backbone=False) if _FROM_SCRATCH in each.options)
    kept = [option for option in own.options if not option.startswith(_AUGMENTATION)]
    network = [f"--model.backbone={RESNET}", f"--model.learning_rate={RESNET_RATE}"] if name == RESNET else []
    return Contender(
        name=name,
        reason=f"{name} from random weights on the whole image, augmentation {augmentation}",
        options=(*kept, f"{_AUGMENTATION}{augmentation}", *network),
    )


def _channels(survey: Survey) -> int:
    return 1 if survey.is_grey else 3
