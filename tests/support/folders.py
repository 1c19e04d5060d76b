"""Folders of images to read, and what was read of them."""

from pathlib import Path
from typing import Any

from PIL import Image

from glimpse.data.datasets import Source, Split
from glimpse.data.folder import image_folder, labelled_files


def write(path: Path, value: int, size: tuple[int, int] = (8, 6), **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path, **options)


def flat(root: Path, numbers: range = range(40), classes: tuple[str, ...] = ("ant", "bee")) -> Path:
    """ROOT/CLASS/image, each image filled with a value of its own."""
    for label, name in enumerate(classes):
        for number in numbers:
            write(root / name / f"{number:04}.png", 1 + number + 100 * label)
    return root


def read_folder(
    root: Path, height: int | None, width: int | None, channels: int, labels: str | None = None, **options: Any
) -> Source:
    return image_folder(labelled_files(root, labels), height, width, channels, **options)


def values(part: Split) -> set[tuple[int, int]]:
    return {(int(label), int(image.max())) for image, label in zip(part.images, part.labels, strict=True)}


def parts_of(source: Source) -> tuple[Split, Split, Split]:
    return source.train, source.validation, source.test
