"""The base of the two trainings of the hard model: options and construction of the model and its retina."""

from typing import Any

from glimpse.errors import Argument, Sentence
from glimpse.models.hard import GAZES, HardAttention, HardObserver
from glimpse.nn.core import CORES
from glimpse.nn.encoders import COMBINE, WHAT
from glimpse.nn.retina import Retina
from glimpse.training.transfer.backbone import BackboneTraining

COUNTS = ("num_glimpses", "glimpse_size", "num_scales", "zoom", "hidden", "grid_cells", "gaze_hidden")
"""Options of :class:`HardModelTraining` that are at least 1."""
CHOICES = {"what": WHAT, "combine": COMBINE, "core": CORES, "gaze": GAZES}
"""The names that its other options may have."""


class HardModelTraining(BackboneTraining):
    """Train a recurrent model of hard attention. A family adds the kind of policy and its ``training_step``.

    Args:
        classes: Class names, taken from the data.
        image_shape: Channels, height and width of the images, taken from the data.
        num_glimpses: Glimpses in an episode.
        glimpse_size: Side of a glimpse in pixels, the same at every scale.
        num_scales: Windows in a glimpse.
        zoom: How many times wider each window is than the one before it.
        hidden: Length of the encoding and of the core's output.
        what: Glimpse encoder: conv or mlp. A backbone sees each window in its place; its pooled features are joined
            with where by a linear layer.
        combine: How what and where are joined: multiply or add.
        core: Recurrent cell: gru, lstm or plain.
        relative: For a Gaussian policy (that of the relaxations gaussian and bilinear), whether it computes a saccade
            or a location.
        grid_cells: For a grid policy (that of the relaxations gumbel and gumbel-st), cells along each side of the
            image.
        gaze: Layers of the policy's own: eyes, layer or nothing; see HardAttention.
        gaze_hidden: Length of the output of the policy's own recurrent layer.
        every_glimpse: Whether the belief after every glimpse is trained, or that after the last.
        options: Those of :class:`glimpse.training.transfer.backbone.BackboneTraining`.
    """

    observer: HardObserver

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
        relative: bool = True,
        grid_cells: int = 9,
        gaze: str = "eyes",
        gaze_hidden: int = 128,
        every_glimpse: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(classes, image_shape, **options)
        self.save_hyperparameters()

    def make_observer(self, policy: str) -> HardObserver:
        """Make the model and its retina from the options.

        Args:
            policy: The kind of location policy, ``gaussian`` or ``grid``.
        """
        options, channels = self.hparams, self.image_shape[0]
        shared = ("glimpse_size", "num_scales", "hidden", *CHOICES, "relative", "grid_cells", "gaze_hidden")
        trunk = self.new_trunk((options["glimpse_size"],) * 2, "glimpse_size")
        chosen = {name: options[name] for name in shared}
        model = HardAttention(len(self.classes), channels, policy=policy, backbone=trunk, **chosen)
        retina = Retina(options["glimpse_size"], options["num_scales"], options["zoom"])
        return HardObserver(model, retina, options["num_glimpses"])

    def warning(self) -> Sentence | None:
        """A warning of windows that take in the whole image; None where there is something to look for.

        A gaze learns nothing where the first glimpse shows everything.
        """
        options, (height, width) = self.hparams, self.image_shape[1:]
        widest = options["glimpse_size"] * options["zoom"] ** (options["num_scales"] - 1)
        if options["glimpse_size"] >= max(height, width):
            return Sentence(
                f"the finest window takes in the whole image of {height}x{width} pixels, so that there is nothing to "
                "look for: one glimpse sees all of it; lower ",
                Argument("glimpse_size"),
                ", or use larger images",
            )
        if widest >= max(height, width):
            return Sentence(
                f"the widest window of {widest} pixels takes in the whole image of {height}x{width}, so that there may "
                "be little to look for: the first glimpse sees all of it, coarsely; lower ",
                Argument("num_scales"),
                ", or use larger images",
            )
        return None
