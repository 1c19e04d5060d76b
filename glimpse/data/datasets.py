"""The data sets: the embedded digits, torchvision's data sets, a user's own folders.

Every source gives three parts, *train*, *validation* and *test*, of uint8 images that live in memory. No original image
is in two of them. Validation images are there for choosing anything; test images only for the final figure.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from glimpse.errors import Argument, ArgumentError, Clause, Setting

DATA_VARIABLE = "GLIMPSE_DATA"
SPLIT_SEED = 20140624
"""Fixes which images are held out; the day on which the paper reached arXiv."""
VALIDATION_SHARE = 0.05


class DataError(ArgumentError):
    """Data that is not there, or is not what was expected."""


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Attributes:
        images: Pixels in [0, 255].
        labels: Class numbers.
        boxes: Where objects are, (left, top, right, bottom) in fractions of the image, in [0, 1]; rows without a box
            are NaN. None when nothing is known of them.
    """

    images: UInt8[Tensor, "images channels height width"]
    labels: Int64[Tensor, " images"]
    boxes: Float[Tensor, "images most 4"] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: Int64[Tensor, " chosen"]) -> "Split":
        """The part's images at the given places."""
        return Split(self.images[places], self.labels[places], None if self.boxes is None else self.boxes[places])


@dataclass(frozen=True)
class Source:
    """A data set in its three parts.

    Attributes:
        train: For fitting.
        validation: For choosing.
        test: For the final figure.
        classes: Class names, in the order of the labels.
        notes: What a user should know of how it was read, each a sentence without a full stop.
        page: The same with a table of counts, in Markdown; empty where nothing is to be said.
    """

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    page: str = ""


def data_root(root: str | None) -> Path:
    """Where data sets lie: the option if given, else the environment variable ``GLIMPSE_DATA``, else ``./data``."""
    return Path(root or os.environ.get(DATA_VARIABLE) or "data").expanduser()


def embedded_digits(root: str | None, download: bool) -> Source:
    """Scikit-learn's 1,797 real handwritten digits, enlarged from 8x8 to 24x24 pixels; no network, no files.

    They are part of the UCI data set "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998). The
    split, 1,097 for training, 200 for validation and 500 for the test, is fixed.

    Args:
        root: Not needed.
        download: Not needed.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.from_numpy(np.asarray(digits.images, dtype=np.float32)).unsqueeze(1) * (255 / 16)
    large = functional.interpolate(small, scale_factor=3, mode="bicubic", align_corners=False)
    whole = Split(large.round().clamp(0, 255).to(torch.uint8), torch.from_numpy(np.asarray(digits.target)).long())
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(SPLIT_SEED))
    return Source(
        train=whole.take(order[700:]),
        validation=whole.take(order[500:700]),
        test=whole.take(order[:500]),
        classes=tuple("0123456789"),
    )


def torchvision_source(name: str, split_argument: bool = False) -> Callable[[str | None, bool], Source]:
    """Make a loader for one of torchvision's data sets.

    Args:
        name: The class in ``torchvision.datasets``.
        split_argument: Whether the class takes ``split="train"`` where others take ``train=True``.
    """

    def load(root: str | None, download: bool) -> Source:
        from torchvision import datasets

        place = data_root(root)
        parts = []
        for train in (True, False):
            chosen = {"split": "train" if train else "test"} if split_argument else {"train": train}
            try:
                parts.append(getattr(datasets, name)(str(place), download=download, **chosen))
            except (RuntimeError, OSError) as error:
                if download:
                    reason = " ".join(str(error).split())
                    raise DataError(
                        f"expected to download {name} into {place}, got: {reason}; check the network, or put the files "
                        "there by hand"
                    ) from error
                raise DataError(
                    f"expected {name} under {place}, found no complete copy of it; give its folder with ",
                    Argument("root"),
                    f" or {DATA_VARIABLE}",
                    Clause(", or have it downloaded with ", Setting("download", True)),
                ) from error
        fitting, test = (_part(part) for part in parts)
        order = torch.randperm(len(fitting), generator=torch.Generator().manual_seed(SPLIT_SEED))
        held_out = round(len(fitting) * VALIDATION_SHARE)
        classes = getattr(parts[0], "classes", None) or [str(number) for number in range(10)]
        return Source(
            train=fitting.take(order[held_out:]),
            validation=fitting.take(order[:held_out]),
            test=test,
            classes=tuple(name.split(" - ")[0] for name in classes),
        )

    return load


def _part(dataset: object) -> Split:
    """Images and labels of one of torchvision's data sets, whatever it calls and lays them."""
    images = torch.as_tensor(np.asarray(dataset.data))  # type: ignore[attr-defined]
    labels = torch.as_tensor(np.asarray(getattr(dataset, "targets", getattr(dataset, "labels", None))))
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[3] in (1, 3):
        images = images.permute(0, 3, 1, 2)
    return Split(images.contiguous(), labels.long())


SOURCES: dict[str, Callable[[str | None, bool], Source]] = {
    "digits": embedded_digits,
    "mnist": torchvision_source("MNIST"),
    "fashion-mnist": torchvision_source("FashionMNIST"),
    "cifar10": torchvision_source("CIFAR10"),
    "svhn": torchvision_source("SVHN", split_argument=True),
}
"""How each data set that has images of one shape is read, from its root and whether it may be downloaded."""
FOLDER = "folder"
"""The data set that is a folder of the user's own images; see :mod:`glimpse.data.folder`."""
DATASETS = (*SOURCES, FOLDER)
"""The names of all data sets."""
