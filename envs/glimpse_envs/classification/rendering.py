"""Rendering of an episode as an image or as text: the image, the scanpath, the glimpses and the predictions."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from glimpse.drawing.layout import even_size
from glimpse.drawing.palette import BACKGROUND, RIGHT, TEXT, WRONG
from glimpse.drawing.retina import draw_retina
from glimpse.drawing.scanpath import draw_scanpath
from glimpse.drawing.text import draw_text
from glimpse.images.geometry import boxes, to_pixels
from glimpse_envs.classification.actions import Move
from glimpse_envs.classification.core import ClassificationCore, EpisodeState

SHADES = " .:-=+*#%@"
WIDEST_TEXT = 60
"""Largest width of an image in text, in characters."""
HEADING_HEIGHT, GAP = 52, 24
UNUSED_GREY = 0.14
"""Grey level in [0, 1] of the glimpses that have not been taken yet."""


class EpisodeRecorder:
    """Records one episode for rendering.

    Args:
        core: The core of the environment.
    """

    def __init__(self, core: ClassificationCore) -> None:
        self.core = core
        self.over = False
        # A line break in a name would look like the end of it, and an escape sequence would reach the terminal.
        self.class_names = tuple(
            "".join(letter if letter.isprintable() else " " for letter in name) for name in core.scenes.classes
        )

    def reset(self, state: EpisodeState, row: int = 0) -> None:
        """Discard the record and begin a new one.

        Args:
            state: The initial state of a batch of episodes.
            row: Row of the episode to record.
        """
        self.image: UInt8[np.ndarray, "height width channels"] = (
            self.core.images(state._replace(scene=state.scene[row : row + 1]))[0].permute(1, 2, 0).cpu().numpy()
        )
        self.target_names = [self.class_names[label] for label in state.labels[row].tolist()]
        self.locations: list[np.ndarray] = []
        self.glimpses: list[np.ndarray] = []
        self.predictions: list[str] = []
        self.over = False
        self._record_glimpse(state, row)

    def add(self, move: Move, state: EpisodeState, over: bool, row: int = 0) -> None:
        """Record a step.

        Args:
            move: The moves of all episodes.
            state: The state after the step.
            over: Whether this episode has ended.
            row: Row of this episode.
        """
        self.predictions[-1] = self._prediction(move, row) or self.predictions[-1]
        self.over = over
        if not over or self.core.actions.mode == "location":
            self._record_glimpse(state, row)

    def summary(self) -> tuple[str, bool | None]:
        """A one-line summary, and whether the answer is correct; None if there is no answer to judge."""
        count, budget = len(self.locations), self.core.rule.num_glimpses
        truth = " ".join(self.target_names)
        if not self.over:
            return f"glimpse {count} of {budget}", None
        named = [prediction.split("\n")[0] for prediction in self.predictions if prediction]
        if not named:
            location_only = self.core.actions.mode == "location"
            return f"{count} glimpse{'s' * (count > 1)} of {truth}; no answer", None if location_only else False
        answer = " ".join(
            named[-len(self.target_names) :]
            if self.core.actions.mode == "declare"
            else self._counted_predictions(named)
        )
        right = answer == truth
        return f"{answer}: {'correct' if right else f'wrong, it is {truth}'}, {count} of {budget} glimpses", right

    def _counted_predictions(self, named: Sequence[str]) -> list[str]:
        """The answers that count: the last one of each target's part of the budget."""
        glimpses_per_target = self.core.rule.num_glimpses // len(self.target_names)
        return list(named[glimpses_per_target - 1 :: glimpses_per_target])

    def _record_glimpse(self, state: EpisodeState, row: int) -> None:
        observation = self.core.observe(
            EpisodeState(
                state.scene[row : row + 1],
                state.labels[row : row + 1],
                state.location[row : row + 1],
                state.glimpses_taken[row : row + 1],
            )
        )
        self.locations.append(observation.location[0].cpu().numpy().copy())
        self.glimpses.append(observation.glimpse[0].cpu().numpy())
        self.predictions.append("" if state.logits is None else self._top_class(state.logits[row].softmax(0)))

    def _prediction(self, move: Move, row: int) -> str:
        if move.answer is None or int(move.answer[row]) == self.core.num_classes:
            return ""
        if move.log_probability is not None:
            return self._top_class(move.log_probability[row].exp())
        return self.class_names[int(move.answer[row])]

    def _top_class(self, probabilities: Float[Tensor, " classes"]) -> str:
        best = int(probabilities.argmax())
        return f"{self.class_names[best]}\n{float(probabilities[best]):.0%}"


