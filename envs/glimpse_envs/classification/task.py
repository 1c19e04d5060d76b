"""What an environment is about: which images, through which retina, for what reward."""

import difflib
import math
from dataclasses import dataclass, fields
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import torch

from glimpse.data.canvas import Canvas
from glimpse.data.datasets import DATASETS, FOLDER, SOURCES, DataError, Source, data_root
from glimpse.data.folder import image_folder
from glimpse.data.held_out import TEST_CANVASES, VALIDATION_CANVASES
from glimpse.episode import FIRST_LOCATIONS, REWARDS, EpisodeRule
from glimpse.nn.retina import Retina
from glimpse_envs.classification.actions import ACTION_MODES, Actions
from glimpse_envs.classification.core import ClassificationCore, Classifier
from glimpse_envs.classification.scenes import DrawnScenes, FixedScenes, Pictures, Scenes

SPLITS = ("train", "validation", "test")
_COUNTS = (
    "num_glimpses",
    "glimpse_size",
    "num_scales",
    "zoom",
    "grid_cells",
    "num_targets",
    "piece_size",
    "image_height",
    "image_width",
)
_SIZES = ("canvas_height", "canvas_width", "num_pieces")
FROZEN = {"validation": VALIDATION_CANVASES, "test": TEST_CANVASES}
"""Seeds of the held-out canvases, those of the library's trainings."""


