"""The game: a person classifies images through a retina, with the glimpse budget and the reward of an environment.

It uses the core of the classification environments in ``declare`` mode: each move takes a glimpse at any location, or
names the class, which ends the episode. The full image is not available to the front ends before the answer.
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from jaxtyping import UInt8

from glimpse.data.held_out import generator_for
from glimpse.drawing.view import View
from glimpse.images.geometry import boxes
from glimpse_envs.classification.actions import Move
from glimpse_envs.classification.core import ClassificationCore
from glimpse_envs.play.mosaic import PlacedGlimpse, RevealedImage, reveal
from glimpse_envs.play.opponent import Opponent
from glimpse_envs.play.record import GameRecord, ImageRecord

Clock = Callable[[], float]
"""A monotonic clock; returns seconds from an arbitrary start."""


class GameError(ValueError):
    """A move that is not allowed, or a game that cannot be played."""


def image_order(count: int, seed: int) -> list[int]:
    """Indices of all images in the order of the game, a random permutation.

    Args:
        count: Number of images.
        seed: Seeds the permutation; not negative.
    """
    indices: list[int] = torch.randperm(count, generator=generator_for("cpu", seed)).tolist()
    return indices


def next_images(count: int, seed: int, played: Collection[int], wanted: int) -> list[int]:
    """Indices of the next images that have not been played.

    Args:
        count: Number of images.
        seed: Seeds their order; not negative.
        played: Indices of the images that have been played.
        wanted: Largest number of images to return.

    Raises:
        GameError: When all images have been played.
    """
    left = [image for image in image_order(count, seed) if image not in played]
    if not left:
        raise GameError(
            f"expected an image that has not been played yet, but all {count} of this split have; "
            "name another file with --output"
        )
    return left[:wanted]


class Round:
    """One image, from its first glimpse to the answer.

    Args:
        core: The core of an environment in ``declare`` mode, of images with one class each.
        image: Index of the image in the split.
        seed: Seeds, together with the index, a drawn canvas and a random first fixation.
        clock: A monotonic clock.
    """

    def __init__(self, core: ClassificationCore, image: int, seed: int, clock: Clock) -> None:
        self.image = image
        self.core = core
        self.height, self.width = core.scenes.image_shape[1:]
        self.glimpses: list[PlacedGlimpse] = []
        self.reward = 0.0
        self.answer: int | None = None
        self.correct = False
        self.answered = 0.0
        self._clock = clock
        self._state = core.reset(1, generator_for("cpu", seed, image), torch.tensor([image]))
        self._began = clock()
        self._take_glimpse()

    @property
    def glimpses_taken(self) -> int:
        """Number of glimpses that have been taken."""
        return len(self.glimpses)

    @property
    def glimpses_left(self) -> int:
        """Number of glimpses that are left."""
        return self.core.rule.num_glimpses - self.glimpses_taken

    @property
    def over(self) -> bool:
        """Whether the answer has been given."""
        return self.answer is not None

    @property
    def label(self) -> int:
        """The true class.

        Raises:
            GameError: Before the answer.
        """
        self._check_over()
        return int(self._state.labels[0, 0])

    def restart_clock(self) -> None:
        """Restart the clock when the image is displayed; has no effect after the first move."""
        if self.glimpses_taken == 1 and not self.over:
            self._began = self._clock()

    def revealed(self) -> RevealedImage:
        """The parts of the image that the glimpses have revealed."""
        return reveal(self.glimpses, self.height, self.width)

    def full_image(self) -> UInt8[np.ndarray, "height width channels"]:
        """The full image.

        Raises:
            GameError: Before the answer.
        """
        self._check_over()
        image: UInt8[np.ndarray, "height width channels"] = (
            self.core.images(self._state)[0].permute(1, 2, 0).cpu().numpy()
        )
        return image

    def look(self, location: tuple[float, float]) -> PlacedGlimpse:
        """Take a glimpse.

        Args:
            location: The fixation, (x, y) in [-1, 1].

        Raises:
            GameError: After the answer, when the budget has been used, or when the location is outside the image.
        """
        if self.over:
            raise GameError("expected no more glimpses after the answer; go on to the next image")
        if self.core.rule.terminated(self.glimpses_taken):
            raise GameError(f"all {self.glimpses_taken} glimpses are taken; answer with one of the classes")
        if not all(-1 <= part <= 1 for part in location):
            raise GameError(f"expected a place on the image, (x, y) in [-1, 1], got {location}; look at the image")
        self._move(location, self.core.num_classes)
        self._take_glimpse()
        return self.glimpses[-1]

    def declare(self, answer: int) -> None:
        """Name the class.

        Args:
            answer: Index of the class, from 0.

        Raises:
            GameError: When an answer has been given already, or the class does not exist.
        """
        if self.over:
            raise GameError("expected one answer for an image, and it has been given; go on to the next image")
        if not 0 <= answer < self.core.num_classes:
            raise GameError(f"expected a class from 0 to {self.core.num_classes - 1}, got {answer}; name another")
        self.correct = self._move(self.glimpses[-1].location, answer) > 0
        self.answered = round(self._clock() - self._began, 3)
        self.answer = answer

    def _move(self, location: tuple[float, float], answer: int) -> float:
        move = Move(torch.tensor([location], dtype=torch.float32), torch.tensor([answer]))
        self._state, reward, _, right = self.core.step(self._state, move)
        self.reward += float(reward)
        return float(right)

    def _take_glimpse(self) -> None:
        observation = self.core.observe(self._state)
        retina, location = self.core.retina, observation.location[0].numpy()
        nested = boxes(location, self.height, self.width, retina.size, retina.num_scales, retina.zoom)
        pixels = (observation.glimpse[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        place = (float(location[0]), float(location[1]))
        windows = np.array(nested).round().astype(np.int64)
        self.glimpses.append(PlacedGlimpse(place, windows, pixels, round(self._clock() - self._began, 3)))

    def _check_over(self) -> None:
        if not self.over:
            raise GameError("expected an answer before the image is shown, got none yet; answer first")


class Game:
    """A session of several images; each result is saved when the image has been answered.

    Attributes:
        model_view: The model's result for the current image; None before the answer, and without a model.
        finished: Whether all images have been played.

    Args:
        core: The core of an environment in ``declare`` mode, of images with one class each.
        images: Indices of the images, in their order; at least one.
        seed: See :class:`Round`.
        record: The file that results are saved to.
        opponent: The model to compare with, or None.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        core: ClassificationCore,
        images: Sequence[int],
        seed: int,
        record: GameRecord,
        opponent: Opponent | None,
        clock: Clock,
    ) -> None:
        self.core = core
        self.classes = core.scenes.classes
        self.record = record
        self.images = tuple(images)
        self.position = 0
        self.model_view: View | None = None
        self.finished = False
        self.opponent = opponent
        self._seed, self._clock = seed, clock
        self.round = self._begin()

    def answer(self, answer: int) -> ImageRecord:
        """Name the class of the current image, and save the result.

        Args:
            answer: Index of the class.

        Raises:
            GameError: See :meth:`Round.declare`.
            AlreadyRecordedError: When another game has saved this image in the meantime; this answer is discarded.
            RecordError: When the file is no longer a record of this game.
            OSError: When the file can't be written. The result is not lost: :meth:`save` tries again.
        """
        self.round.declare(answer)
        if self.opponent:
            self.model_view = self.opponent.classify(self.round.full_image())
        return self.save()

    def save(self) -> ImageRecord:
        """Save the result of the current image, unless it has been saved already.

        Raises:
            AlreadyRecordedError: When another game has saved this image in the meantime.
            RecordError: When the file is no longer a record of this game.
            OSError: When the file can't be written.
        """
        entry = self.entry()
        if entry.image not in {kept.image for kept in self.record.entries}:
            self.record.add(entry)
        return entry

    def entry(self) -> ImageRecord:
        """The result of the current image.

        Raises:
            GameError: Before the answer.
        """
        played = self.round
        label = played.label
        return ImageRecord(
            image=played.image,
            label=label,
            answer=-1 if played.answer is None else played.answer,
            correct=played.correct,
            reward=played.reward,
            glimpses=played.glimpses_taken,
            fixations=tuple(
                (round(glimpse.location[0], 6), round(glimpse.location[1], 6)) for glimpse in played.glimpses
            ),
            times=tuple(glimpse.time for glimpse in played.glimpses),
            answered=played.answered,
            model=self.opponent.record(self.model_view) if self.opponent and self.model_view else None,
        )

    def next_image(self) -> bool:
        """Go to the next image; return False if there is none.

        Raises:
            GameError: Before the answer, and when the game has finished.
        """
        if self.finished:
            raise GameError("expected an image to go on to, but all have been played; start another game")
        self.save()
        if self.position + 1 == len(self.images):
            self.finished = True
            return False
        self.position += 1
        self.round = self._begin()
        return True

    def _begin(self) -> Round:
        self.model_view = None
        return Round(self.core, self.images[self.position], self._seed, self._clock)
