"""Pictures and texts of an episode: the image, the windows, the path, what the retina saw, and what was said of it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from glimpse.drawing.palette import BACKGROUND, RIGHT, TEXT, WRONG
from glimpse.drawing.retina import draw_retina
from glimpse.drawing.scanpath import draw_scanpath
from glimpse.drawing.text import draw_text
from glimpse.images.geometry import boxes, to_pixels
from glimpse_envs.classification.actions import Move
from glimpse_envs.classification.core import ClassificationCore, State

SHADES = " .:-=+*#%@"
WIDEST_TEXT = 60
"""Letters that an image is wide at the most, as text."""
HEADING, GAP = 52, 24
UNSEEN = 0.14
"""Grey of the windows of glimpses that are still to come."""


class EpisodeRecorder:
    """What has happened in one episode so far.

    Args:
        looking: The core of the environment.
    """

    def __init__(self, looking: ClassificationCore) -> None:
        self.looking = looking
        self.over = False

    def begin(self, state: State, row: int = 0) -> None:
        """Begin anew.

        Args:
            state: The episodes.
            row: Which one of them.
        """
        self.image: UInt8[np.ndarray, "height width channels"] = (
            self.looking.images(state._replace(scene=state.scene[row : row + 1]))[0].permute(1, 2, 0).cpu().numpy()
        )
        self.truth = [self.looking.scenes.classes[label] for label in state.labels[row].tolist()]
        self.locations: list[np.ndarray] = []
        self.glimpses: list[np.ndarray] = []
        self.said: list[str] = []
        self.over = False
        self._see(state, row)

    def add(self, move: Move, state: State, over: bool, row: int = 0) -> None:
        """Note an action and what it led to.

        Args:
            move: What was done, in every episode.
            state: The episodes after it.
            over: Whether this one has ended.
            row: Which one of them.
        """
        self.said[-1] = self._words(move, row) or self.said[-1]
        self.over = over
        if not over or self.looking.actions.mode == "location":
            self._see(state, row)

    def verdict(self) -> tuple[str, bool | None]:
        """How the episode stands, in words, and whether it ended well; None while it goes on, or nobody could tell."""
        taken, budget = len(self.locations), self.looking.rule.num_glimpses
        truth = " ".join(self.truth)
        if not self.over:
            return f"glimpse {taken} of {budget}", None
        told = [said.split("\n")[0] for said in self.said if said]
        if not told:
            outside = self.looking.actions.mode == "location"
            return f"looked {taken} time{'s' * (taken > 1)} at {truth}; nothing was said", None if outside else False
        answer = " ".join(told[-len(self.truth) :] if self.looking.actions.mode == "declare" else self._final(told))
        right = answer == truth
        return f"{answer}: {'correct' if right else f'wrong, it is {truth}'}, {taken} of {budget} glimpses", right

    def _final(self, told: Sequence[str]) -> list[str]:
        """The answers that count, one for each target's share of the budget."""
        patience = self.looking.rule.num_glimpses // len(self.truth)
        return list(told[patience - 1 :: patience])

    def _see(self, state: State, row: int) -> None:
        seen = self.looking.observe(
            State(
                state.scene[row : row + 1],
                state.labels[row : row + 1],
                state.location[row : row + 1],
                state.taken[row : row + 1],
            )
        )
        self.locations.append(seen.location[0].cpu().numpy().copy())
        self.glimpses.append(seen.glimpse[0].cpu().numpy())
        self.said.append("" if state.verdict is None else self._classified(state.verdict[row].softmax(0)))

    def _words(self, move: Move, row: int) -> str:
        if move.answer is None or int(move.answer[row]) == self.looking.num_classes:
            return ""
        if move.log_probability is not None:
            return self._classified(move.log_probability[row].exp())
        return self.looking.scenes.classes[int(move.answer[row])]

    def _classified(self, probabilities: Float[Tensor, " classes"]) -> str:
        best = int(probabilities.argmax())
        return f"{self.looking.scenes.classes[best]}\n{float(probabilities[best]):.0%}"