class TaskError(ValueError):
    """Options that make no environment."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The options that every face of the environment has.

    Attributes:
        dataset: ``digits`` (embedded), ``mnist``, ``fashion-mnist``, ``cifar10``, ``svhn``, ``folder`` (one folder a
            class), or :class:`Pictures` of your own, which are shown as they are, whatever the split.
        split: ``train``, ``validation`` or ``test``. Training canvases are drawn anew for every episode, the others
            are frozen, the same as in the library's trainings.
        root: Folder of the data set; the environment variable ``GLIMPSE_DATA`` or ``./data`` when left out.
        download: Whether torchvision may download what is not there.
        canvas_height: Of the canvas that an image is put on, pixels; 0 for no canvas.
        canvas_width: Likewise.
        num_pieces: Pieces of clutter on a canvas.
        piece_size: Side of a piece, pixels.
        num_targets: Images side by side, each on a canvas of its own, that are to be read from left to right.
        image_height: For ``folder`` alone: every image is scaled to this height, pixels.
        image_width: Likewise.
        channels: For ``folder`` alone: 1 for grey, 3 for colour.
        action_mode: ``declare``, ``joint``, ``box`` or ``location``; see the environment's action space.
        reward: ``terminal``, ``dense`` or ``improvement``. When left out: ``terminal``; in ``location`` mode
            ``improvement`` with a classifier, and nothing without one.
        glimpse_cost: What each glimpse costs.
        num_glimpses: The budget, the first glimpse included.
        glimpse_size: Side of a glimpse in pixels, the same at every scale.
        num_scales: Windows in a glimpse.
        zoom: How many times wider each window is than the one before it.
        grid_cells: Cells along each side of the grid of locations, in ``declare`` and ``joint`` mode.
        relative: Whether an action is a saccade from the present fixation, or the next fixation itself.
        largest_step: Of a saccade along each axis, in half images, where an action is one.
        first_location: ``centre`` or ``random``.
        classifier: For ``location`` mode alone: what judges the glimpses, such as the library's ``HardAttention``.

    Raises:
        TaskError: When an option is out of its range, or does not go with another.
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
    image_height: int = 64
    image_width: int = 64
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
        ):
            given = getattr(self, name)
            if not isinstance(given, Pictures) and given not in names:
                known = [str(choice) for choice in names if choice]
                hint = difflib.get_close_matches(str(given), known, 1)
                meant = f"; did you mean {hint[0]!r}?" if hint else "; choose one of them"
                raise TaskError(f"expected {name} out of {', '.join(known)}; got {given!r}{meant}")
        for name in (*_COUNTS, *_SIZES, "glimpse_cost", "largest_step"):
            kind, words = (
                (Real, "a number") if name in ("glimpse_cost", "largest_step") else (Integral, "a whole number")
            )
            if not isinstance(getattr(self, name), kind) or isinstance(getattr(self, name), bool):
                raise TaskError(f"expected {name} to be {words}, got {getattr(self, name)!r}")
        for name in ("relative", "download"):
            if not isinstance(getattr(self, name), bool):
                raise TaskError(f"expected {name} to be True or False, got {getattr(self, name)!r}")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise TaskError(f"expected {name} of at least 1, got {getattr(self, name)}; raise it")
        for name in (*_SIZES, "glimpse_cost"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TaskError(f"expected {name} of at least 0, got {getattr(self, name)}")
        if self.channels not in (1, 3):
            raise TaskError(f"expected channels to be 1 (grey) or 3 (colour), got {self.channels!r}")
        if self.largest_step != 1.0 and not self.relative:
            raise TaskError(
                f"expected largest_step with relative=True alone, got {self.largest_step} where an action is a "
                "location; leave it out, or give relative=True"
            )
        if not 0 < self.largest_step <= 2:
            raise TaskError(
                f"expected largest_step above 0 and up to 2, the image's width in half images, got {self.largest_step}"
            )
        self._check_together()

    def _check_together(self) -> None:
        if bool(self.canvas_height) != bool(self.canvas_width) or (self.num_pieces and not self.canvas_height):
            raise TaskError(
                "a canvas needs both its sides, and clutter needs a canvas; got "
                f"canvas_height={self.canvas_height}, canvas_width={self.canvas_width}, num_pieces={self.num_pieces}"
            )
        if self.num_targets > 1 and not self.canvas_height:
            raise TaskError(
                f"expected a canvas for each of num_targets={self.num_targets} images, got none; set canvas_height and "
                "canvas_width"
            )
        if isinstance(self.dataset, Pictures) and (self.canvas_height or self.num_targets > 1):
            raise TaskError("pictures of your own are shown as they are, with the targets that their labels have")
        if self.action_mode == "location":
            if self.num_glimpses < 2:
                raise TaskError(
                    f"expected num_glimpses of at least 2 in location mode, whose first one is not chosen, got "
                    f"{self.num_glimpses}; raise it"
                )
            if self.classifier is None and self.reward is not None:
                raise TaskError(
                    f"expected a classifier with reward={self.reward!r} in location mode, where the agent says nothing "
                    "that could be right; give a classifier, or leave the reward out"
                )
            if self.num_targets > 1 and self.classifier is not None:
                raise TaskError("a classifier judges one target an image, got num_targets above 1; leave it out")
        elif self.classifier is not None:
            raise TaskError(
                f"expected a classifier in location mode alone, got one with action_mode={self.action_mode!r}, where "
                "the agent itself says what it sees; leave it out"
            )
        elif self.reward == "improvement" and self.action_mode != "box":
            raise TaskError(
                "expected reward='improvement' where probabilities are told: in box mode, or in location mode with a "
                f"classifier; got action_mode={self.action_mode!r}; choose 'terminal' or 'dense'"
            )

    @classmethod
    def of(cls, **options: Any) -> "Task":
        """Make a task of options by name.

        Raises:
            TaskError: When there is no such option, or as above.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                meant = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(known)}"
                raise TaskError(f"an environment has no option {name!r}; {hint}")
        return cls(**options)

    def looking(self, device: torch.device | str = "cpu") -> ClassificationCore:
        """The core of an environment that is about this.

        Args:
            device: Where everything is.

        Raises:
            DataError: When the data are not there, or do not fit the canvas.
            TaskError: When the budget can't be shared out among the targets.
        """
        scenes = self.scenes(device)
        if self.action_mode in ("joint", "box") and self.num_glimpses % scenes.num_targets:
            raise TaskError(
                f"expected num_glimpses to be a multiple of the {scenes.num_targets} targets, each of which has its "
                f"share of a fixed budget, got {self.num_glimpses}; change it, or use action_mode='declare'"
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
        """The images; the same object for all environments that show the same ones, which share their memory.

        Args:
            device: Where they are.

        Raises:
            DataError: When the data are not there, or do not fit the canvas.
        """
        if isinstance(self.dataset, Pictures):
            return _pictures(self.dataset, str(device))
        folder = (self.image_height, self.image_width, self.channels) if self.dataset == FOLDER else None
        canvas = None
        if self.canvas_height:
            canvas = Canvas(self.canvas_height, self.canvas_width, self.num_pieces, self.piece_size)
        root = str(data_root(self.root))
        try:
            return _scenes(self.dataset, root, self.download, folder, self.split, canvas, self.num_targets, str(device))
        except ValueError as error:
            raise DataError(str(error).replace("--data.", "").replace("download true", "download=True")) from error


@lru_cache(maxsize=8)
def _pictures(pictures: Pictures, device: str) -> FixedScenes:
    return FixedScenes(pictures, device)


@lru_cache(maxsize=4)
def _source(dataset: str, root: str, download: bool, folder: tuple[int, int, int] | None) -> Source:
    if folder is not None:
        return image_folder(data_root(root), *folder)
    return SOURCES[dataset](root, download)


@lru_cache(maxsize=8)
def _scenes(
    dataset: str,
    root: str,
    download: bool,
    folder: tuple[int, int, int] | None,
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
    # What does not fit the canvas is found out now, not in the middle of a training.
    scenes.deal(torch.zeros(1, dtype=torch.long, device=device), torch.Generator(device))
    return scenes
