"""The options of a backbone, for every family that can stand on one: weights, what is frozen, its learning rate."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from glimpse.errors import Argument, ArgumentError, Setting
from glimpse.nn.backbones import Backbone
from glimpse.nn.backbones import backbone as make_backbone
from glimpse.training.classifier import ClassifierTraining

FREEZE = ("none", "all")
"""What may be frozen, beside a number of stages."""
FINE_TUNING_RATE = 0.1
"""Factor of the learning rate for weights that were trained before, where the user gives none."""


class BackboneTraining(ClassifierTraining):
    """Train a model that may stand on a network of torchvision or timm.

    Args:
        classes: Class names, taken from the data.
        image_shape: Channels, height and width of the images, taken from the data.
        backbone: A network of torchvision or timm in place of our own encoder, by name, such as resnet18 or
            tf_efficientnet_lite0.
        backbone_weights: Its weights at the start: nothing (random), default (the library's own, downloaded), package
            (those of an installed package), or a local file. With any, its batch normalisation keeps its averages.
        backbone_layer: The part of it that gives the map; its last map when left out.
        freeze: What of it is not trained: none, all, or a number of stages from the first on; each stage halves the
            map.
        backbone_rate: Factor of the learning rate for its weights. When left out 0.1 with weights, 1 without.
        options: Those of :class:`glimpse.training.classifier.ClassifierTraining`.
    """

    def __init__(
        self,
        classes: list[str],
        image_shape: list[int],
        backbone: str | None = None,
        backbone_weights: str | None = None,
        backbone_layer: str | None = None,
        freeze: int | str = "none",
        backbone_rate: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(classes, image_shape, **options)
        self.save_hyperparameters()
        check_backbone(self.hparams)
        usual = FINE_TUNING_RATE if backbone_weights else 1.0
        self.backbone_rate = usual if backbone_rate is None else backbone_rate
        self.pretrained = backbone_weights

    @property
    def trunk(self) -> Backbone | None:
        """The backbone within the model; None where the model has its own encoder."""
        return next((part for part in self.observer.model.modules() if isinstance(part, Backbone)), None)

    def new_trunk(self, sizes: tuple[int, int], too_small: str) -> Backbone | None:
        """Make the backbone that the options name, with random weights; None where they name none.

        Args:
            sizes: Height and width of what it sees, pixels.
            too_small: The argument to raise where they are less than its stride, or the images' name.

        Raises:
            ValueError: When there is no such network, or it has no such layer or not so many stages.
            ArgumentError: When it would see less than one place of its map.
        """
        options = self.hparams
        if options["backbone"] is None:
            return None
        made = make_backbone(options["backbone"], layer=options["backbone_layer"])
        if min(sizes) < made.stride:
            smallest = f"of at least {made.stride} pixels a side, the stride of {made.name}"
            raise ArgumentError(
                "expected ",
                *((Argument(too_small), f" {smallest}") if too_small != "images" else (f"images {smallest}",)),
                f", got {min(sizes)}; raise it, or choose an earlier ",
                Argument("backbone_layer"),
            )
        if options["backbone_weights"] is not None:
            made.keep_averages()
        if options["freeze"] != "none":
            made.freeze(None if options["freeze"] == "all" else options["freeze"])
        return made

    def load_pretrained(self) -> None:
        """Load the backbone's weights, see :meth:`ClassifierTraining.load_pretrained`."""
        trunk = self.trunk
        if self.pretrained is not None and trunk is not None:
            source = make_backbone(self.hparams["backbone"], self.pretrained, self.hparams["backbone_layer"])
            trunk.load_state_dict(source.state_dict())
            trunk.normalisation = source.normalisation
            self.pretrained = None

    def pixel_statistics(self) -> tuple[Tensor, Tensor] | None:
        """Those that the backbone's weights were trained with, their mean for grey images; else those of the data."""
        trunk = self.trunk
        if trunk is None or trunk.normalisation is None:
            return super().pixel_statistics()
        mean, std = (torch.tensor(values) for values in trunk.normalisation)
        return (mean, std) if self.image_shape[0] == len(mean) else (mean.mean(0, True), std.mean(0, True))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, the backbone at a rate of its own."""
        groups = super().parameter_groups()
        if self.trunk is None or self.backbone_rate == 1:
            return groups
        inner = {id(parameter) for parameter in self.trunk.parameters()}
        everything, rate = groups[0]["params"], self.learning_rate
        parts = [
            {"params": [each for each in everything if (id(each) in inner) == within], "lr": rate * factor}
            for within, factor in ((False, 1.0), (True, self.backbone_rate))
        ]
        return [part for part in parts if part["params"]]


def check_backbone(options: Mapping[str, Any]) -> None:
    """Reject options of a backbone that would do nothing or have no meaning.

    Args:
        options: The arguments of :class:`BackboneTraining`, by name.

    Raises:
        ArgumentError: When one of them is given without a backbone or its weights, or is out of its range.
    """
    freeze, rate = options["freeze"], options["backbone_rate"]
    given = {name: options[name] for name in ("backbone_weights", "backbone_layer", "backbone_rate")}
    if freeze != "none":
        given["freeze"] = freeze
    for name, value in given.items():
        if value is not None and options["backbone"] is None:
            raise ArgumentError(
                "expected ",
                Argument(name),
                " with ",
                Argument("backbone"),
                f" alone, got {value!r} without one; name the network, such as resnet18, or leave it out",
            )
    if freeze not in FREEZE and (isinstance(freeze, str) or freeze < 1):
        raise ArgumentError(
            "expected ",
            Argument("freeze"),
            f" out of {', '.join(FREEZE)}, or a number of stages of at least 1; got {freeze!r}",
        )
    if freeze != "none" and options["backbone_weights"] is None:
        raise ArgumentError(
            "expected ",
            Argument("backbone_weights"),
            " with ",
            Setting("freeze", freeze),
            ", got none: random weights would never be trained; give weights, or leave ",
            Argument("freeze"),
            " out",
        )
    if rate is not None and rate <= 0:
        raise ArgumentError(
            "expected ",
            Argument("backbone_rate"),
            f" above 0, got {rate}; raise it, or set ",
            Setting("freeze", "all"),
        )
    if options["backbone"] is not None and options["image_shape"][0] not in (1, 3):
        raise ArgumentError(
            f"expected images of 1 or 3 channels with a backbone, got {options['image_shape'][0]}; convert them, or "
            "leave out ",
            Argument("backbone"),
        )
