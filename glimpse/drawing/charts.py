"""Charts of how a model learned and how it compares, from plain arrays.

They are drawn with matplotlib, which is imported only when a chart is drawn.
"""

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Int
from PIL import Image

from glimpse.drawing.palette import BACKGROUND, MUTED, OUTSIDE, RIGHT, TEXT, WRONG

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = Sequence[float] | Sequence[int] | npt.NDArray[Any]

_LINES = ("#ffbc4c", "#40beff", "#ff5c94", "#8e7cff", "#4ac97e", "#c8cdd6")
"""The lines of a chart, the one that matters first."""


def draw_learning_curves(
    epochs: Numbers, panels: Mapping[str, Mapping[str, Numbers]], measured_in: str = "epoch"
) -> Image.Image:
    """Draw how quantities changed over training, one panel each, side by side.

    Args:
        epochs: When the values were measured.
        panels: A title, and below it each line's name and its values, one for each epoch; NaN where none was measured.
        measured_in: What the epochs are, where they are something else.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(len(panels), 4.4, 3.4)
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for colour, (name, values) in zip(itertools.cycle(_LINES), curves.items(), strict=False):
            x, y = np.asarray(epochs, float), np.asarray(values, float)
            known = np.isfinite(y)
            axis.plot(x[known], y[known], color=colour, label=name, linewidth=2, marker="o", markersize=3)
        axis.set_title(title)
        axis.set_xlabel(measured_in)
        axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        if len(curves) > 1:
            axis.legend()
    return _render(figure)


def draw_baselines(errors: Mapping[str, Numbers]) -> Image.Image:
    """Draw the same weights' error after each glimpse under several ways to choose fixations.

    Args:
        errors: For each way, its share of wrong predictions after each glimpse, in [0, 1]. The first way is the model's
            own policy, and its line is thicker.
    """
    from matplotlib.ticker import MaxNLocator

    figure, (axis,) = _figure(1, 6.4, 4.0)
    for index, (colour, (name, values)) in enumerate(zip(itertools.cycle(_LINES), errors.items(), strict=False)):
        y = 100 * np.asarray(values, float)
        style: dict[str, Any] = {"linewidth": 3, "markersize": 6, "zorder": 3} if index == 0 else {"markersize": 4}
        axis.plot(np.arange(1, len(y) + 1), y, color=colour, label=f"{name}  {y[-1]:.1f}%", marker="o", **style)
    axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axis.set_ylim(bottom=0)
    axis.set_xlabel("glimpses")
    axis.set_ylabel("test error (%)")
    axis.legend(title="fixations by")
    return _render(figure)


def draw_confusion(matrix: Int[np.ndarray, "classes classes"], classes: Sequence[str]) -> Image.Image:
    """Draw a confusion matrix: right predictions in green, wrong ones in red on a scale of their own.

    Args:
        matrix: Counts of images; a row for each true class, a column for each predicted class.
        classes: Class names, in the matrix's order.
    """
    count = len(classes)
    side = min(12.0, max(4.0, 0.5 * count + 1.6))
    figure, (axis,) = _figure(1, side, side)
    wrong = matrix * (1 - np.eye(count, dtype=int))
    share = matrix.diagonal() / np.maximum(matrix.sum(axis=1), 1)
    strength = np.sqrt(wrong / max(wrong.max(initial=0), 1))[..., None]
    colours = np.array(OUTSIDE) * (1 - strength) + np.array(WRONG) * strength
    for index in range(count):
        colours[index, index] = np.array(OUTSIDE) * (1 - 0.8 * share[index]) + np.array(RIGHT) * 0.8 * share[index]
    axis.imshow(colours.round().astype(np.uint8))
    for row, column in np.argwhere(matrix) if count <= 25 else ():
        axis.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=9, color=_hex(TEXT))
    turned = max(map(len, classes)) > 3
    axis.set_xticks(range(count), classes, rotation=60 if turned else 0, ha="right" if turned else "center")
    axis.set_yticks(range(count), classes)
    axis.set_xlabel("answer")
    axis.set_ylabel("true class")
    axis.grid(visible=False)
    right, total = int(matrix.trace()), int(matrix.sum())
    axis.set_title(f"{total - right} of {total} wrong ({(total - right) / max(total, 1):.1%})")
    return _render(figure)


def _hex(colour: Any) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(int(channel) for channel in colour))


def _figure(panels: int, width: float, height: float) -> tuple["Figure", list["Axes"]]:
    """Make a dark figure with some panels side by side, apart from pyplot and its global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels, height), dpi=130, facecolor=_hex(BACKGROUND))
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    axes: list[Axes] = list(figure.subplots(1, panels, squeeze=False)[0])
    for axis in axes:
        axis.set_facecolor(_hex(BACKGROUND))
        axis.grid(color=_hex(OUTSIDE), linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(colors=_hex(MUTED), length=0, labelsize=9)
        axis.spines[:].set_visible(False)
        for text in (axis.title, axis.xaxis.label, axis.yaxis.label):
            text.set_color(_hex(TEXT))
    return figure, axes


def _render(figure: "Figure") -> Image.Image:
    for axis in figure.axes:
        if legend := axis.get_legend():
            legend.set_frame_on(False)
            for text in (legend.get_title(), *legend.get_texts()):
                text.set_color(_hex(TEXT))
                text.set_fontsize(9)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return Image.open(stream).convert("RGB")
