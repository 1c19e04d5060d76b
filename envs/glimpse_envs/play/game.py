"""The game that a person plays: images to look at through a retina, under the budget and the rule of an environment.

The environments' own core is what is played with, in ``declare`` mode: each move looks at one more place, any that the
player likes, or names the class, which ends the episode. What the core knows of the image stays in here until then.
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
from glimpse_envs.play.mosaic import RevealedImage, SeenGlimpse, reveal
from glimpse_envs.play.opponent import Opponent
from glimpse_envs.play.record import GameRecord, PlayedImage

Clock = Callable[[], float]
"""Seconds that never run backwards, from any moment on."""


class GameError(ValueError):
    """A move that the rules don't allow, or a game that can't be played."""


def order(count: int, seed: int) -> list[int]:
    """Numbers of images in the order in which they are shown.

    Args:
        count: How many images there are.
        seed: Fixes the order; not negative.
    """
    places: list[int] = torch.randperm(count, generator=generator_for("cpu", seed)).tolist()
    return places


def still_to_play(count: int, seed: int, played: Collection[int], wanted: int) -> list[int]:
    """Numbers of the images that come next.

    Args:
        count: How many images there are.
        seed: Fixes their order; not negative.
        played: Numbers of those that have been played already.
        wanted: How many are wanted.

    Raises:
        GameError: When all of them have been played.
    """
    left = [image for image in order(count, seed) if image not in played]
    if not left:
        raise GameError(
            f"expected an image that has not been played yet, but all {count} of this split have; "
            "name another file with --output"
        )
    return left[:wanted]


class Round:
    """One image, from its first glimpse to the answer.

    Args:
        looking: The core of an environment in ``declare`` mode, of images with one class each.
        image: The image's number in the split.
        seed: Fixes, together with the number, the canvas where canvases are drawn, and a random first fixation.
        clock: Tells the time.
    """

    def __init__(self, looking: ClassificationCore, image: int, seed: int, clock: Clock) -> None:
        self.image = image
        self.looking = looking
        self.height, self.width = looking.scenes.image_shape[1:]
        self.seen: list[SeenGlimpse] = []
        self.reward = 0.0
        self.answer: int | None = None
        self.correct = False
        self.answered = 0.0
        self._clock = clock
        self._state = looking.begin(1, generator_for("cpu", seed, image), torch.tensor([image]))
        self._began = clock()
        self._see()

    @property
    def taken(self) -> int:
        """Glimpses that have been taken."""
        return len(self.seen)

    @property
    def left(self) -> int:
        """Glimpses that are left."""
        return self.looking.rule.num_glimpses - self.taken

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

    def show(self) -> None:
        """Say that the image is shown only now, before anything was done with it; times count from here."""
        if self.taken == 1 and not self.over:
            self._began = self._clock()

    def view(self) -> RevealedImage:
        """The image as far as it has been seen."""
        return reveal(self.seen, self.height, self.width)

    def whole(self) -> UInt8[np.ndarray, "height width channels"]:
        """The whole image.

        Raises:
            GameError: Before the answer.
        """
        self._check_over()
        image: UInt8[np.ndarray, "height width channels"] = (
            self.looking.images(self._state)[0].permute(1, 2, 0).cpu().numpy()
        )
        return image

    def look(self, location: tuple[float, float]) -> SeenGlimpse:
        """Take a glimpse.

        Args:
            location: Where, (x, y) in [-1, 1].

        Raises:
            GameError: After the answer, when the budget is used up, or when the place is not on the image.
        """
        if self.over:
            raise GameError("expected no more glimpses after the answer; go on to the next image")
        if self.looking.rule.terminated(self.taken):
            raise GameError(f"all {self.taken} glimpses are taken; answer with one of the classes")
        if not all(-1 <= part <= 1 for part in location):
            raise GameError(f"expected a place on the image, (x, y) in [-1, 1], got {location}; look at the image")
        self._move(location, self.looking.num_classes)
        self._see()
        return self.seen[-1]

    def declare(self, answer: int) -> None:
        """Name the class.

        Args:
            answer: Its number, from 0.

        Raises:
            GameError: When an answer has been given already, or there is no such class.
        """
        if self.over:
            raise GameError("expected one answer for an image, and it has been given; go on to the next image")
        if not 0 <= answer < self.looking.num_classes:
            raise GameError(f"expected a class from 0 to {self.looking.num_classes - 1}, got {answer}; name another")
        self.correct = self._move(self.seen[-1].location, answer) > 0
        self.answered = round(self._clock() - self._began, 3)
        self.answer = answer

    def _move(self, location: tuple[float, float], answer: int) -> float:
        move = Move(torch.tensor([location], dtype=torch.float32), torch.tensor([answer]))
        self._state, reward, _, right = self.looking.step(self._state, move)
        self.reward += float(reward)
        return float(right)

    def _see(self) -> None:
        observed = self.looking.observe(self._state)
        retina, location = self.looking.retina, observed.location[0].numpy()
        nested = boxes(location, self.height, self.width, retina.size, retina.num_scales, retina.zoom)
        pixels = (observed.glimpse[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        place = (float(location[0]), float(location[1]))
        windows = np.array(nested).round().astype(np.int64)
        self.seen.append(SeenGlimpse(place, windows, pixels, round(self._clock() - self._began, 3)))

    def _check_over(self) -> None:
        if not self.over:
            raise GameError("expected an answer before the image is shown, got none yet; answer first")


class Game:
    """A sitting: one image after the other, each kept as soon as it is answered.

    Attributes:
        sight: What the model made of the present image; None before the answer, and without a model.
        finished: Whether all images have been played.

    Args:
        looking: The core of an environment in ``declare`` mode, of images with one class each.
        images: Numbers of the images, in their order; at least one.
        seed: See :class:`Round`.
        record: Where what was played is kept.
        opponent: The model to compare with, if any.
        clock: Tells the time.
    """

    def __init__(
        self,
        looking: ClassificationCore,
        images: Sequence[int],
        seed: int,
        record: GameRecord,
        opponent: Opponent | None,
        clock: Clock,
    ) -> None:
        self.looking = looking
        self.classes = looking.scenes.classes
        self.record = record
        self.images = tuple(images)
        self.position = 0
        self.sight: View | None = None
        self.finished = False
        self.opponent = opponent
        self._seed, self._clock = seed, clock
        self.round = self._begin()

    def answer(self, answer: int) -> PlayedImage:
        """Name the class of the present image, and keep what was played.

        Args:
            answer: The class's number.

        Raises:
            GameError: See :meth:`Round.declare`.
            AlreadyPlayedError: When another game has kept this image meanwhile; the answer is left out, see there.
            PlayedError: When the file can't be gone on with; see :meth:`glimpse_envs.play.record.GameRecord.add`.
            OSError: When it can't be written. What was played stays here, and :meth:`keep` tries again.
        """
        self.round.declare(answer)
        if self.opponent:
            self.sight = self.opponent.look(self.round.whole())
        return self.keep()

    def keep(self) -> PlayedImage:
        """Keep the present image's round, unless it is kept already.

        Raises:
            AlreadyPlayedError, PlayedError, OSError: As for :meth:`answer`.
        """
        entry = self.entry()
        if entry.image not in {kept.image for kept in self.record.entries}:
            self.record.add(entry)
        return entry

    def entry(self) -> PlayedImage:
        """What was played with the present image.

        Raises:
            GameError: Before the answer.
        """
        played = self.round
        label = played.label
        return PlayedImage(
            image=played.image,
            label=label,
            answer=-1 if played.answer is None else played.answer,
            correct=played.correct,
            reward=played.reward,
            glimpses=played.taken,
            fixations=tuple((round(seen.location[0], 6), round(seen.location[1], 6)) for seen in played.seen),
            times=tuple(seen.time for seen in played.seen),
            answered=played.answered,
            model=self.opponent.entry(self.sight) if self.opponent and self.sight else None,
        )

    def go_on(self) -> bool:
        """Go on to the next image, and say whether there is one.

        Raises:
            GameError: Before the answer, and when the last image was gone on from already.
        """
        if self.finished:
            raise GameError("expected an image to go on to, but all have been played; start another game")
        self.keep()
        if self.position + 1 == len(self.images):
            self.finished = True
            return False
        self.position += 1
        self.round = self._begin()
        return True

    def _begin(self) -> Round:
        self.sight = None
        return Round(self.looking, self.images[self.position], self._seed, self._clock)
