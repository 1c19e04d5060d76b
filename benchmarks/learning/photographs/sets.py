"""The three sets of photographs: where they lie, what is measured, what is known of them; and a made-up one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

NOTHING = ("none", "free")
"""Classes of images without an object."""
MADE_UP = 30
"""Images of each class of a made-up set."""


@dataclass(frozen=True)
class PhotoSet:
    """A set of photographs.

    Attributes:
        folder: Its folder.
        about: What it is, in words.
        classes: Some of its classes, of which a made-up set is made.
        side: Side of the images of a made-up set, pixels.
        balanced: Whether every class counts alike in the figure that is compared.
        small: The classes whose objects are small; empty where the images have no boxes.
        target: What is asked of the product, in words.
        augmentation: How the images of the rivals from scratch are changed in training, by the name of
            :data:`glimpse.data.augmentation.AUGMENTATIONS`. It follows from what the images are, never from a figure:
            what moves, turns and lightens an object as other photographs of it do is taken, what hides it is not.
        similar: Whether its groups are those of similar photographs (:mod:`benchmarks.learning.photographs.similar`),
            in place of the product's own.
        known: Figures that others have found, each with what makes it comparable or not.
    """

    folder: str
    about: str
    classes: tuple[str, ...]
    side: int
    balanced: bool
    small: tuple[str, ...]
    target: str
    known: tuple[str, ...]
    augmentation: str
    similar: bool = False

    @property
    def measure(self) -> str:
        """The figure that is compared, which is best when it is greatest."""
        return "balanced accuracy" if self.balanced else "accuracy"


SETS = {
    "boards": PhotoSet(
        "circuit-boards",
        "circuit boards of DeepPCB (Tang et al. 2019), 640x640, one small defect or none, held-out boards",
        ("none", "open", "spur"),
        224,
        False,
        ("copper", "mousebite", "open", "pin-hole", "short", "spur"),
        "accuracy at least 80 % (goal 93 %), at least 30 points ahead of the whole image at equal cost",
        (
            "linear probe on a frozen EfficientNet-Lite0, 150 training images a class: 18.2 % accuracy on the whole "
            "image at 224, 67.9 % on a window of 96 told where (same sets; another program)",
            "small convolutional network: 15.4 % on the whole image at 224 after 200 CPU-s, 96.2 % on a window of 64 "
            "told where after 150 (same sets; another program): told where, it is the bound of what looking can reach",
        ),
        augmentation="none",  # scans that lie on one grid: a turn blurs traces that are a pixel wide at 96x96
    ),
    "signs": PhotoSet(
        "traffic-signs",
        "German traffic signs (Stallkamp et al. 2012), 43 classes, held-out tracks",
        ("00", "01", "02"),
        40,
        False,
        (),
        "error at most 1.5 % (goal 1.0 %)",
        (
            "human 1.16 % error, committee of convolutional networks 0.54 %: of the official test set, which is not "
            "this one: not comparable",
            "small convolutional network 5.6 % error after 80 CPU-s, of images scaled to 32x32: not comparable",
        ),
        augmentation="strong",  # signs come in every light and size, in few tracks; no move takes one out of sight
    ),
    "tiles": PhotoSet(
        "magnetic-tiles",
        "magnetic tiles (Huang et al. 2018), five kinds of defects or none, grouped by near-duplicates",
        ("free", "blowhole", "crack"),
        224,
        True,
        ("blowhole", "crack"),
        "balanced accuracy at least 84 % (goal 88 %) at no more than 500 million multiply-accumulates",
        (
            "every tile was photographed some six times, and the product keeps its photographs in one part: 5 tiles "
            "have a fray, 10 a crack; the figures of the experiment are under looser groups (see tiles-similar)",
        ),
        augmentation="mild",  # few defects, at any place and angle; a strong move would push those at an edge out
    ),
    "tiles-similar": PhotoSet(
        "magnetic-tiles",
        "magnetic tiles (Huang et al. 2018), five kinds of defects or none, grouped by similar features",
        ("free", "blowhole", "crack"),
        224,
        True,
        ("blowhole", "crack"),
        "balanced accuracy at least 84 % (goal 88 %) at no more than 500 million multiply-accumulates",
        (
            "linear probe on a frozen EfficientNet-Lite0, whole image at 224: 77.2 % balanced accuracy; with two "
            "windows put on the defect 84 to 86 % (a third of the images without defect, about as many groups, "
            "cross-validated: comparable within some points)",
            "defect under one of 4 windows, all / small kinds: class map of that probe 83 / 77 %, random 47 / 28 %",
        ),
        augmentation="mild",  # as above
        similar=True,
    ),
}
"""By the names under which the command line knows them."""


def make_up(photos: PhotoSet, folder: Path) -> Path:
    """Draw a small set in the place of a real one: bright squares of a size of each class on noise, with their boxes.

    Args:
        photos: The set whose place it takes.
        folder: Where it is drawn.

    Returns:
        Its folder.
    """
    generator, side = np.random.default_rng(0), photos.side
    lines = ["path,left,top,right,bottom"]
    for label, name in enumerate(photos.classes):
        size = 6 * label + (0 if name in NOTHING else 6)
        for number in range(MADE_UP):
            pixels = generator.integers(0, 90, (side, side), dtype=np.uint8)
            left, top = generator.integers(0, side - size, 2)
            pixels[top : top + size, left : left + size] += 150
            part = "train" if number % 3 else "test"
            path = folder / photos.folder / part / name / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            if size:
                lines.append(f"{part}/{name}/{path.name},{left},{top},{left + size},{top + size}")
    if photos.small:
        (folder / photos.folder / "defects.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / photos.folder