def picture(course: EpisodeRecorder) -> Image.Image:
    """Draw an episode; pictures of one environment have the same size at all times.

    Args:
        course: What has happened.
    """
    retina, budget = course.looking.retina, course.looking.rule.num_glimpses
    height, width = course.image.shape[:2]
    locations = np.stack(course.locations)
    nested = boxes(locations, height, width, retina.size, retina.num_scales, retina.zoom)
    windows = np.stack([np.stack(box, axis=-1) for box in nested], axis=1)
    path = draw_scanpath(course.image, windows, locations, budget)
    unseen = np.full_like(course.glimpses[0], UNSEEN)
    seen = np.stack([*course.glimpses, *[unseen] * (budget - len(course.glimpses))])
    captions = [said or "\n" for said in course.said] + ["\n"] * (budget - len(course.said))
    columns = min(budget, 4)
    rows = -(-budget // columns)
    cell = max(32, min(110, (path.height - rows * 70) // (rows * retina.num_scales) - 4))
    widths = [retina.size * retina.zoom**scale for scale in range(retina.num_scales)]
    told = draw_retina(seen, captions, widths, columns, cell)
    size = (path.width + told.width + 3 * GAP, max(path.height, told.height) + HEADING + GAP)
    drawn = Image.new("RGB", size, BACKGROUND)
    drawn.paste(path, (GAP, HEADING + (size[1] - HEADING - GAP - path.height) // 2))
    drawn.paste(told, (path.width + 2 * GAP, HEADING + (size[1] - HEADING - GAP - told.height) // 2))
    words, right = course.verdict()
    colour = TEXT if right is None else RIGHT if right else WRONG
    draw_text(ImageDraw.Draw(drawn), (GAP, HEADING // 2), words, 24, size[0] - 2 * GAP, colour, "lm")
    return drawn


def ansi(course: EpisodeRecorder) -> str:
    """Write an episode as text: the image with numbered fixations, and what the retina sees now, scale by scale.

    Args:
        course: What has happened.
    """
    height, width = course.image.shape[:2]
    columns = min(width, WIDEST_TEXT)
    rows = max(1, round(columns * height / width / 2))
    lines = [list(line) for line in letters(course.image, rows, columns)]
    for number, location in enumerate(course.locations, start=1):
        x = min(columns - 1, int(to_pixels(float(location[0]), columns)))
        y = min(rows - 1, int(to_pixels(float(location[1]), rows)))
        lines[y][x] = str(number % 10)
    last = (np.clip(course.glimpses[-1], 0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    size = course.looking.retina.size
    scales = [letters(scale, size, 2 * size) for scale in last]
    x, y = course.locations[-1]
    words, _ = course.verdict()
    said = "; ".join(
        f"{number}: {text}"
        for number, text in enumerate((said.replace("\n", " ") for said in course.said), start=1)
        if text
    )
    return "\n".join(
        [
            words,
            "+" + "-" * columns + "+",
            *("|" + "".join(line) + "|" for line in lines),
            "+" + "-" * columns + "+",
            f"seen at ({x:+.2f}, {y:+.2f}), finest scale first:",
            *("  ".join(parts) for parts in zip(*scales, strict=True)),
            f"said: {said or 'nothing yet'}",
            "",
        ]
    )


def letters(image: UInt8[np.ndarray, "height width channels"], rows: int, columns: int) -> list[str]:
    """An image as lines of letters, a darker one for a darker place.

    Args:
        image: Grey or RGB, 0 to 255.
        rows: Lines.
        columns: Letters in a line.
    """
    grey = Image.fromarray(image.mean(axis=2).astype(np.uint8)).resize((columns, rows), Image.Resampling.BILINEAR)
    shade = np.asarray(grey).astype(int) * len(SHADES) // 256
    return ["".join(SHADES[value] for value in line) for line in shade]