def draw_episode(recorder: EpisodeRecorder) -> Image.Image:
    """Draw an episode. All images of one environment have the same size, and even sides, as video writers need them.

    Args:
        recorder: The record of the episode.
    """
    retina, budget = recorder.core.retina, recorder.core.rule.num_glimpses
    height, width = recorder.image.shape[:2]
    locations = np.stack(recorder.locations)
    nested = boxes(locations, height, width, retina.size, retina.num_scales, retina.zoom)
    windows = np.stack([np.stack(box, axis=-1) for box in nested], axis=1)
    scanpath = draw_scanpath(recorder.image, windows, locations, budget)
    unused = np.full_like(recorder.glimpses[0], UNUSED_GREY)
    glimpses = np.stack([*recorder.glimpses, *[unused] * (budget - len(recorder.glimpses))])
    predictions = [*recorder.predictions, *[""] * (budget - len(recorder.predictions))]
    captions = [prediction if "\n" in prediction else f"{prediction}\n" for prediction in predictions]
    columns = min(budget, 4)
    rows = -(-budget // columns)
    cell = max(32, min(110, (scanpath.height - rows * 70) // (rows * retina.num_scales) - 4))
    widths = [retina.size * retina.zoom**scale for scale in range(retina.num_scales)]
    retina_view = draw_retina(glimpses, captions, widths, columns, cell)
    size = even_size(
        (
            scanpath.width + retina_view.width + 3 * GAP,
            max(scanpath.height, retina_view.height) + HEADING_HEIGHT + GAP,
        )
    )
    drawn = Image.new("RGB", size, BACKGROUND)
    drawn.paste(scanpath, (GAP, HEADING_HEIGHT + (size[1] - HEADING_HEIGHT - GAP - scanpath.height) // 2))
    drawn.paste(
        retina_view,
        (scanpath.width + 2 * GAP, HEADING_HEIGHT + (size[1] - HEADING_HEIGHT - GAP - retina_view.height) // 2),
    )
    text, correct = recorder.summary()
    colour = TEXT if correct is None else RIGHT if correct else WRONG
    draw_text(ImageDraw.Draw(drawn), (GAP, HEADING_HEIGHT // 2), text, 24, size[0] - 2 * GAP, colour, "lm")
    return drawn


def write_episode(recorder: EpisodeRecorder) -> str:
    """Write an episode as text: the image with numbered fixations, and the latest glimpse at each scale.

    Args:
        recorder: The record of the episode.
    """
    height, width = recorder.image.shape[:2]
    columns = min(width, WIDEST_TEXT)
    rows = max(1, round(columns * height / width / 2))
    lines = [list(line) for line in shade_as_text(recorder.image, rows, columns)]
    for number, location in enumerate(recorder.locations, start=1):
        x = min(columns - 1, int(to_pixels(float(location[0]), columns)))
        y = min(rows - 1, int(to_pixels(float(location[1]), rows)))
        lines[y][x] = str(number % 10)
    last = (np.clip(recorder.glimpses[-1], 0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    size = recorder.core.retina.size
    scales = [shade_as_text(scale, size, 2 * size) for scale in last]
    x, y = recorder.locations[-1]
    summary, _ = recorder.summary()
    predictions = "; ".join(
        f"{number}: {text}"
        for number, text in enumerate((text.replace("\n", " ") for text in recorder.predictions), start=1)
        if text
    )
    return "\n".join(
        [
            summary,
            "+" + "-" * columns + "+",
            *("|" + "".join(line) + "|" for line in lines),
            "+" + "-" * columns + "+",
            f"glimpse at ({x:+.2f}, {y:+.2f}), finest scale first:",
            *("  ".join(parts) for parts in zip(*scales, strict=True)),
            f"predictions: {predictions or 'none yet'}",
            "",
        ]
    )


def shade_as_text(image: UInt8[np.ndarray, "height width channels"], rows: int, columns: int) -> list[str]:
    """Write an image as lines of characters, from ``SHADES``: a blank for black, ``@`` for white.

    Args:
        image: Grey or RGB, 0 to 255.
        rows: Number of lines.
        columns: Characters in a line.
    """
    grey = Image.fromarray(image.mean(axis=2).astype(np.uint8)).resize((columns, rows), Image.Resampling.BILINEAR)
    shade = np.asarray(grey).astype(int) * len(SHADES) // 256
    return ["".join(SHADES[value] for value in line) for line in shade]
