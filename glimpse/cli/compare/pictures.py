"""The maps of several models side by side on the same images: which images, which maps, and their pictures."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from glimpse.cli.compare.report import CURVES, LEGEND, PICTURES, Comparison, ImageAnswer, panel_file
from glimpse.data.datamodule import ImageData
from glimpse.drawing.album import save_picture
from glimpse.drawing.charts import draw_learning_curves
from glimpse.drawing.heatmap import draw_map, legend
from glimpse.drawing.palette import time_colours
from glimpse.drawing.text import to_picture
from glimpse.evaluation.maps import explicit_maps, implicit_maps
from glimpse.images.geometry import to_pixels
from glimpse.models.observer import Observer

PANEL = 288
"""Long side of a map's picture, pixels; the page shows it smaller."""


class ModelView(NamedTuple):
    """A test image, with the answers and the maps of all models."""

    answer: ImageAnswer
    image: UInt8[np.ndarray, "height width channels"]
    explicit: list[Float[np.ndarray, "height width"] | None]
    """Each model's explicit map; None for a model without one."""
    implicit: list[Float[np.ndarray, "height width"]]
    scanpaths: list[Float[np.ndarray, "time 2"] | None]
    """Each model's fixations, (x, y) in [-1, 1]; None for a model that chooses no places."""


class SideBySide(NamedTuple):
    """The answers and the maps of all models for the test images that are shown."""

    views: list[ModelView]
    disputed: float
    """Share of the first block of test images on which the models' answers differ, in [0, 1]."""


def classify_images(observers: Sequence[Observer], data: ImageData, count: int) -> SideBySide:
    """Classify the same test images with all models: the first ones, and the first ones that they disagree on.

    Half of the images are the first of the test set, the others the first after them that don't get one answer from
    all models, out of the first block of test images. Where there are too few of these, more of the first ones follow.

    Args:
        observers: The models.
        data: Where the test images come from.
        count: How many images, at least 1.
    """
    images, labels = data.test_dataloader().dataset[0]
    with torch.no_grad():
        beliefs = torch.stack([observer(images.to(observer.device)).logits[:, -1].cpu() for observer in observers])
    probabilities, answers = beliefs.float().softmax(2).max(2)
    differ = (answers != answers[0]).any(0)
    places = choose_images(differ.tolist(), count)
    shown = images[places]
    height, width = shown.shape[2:]
    explicit, implicit, scanpaths = [], [], []
    for observer, answer in zip(observers, answers, strict=True):
        pixels = shown.to(observer.device)
        with torch.no_grad():
            trace = observer(pixels)
        implicit.append(implicit_maps(observer, pixels, answer[places].to(observer.device)).cpu().numpy())
        maps = explicit_maps(observer, trace, height, width)
        explicit.append(maps if maps is None else maps.cpu().numpy())
        scanpaths.append(trace.locations.cpu().numpy() if observer.chooses else None)
    views = [
        ModelView(
            ImageAnswer(
                place=place,
                truth=data.classes[int(labels[place])],
                answers=[data.classes[int(answer)] for answer in answers[:, place]],
                confidences=[round(float(belief), 4) for belief in probabilities[:, place]],
                disputed=bool(differ[place]),
            ),
            shown[number].permute(1, 2, 0).numpy(),
            [None if maps is None else maps[number] for maps in explicit],
            [maps[number] for maps in implicit],
            [None if paths is None else paths[number] for paths in scanpaths],
        )
        for number, place in enumerate(places)
    ]
    return SideBySide(views, float(differ.float().mean()))


def choose_images(differ: Sequence[bool], count: int) -> list[int]:
    """Places of the images that are shown, in order: the first half of them the first, then the first disputed ones.

    Args:
        differ: For each image, whether the models' answers differ.
        count: How many are wanted.
    """
    first = list(range(min(-(-count // 2), len(differ))))
    rest = range(len(first), len(differ))
    disputed = [place for place in rest if differ[place]][: count - len(first)]
    others = [place for place in rest if place not in disputed][: count - len(first) - len(disputed)]
    return sorted(first + disputed + others)


def draw_pictures(comparison: Comparison, views: Sequence[ModelView], folder: Path) -> None:
    """Draw every panel, the legend and the learning curves; older pictures of the folder are removed.

    Args:
        comparison: The results.
        views: The images that are shown, with all maps.
        folder: Gets ``pictures/``.
    """
    pictures = folder / PICTURES
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("*.png"):
        old.unlink()
    for row, view in enumerate(views, start=1):
        size = _panel_size(view.image)
        shown = to_picture(view.image).resize(size, Image.Resampling.NEAREST)
        save_picture(shown, pictures / panel_file("image", row))
        for column, implicit in enumerate(view.implicit, start=1):
            save_picture(draw_map(view.image, implicit, size), pictures / panel_file("implicit", row, column))
            explicit, path = view.explicit[column - 1], view.scanpaths[column - 1]
            if explicit is not None:
                panel = draw_map(view.image, explicit, size)
                if path is not None:
                    draw_path(panel, path)
                save_picture(panel, pictures / panel_file("explicit", row, column))
    save_picture(legend(640), pictures / LEGEND)
    if curves := _curves(comparison):
        epochs = range(1, 1 + max(len(errors) for errors in curves.values()))
        panels = {"validation error, %": {name: _padded(errors, len(epochs)) for name, errors in curves.items()}}
        save_picture(draw_learning_curves(epochs, panels), pictures / CURVES)


def draw_path(panel: Image.Image, locations: Float[np.ndarray, "time 2"]) -> None:
    """Draw a scanpath onto a picture: a line between fixations, each a dot, the first one blue, the last one amber.

    Args:
        panel: The picture, which is changed.
        locations: Fixations, (x, y) in [-1, 1].
    """
    points = [tuple(map(float, point)) for point in to_pixels(locations.astype(np.float64), np.array(panel.size))]
    draw = ImageDraw.Draw(panel)
    draw.line(points, fill=(255, 255, 255), width=2, joint="curve")
    for point, colour in zip(points, time_colours(len(points)), strict=True):
        draw.circle(point, 6, fill=tuple(colour.tolist()), outline=(16, 16, 20), width=2)


def _panel_size(image: UInt8[np.ndarray, "height width channels"]) -> tuple[int, int]:
    height, width = image.shape[:2]
    scale = PANEL / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _curves(comparison: Comparison) -> dict[str, list[float]]:
    """Validation errors of each model, in per cent, from the first epoch on; models without a log are left out."""
    curves = {}
    for entry in comparison.entries:
        measured = {epoch: 100 * error for epoch, error in entry.validation_errors}
        if any(math.isfinite(error) for error in measured.values()):
            curves[entry.name] = [measured.get(epoch, math.nan) for epoch in range(1, max(measured) + 1)]
    return curves


def _padded(values: list[float], length: int) -> list[float]:
    return values + [math.nan] * (length - len(values))
