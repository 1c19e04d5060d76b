"""The arguments of the classification environments: images, retina, actions and reward."""

import difflib
import math
from dataclasses import dataclass, fields
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch

from glimpse.contract.episode import FIRST_LOCATIONS, REWARDS, EpisodeRule
from glimpse.data.canvas import Canvas
from glimpse.data.datasets import DATASETS, FOLDER, SOURCES, DataError, Source, data_root
from glimpse.data.folder import FITS, image_folder, labelled_files
from glimpse.data.held_out import TEST_CANVASES, VALIDATION_CANVASES
from glimpse.errors import Argument, ArgumentError, Setting
from glimpse.nn.retina import Retina
from glimpse_envs.classification.actions import ACTION_MODES, Actions
from glimpse_envs.classification.core import ClassificationCore, Classifier
from glimpse_envs.classification.scenes import DrawnScenes, FixedScenes, Pictures, Scenes

SPLITS = ("train", "validation", "test")
POSITIVE_COUNTS = (
    "num_glimpses",
    "glimpse_size",
    "num_scales",
    "zoom",
    "grid_cells",
    "num_targets",
    "piece_size",
)
IMAGE_SIDES = ("image_height", "image_width")
CANVAS_COUNTS = ("canvas_height", "canvas_width", "num_pieces")
FROZEN = {"validation": VALIDATION_CANVASES, "test": TEST_CANVASES}
"""Seeds of the held-out canvases, equal to those of the library's training."""


class FolderImages(NamedTuple):
    """How a folder's images are brought onto one canvas; see :func:`glimpse.data.folder.image_folder`."""

    height: int | None
    """Pixels; None where the canvas follows from the images' sizes."""
    width: int | None
    """Pixels; None where the canvas follows from the images' sizes."""
    channels: int
    """1 (grey) or 3 (RGB)."""
    size_policy: str
    """One of :data:`glimpse.contract.card.SIZE_POLICIES`."""


class TaskError(ArgumentError):
    """Arguments that are invalid for an environment."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The arguments that the single, the vector and the tensor environment share.

    Attributes:
        dataset: ``digits`` (included), ``mnist``, ``fashion-mnist``, ``cifar10``, ``svhn``, ``folder`` (one folder for
            each class), or your own :class:`Pictures`, which are used unchanged for every split.
        split: ``train``, ``validation`` or ``test``. Canvases of the training split are drawn anew for every episode;
            those of the other splits are fixed and equal to those of the library's training.
        root: Folder of the data set; by default the environment variable ``GLIMPSE_DATA``, or ``./data``.
        download: Whether torchvision may download a data set that is not found.
        canvas_height: Height of the canvas that an image is placed on, pixels; 0 for no canvas.
        canvas_width: Width of the canvas, pixels; 0 for no canvas.
        num_pieces: Number of clutter pieces on a canvas.
        piece_size: Side of a clutter piece, pixels.
        num_targets: Number of images side by side, each on its own canvas, to be classified from left to right.
        image_height: Height that every image is brought to, pixels; only for ``folder``. When both sides are left out,
            they follow from the images' sizes.
        image_width: Width that every image is brought to, pixels; only for ``folder``.
        fit: ``squash`` scales every image to height x width, whatever its proportions; ``letterbox`` keeps them, and
            centres it on black; only for ``folder``.
        channels: 1 for grey, 3 for colour; only for ``folder``.
        action_mode: ``declare``, ``joint``, ``box`` or ``location``; see the action space of the environment.
        reward: ``terminal``, ``dense`` or ``improvement``. By default ``terminal``; in ``location`` mode
            ``improvement`` with a classifier, and no reward without one.
        glimpse_cost: Cost of each glimpse, subtracted from the reward.
        num_glimpses: The glimpse budget, the first glimpse included.
        glimpse_size: Side of a glimpse in pixels, equal at every scale.
        num_scales: Number of scales, that is, of nested windows in a glimpse.
        zoom: Ratio of the widths of two successive windows.
        grid_cells: Cells along each side of the grid of locations, in ``declare`` and ``joint`` mode.
        relative: Whether an action is a saccade relative to the current fixation, rather than the next fixation.
        largest_step: Longest saccade along each axis, in half images; only with ``relative``.
        first_location: Location of the first glimpse, ``centre`` or ``random``.
        classifier: Classifies the glimpses, only in ``location`` mode; for instance the library's ``HardAttention``.

    Raises:
        TaskError: When an argument is out of its range, or incompatible with another one.
    """

    dataset: str | Pictures = "digits"
    split: str = "train"
    root: str | None = None
    download: bool = False
    canvas_height: int = 0
    canvas_width: int = 0
    num_pieces: int = 0
    piece_size: int = 8
    num_targets: int = 1
    image_height: int | None = None
    image_width: int | None = None
    fit: str = "squash"
    channels: int = 3
    action_mode: str = "declare"
    reward: str | None = None
    glimpse_cost: float = 0.0
    num_glimpses: int = 6
    glimpse_size: int = 12
    num_scales: int = 3
    zoom: int = 2
    grid_cells: int = 5
    relative: bool = False
    largest_step: float = 1.0
    first_location: str = "centre"
    classifier: Classifier | None = None

    def __post_init__(self) -> None:
        for name, names in (
            ("dataset", DATASETS),
            ("split", SPLITS),
            ("action_mode", ACTION_MODES),
            ("reward", (*REWARDS, None)),
            ("first_location", FIRST_LOCATIONS),
            ("fit", tuple(FITS)),
        ):
            given = getattr(self, name)
            if not isinstance(given, Pictures) and given not in names:
                known = [str(choice) for choice in names if choice]
                hint = difflib.get_close_matches(str(given), known, 1)
                meant = f"; did you mean {hint[0]!r}?" if hint else "; choose one of them"
                raise TaskError("expected ", Argument(name), f" out of {', '.join(known)}; got {given!r}{meant}")
        sides = tuple(name for name in IMAGE_SIDES if getattr(self, name) is not None)
        for name in (*POSITIVE_COUNTS, *sides, *CANVAS_COUNTS, "glimpse_cost", "largest_step"):
            kind, words = (
                (Real, "a number") if name in ("glimpse_cost", "largest_step") else (Integral, "a whole number")
            )
            if not isinstance(getattr(self, name), kind) or isinstance(getattr(self, name), bool):
                raise TaskError("expected ", Argument(name), f" to be {words}, got {getattr(self, name)!r}")
        for name in ("relative", "download"):
            if not isinstance(getattr(self, name), bool):
                raise TaskError("expected ", Argument(name), f" to be True or False, got {getattr(self, name)!r}")
        for name in (*POSITIVE_COUNTS, *sides):
            if getattr(self, name) < 1:
                raise TaskError("expected ", Argument(name), f" of at least 1, got {getattr(self, name)}; raise it")
        for name in (*CANVAS_COUNTS, "glimpse_cost"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TaskError("expected ", Argument(name), f" of at least 0, got {getattr(self, name)}; raise it")
        if self.channels not in (1, 3):
            raise TaskError("expected ", Argument("channels"), f" to be 1 (grey) or 3 (colour), got {self.channels!r}")
        if self.largest_step != 1.0 and not self.relative:
            raise TaskError(
                "expected ",
                Argument("largest_step"),
                " with ",
                Setting("relative", True),
                f" alone, got {self.largest_step} where an action is a location; leave it out, or give ",
                Setting("relative", True),
            )
        if not 0 < self.largest_step <= 2:
            raise TaskError(
                "expected ",
                Argument("largest_step"),
                f" above 0 and up to 2, the image's width in half images, got {self.largest_step}",
            )
        self._check_together()

    def _check_together(self) -> None:
        if (self.image_height is None) != (self.image_width is None):
            raise TaskError(
                "expected both ",
                Argument("image_height"),
                " and ",
                Argument("image_width"),
                f", or neither, got {self.image_height} and {self.image_width}; give both, or leave both to the "
                "images' sizes",
            )
        if bool(self.canvas_height) != bool(self.canvas_width) or (self.num_pieces and not self.canvas_height):
            raise TaskError(
                "a canvas needs both its sides, and clutter needs a canvas; got ",
                Setting("canvas_height", self.canvas_height),
                ", ",
                Setting("canvas_width", self.canvas_width),
                ", ",
                Setting("num_pieces", self.num_pieces),
            )
        if self.num_targets > 1 and not self.canvas_height:
            raise TaskError(
                "expected a canvas for each of ",
                Setting("num_targets", self.num_targets),
                " images, got none; set ",
                Argument("canvas_height"),
                " and ",
                Argument("canvas_width"),
            )
        if isinstance(self.dataset, Pictures) and (self.canvas_height or self.num_targets > 1):
            raise TaskError("pictures of your own are shown as they are, with the targets that their labels have")
        if self.action_mode == "location":
            if self.num_glimpses < 2:
                raise TaskError(
                    "expected ",
                    Argument("num_glimpses"),
                    " of at least 2 in location mode, whose first one is not chosen, got "
                    f"{self.num_glimpses}; raise it",
                )
            if self.classifier is None and self.reward is not None:
                raise TaskError(
                    "expected a ",
                    Argument("classifier"),
                    " with ",
                    Setting("reward", self.reward),
                    " in location mode, where the agent says nothing that could be right; give a classifier, or leave "
                    "the reward out",
                )
            if self.num_targets > 1 and self.classifier is not None:
                raise TaskError(
                    "a ",
                    Argument("classifier"),
                    " judges one target an image, got ",
                    Argument("num_targets"),
                    " above 1; leave it out",
                )
        elif self.classifier is not None:
            raise TaskError(
                "expected a ",
                Argument("classifier"),
                " in location mode alone, got one with ",
                Setting("action_mode", self.action_mode),
                ", where the agent itself says what it sees; leave it out",
            )
        elif self.reward == "improvement" and self.action_mode != "box":
            raise TaskError(
                "expected ",
                Setting("reward", "improvement"),
                " where probabilities are told: in box mode, or in location mode with a classifier; got ",
                Setting("action_mode", self.action_mode),
                "; choose 'terminal' or 'dense'",
            )

    @classmethod
    def of(cls, **options: Any) -> "Task":
        """Create a task from arguments by name.

        Raises:
            TaskError: When an argument does not exist, is out of its range, or is incompatible with another one.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                meant = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(known)}"
                raise TaskError(f"an environment has no option {name!r}; {hint}")
        return cls(**options)

    def core(self, device: torch.device | str = "cpu") -> ClassificationCore:
        """Create the core of an environment with these arguments.

        Args:
            device: Device of all tensors.

        Raises:
            DataError: When the data set is not found, or its images do not fit the canvas.
            TaskError: When the glimpse budget can't be divided equally among the targets.
        """
        scenes = self.scenes(device)
        if self.action_mode in ("joint", "box") and self.num_glimpses % scenes.num_targets:
            raise TaskError(
                "expected ",
                Argument("num_glimpses"),
                f" to be a multiple of the {scenes.num_targets} targets, each of which has its share of a fixed "
                f"budget, got {self.num_glimpses}; change it, or use ",
                Setting("action_mode", "declare"),
            )
        usual = "improvement" if self.classifier is not None else "terminal"
        return ClassificationCore(
            scenes,
            Retina(self.glimpse_size, self.num_scales, self.zoom),
            EpisodeRule(self.num_glimpses, self.reward or usual, self.glimpse_cost),
            Actions(self.action_mode, len(scenes.classes), self.grid_cells, self.relative, self.largest_step, device),
            self.first_location,
            self.classifier,
            device,
        )

    def scenes(self, device: torch.device | str = "cpu") -> Scenes:
        """The images; environments with the same images share one object and its memory.

        Args:
            device: Device of the images.

        Raises:
            DataError: When the data set is not found, or its images do not fit the canvas.
        """
        if isinstance(self.dataset, Pictures):
            return _pictures(self.dataset, str(device))
        folder = None
        if self.dataset == FOLDER:
            folder = FolderImages(self.image_height, self.image_width, self.channels, FITS[self.fit])
        canvas = None
        if self.canvas_height:
            canvas = Canvas(self.canvas_height, self.canvas_width, self.num_pieces, self.piece_size)
        root = str(data_root(self.root))
        try:
            return _scenes(self.dataset, root, self.download, folder, self.split, canvas, self.num_targets, str(device))
        except ArgumentError as error:
            raise DataError(*error.args) from error
        except ValueError as error:
            raise DataError(str(error)) from error


@lru_cache(maxsize=8)
def _pictures(pictures: Pictures, device: str) -> FixedScenes:
    return FixedScenes(pictures, device)


@lru_cache(maxsize=4)
def _source(dataset: str, root: str, download: bool, folder: FolderImages | None) -> Source:
    if folder is not None:
        return image_folder(
            labelled_files(data_root(root)),
            folder.height,
            folder.width,
            folder.channels,
            size_policy=folder.size_policy,
        )
    return SOURCES[dataset](root, download)


@lru_cache(maxsize=8)
def _scenes(
    dataset: str,
    root: str,
    download: bool,
    folder: FolderImages | None,
    split: str,
    canvas: Canvas | None,
    num_targets: int,
    device: str,
) -> Scenes:
    source = _source(dataset, root, download, folder)
    part = {"train": source.train, "validation": source.validation, "test": source.test}[split]
    if canvas is None:
        return FixedScenes(Pictures(part.images, part.labels, source.classes), device)
    if split in FROZEN:
        drawn = DrawnScenes(part, source.classes, canvas, num_targets)
        return FixedScenes(drawn.freeze(FROZEN[split]), device)
    scenes = DrawnScenes(part, source.classes, canvas, num_targets, device)
    # Detect images that do not fit the canvas now, not during training.
    scenes.fetch(torch.zeros(1, dtype=torch.long, device=device), torch.Generator(device))
    return scenes
