"""Whether an exported file answers as the model that it was made from: onnxruntime beside torch, on real images."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from torch import Tensor

from glimpse.contract.card import ModelCard
from glimpse.contract.tensors import (
    BOXES,
    CONFIDENCE,
    FIRST_LOCATION,
    FRAME,
    GLIMPSE,
    GLIMPSES,
    INPUT,
    LOCATION,
    LOCATIONS,
    LOGITS,
    MAPS,
    MAX_GLIMPSES,
    NEXT_LOCATION,
    NEXT_STATE,
    PROBABILITIES,
    STATE,
)
from glimpse.evaluation.calibration import glimpses_until
from glimpse.export.graph.whole import Episode
from glimpse.models.hard import HardObserver
from glimpse.models.observer import Observer
from glimpse.nn.retina import fractions
from glimpse.runtime.graph import Arrays
from glimpse.runtime.providers import open_session

TIE = 1e-5
"""Fixations that differ by less than this, in half images, and yet by a whole pixel, are a rounding tie; so are a
probability and a threshold."""
SURE = 0.9
"""Probability at which an adaptive graph is asked to stop when it is compared."""
ELSEWHERE = (LOCATIONS, BOXES, GLIMPSES, NEXT_STATE, NEXT_LOCATION)
SINGLES, CHUNK = 32, 250
"""How many images are compared one by one, and how many at once."""


@dataclass(frozen=True)
class Parity:
    """How an exported file compares with the model that it was made from.

    Attributes:
        images: Images compared.
        difference: Largest difference in a probability, or in an attention weight, ties apart.
        ties: Images on which a fixation fell within a rounding error of two pixels, or a probability within one of the
            threshold, and the two chose differently.
        labels_differ: Images on which the final answer differs, ties apart.
        elsewhere: Largest difference in a location, a box, a number of glimpses or what is handed on to the next
            glimpse, ties apart.
    """

    images: int
    difference: float
    ties: int
    labels_differ: int
    elsewhere: float = 0.0


def compare_with_file(
    observer: Observer,
    card: ModelCard,
    file: bytes,
    images: UInt8[Tensor, "batch channels height width"],
    provider: str = "cpu",
) -> Parity:
    """Run a file and the model that it was made from on the same images.

    Args:
        observer: The model.
        card: Says which graph the file holds.
        file: The file.
        images: Pixels in [0, 255].
        provider: What runs the file, one of :data:`glimpse.runtime.providers.PROVIDERS`.
    """
    session = session_of(file, provider)
    episode = Episode(observer, card.temperature).eval()
    difference, elsewhere, ties, differ = 0.0, 0.0, 0, 0
    for chunk in _chunks(images):
        pixels = chunk if card.input_type == "uint8" else fractions(chunk)
        with torch.no_grad():
            expected = dict(zip(_episode_outputs(card), (part.numpy() for part in episode(pixels)), strict=True))
            if isinstance(observer, HardObserver):
                expected |= _handed_on(observer, pixels, expected[LOCATIONS])
        tied = differing = np.zeros(len(chunk), dtype=bool)
        for found, wanted in _answers(session, card, observer, pixels, expected):
            rounded = _tied(wanted, found)
            difference = _largest((PROBABILITIES, MAPS), found, wanted, ~rounded, difference)
            elsewhere = _largest(ELSEWHERE, found, wanted, ~rounded, elsewhere)
            labels = (answer[LOGITS][:, -1].argmax(1) for answer in (wanted, found))
            tied, differing = tied | rounded, differing | (np.not_equal(*labels) & ~rounded)
        ties, differ = ties + int(tied.sum()), differ + int(differing.sum())
    return Parity(len(images), difference, ties, differ, elsewhere)


def _largest(
    names: tuple[str, ...], found: Arrays, wanted: Arrays, rows: npt.NDArray[np.bool_], before: float
) -> float:
    """The largest difference in some outputs of some images, or the one before; not a number where one is none."""
    gaps = [np.abs(found[name] - wanted[name])[rows].max(initial=0) for name in names if name in found]
    return float(np.max([before, *gaps]))


class _Answer(NamedTuple):
    """What a file said, and what it should have said, by name."""

    found: Arrays
    expected: Arrays


def _handed_on(observer: HardObserver, pixels: Tensor, locations: npt.NDArray[np.float32]) -> Arrays:
    """State and next location after each glimpse of an episode."""
    model, policy = observer.model, observer.model.policy
    state, states, following = model.initial_state(len(pixels)), [], []
    for place in torch.from_numpy(locations).unbind(1):
        step = model(observer.retina(fractions(pixels), place), place, state)
        state = step.state
        states.append(torch.cat([*state], dim=1))
        following.append(policy.location(policy.mode(step.policy)))
    return {NEXT_STATE: torch.stack(states, 1).numpy(), NEXT_LOCATION: torch.stack(following, 1).numpy()}


def _answers(session: Any, card: ModelCard, observer: Observer, pixels: Tensor, expected: Arrays) -> Iterator[_Answer]:
    """Have a file answer, in every way in which it can be asked."""
    if card.graph == "step":
        assert isinstance(observer, HardObserver)
        yield _Answer(_by_steps(session, observer, pixels, expected), expected)
        return
    names = _episode_outputs(card)
    feeds = {INPUT: pixels.numpy()}
    if card.graph == "episode":
        yield _Answer(dict(zip(names, session.run(names, feeds), strict=True)), expected)
        return
    names += [GLIMPSES, NEXT_STATE, NEXT_LOCATION]
    everything = np.full(len(pixels), card.num_glimpses)
    found = dict(zip(names, session.run(names, feeds), strict=True))
    yield _Answer(found, _after(expected, everything, card.num_glimpses))
    if card.precision == "float32":
        feeds[CONFIDENCE] = np.array(SURE, np.float32)
        found = dict(zip(names, session.run(names, feeds), strict=True))
        taken = glimpses_until(torch.from_numpy(expected[PROBABILITIES]), SURE).numpy()
        yield _Answer(found, _after(expected, taken, found[PROBABILITIES].shape[1]))
        if len(pixels) == 1:
            yield _Answer(_by_parts(session, card, pixels, expected), expected)


def _by_steps(session: Any, observer: HardObserver, pixels: Tensor, expected: Arrays) -> Arrays:
    """Take an episode's glimpses one by one, at the model's own places, so that a tie leads to no other path."""
    state = np.zeros((len(pixels), session.get_inputs()[2].shape[1]), np.float32)
    names, found = [LOGITS, PROBABILITIES, NEXT_STATE, NEXT_LOCATION], []
    for place in expected[LOCATIONS].transpose(1, 0, 2):
        glimpses = observer.retina(fractions(pixels), torch.from_numpy(place)).numpy()
        found.append(session.run(names, {GLIMPSE: glimpses, LOCATION: place, STATE: state}))
        state = found[-1][2]
    return {name: np.stack(parts, 1) for name, parts in zip(names, zip(*found, strict=True), strict=True)}


def _by_parts(session: Any, card: ModelCard, pixels: Tensor, expected: Arrays) -> Arrays:
    """Look at one image glimpse by glimpse, giving the file no more than the pixels under the widest window."""
    height, width = pixels.shape[2:]
    timed = [LOGITS, PROBABILITIES, LOCATIONS, BOXES]
    names, found = [*timed, NEXT_STATE, NEXT_LOCATION], []
    state = np.zeros((1, card.state_size or 0), np.float32)
    for time in range(card.num_glimpses):
        left, top, right, bottom = expected[BOXES][0, time, -1].astype(int).clip(0, [width, height] * 2)
        feeds = {
            INPUT: np.ascontiguousarray(pixels[:, :, top:bottom, left:right].numpy()),
            FIRST_LOCATION: expected[LOCATIONS][:, time],
            STATE: state,
            FRAME: np.array([left, top, width, height], np.float32),
            MAX_GLIMPSES: np.array(1),
        }
        answer = dict(zip(names, session.run(names, feeds), strict=True))
        state = answer[NEXT_STATE]
        found.append([answer[name][:, -1] if name in timed else answer[name] for name in names])
    return {name: np.stack(parts, 1) for name, parts in zip(names, zip(*found, strict=True), strict=True)}


def _after(expected: Arrays, taken: npt.NDArray[np.int64], length: int) -> Arrays:
    """What an episode comes to that ends after so many glimpses of each image, the last of which is repeated."""
    rows, shown = np.arange(len(taken))[:, None], np.minimum(np.arange(length), taken[:, None] - 1)
    handed_on = {name: expected[name][rows[:, 0], taken - 1] for name in (NEXT_STATE, NEXT_LOCATION)}
    return {**{name: values[rows, shown] for name, values in expected.items()}, **handed_on, GLIMPSES: taken}


def _tied(expected: Arrays, found: Arrays) -> npt.NDArray[np.bool_]:
    """Which images have their first difference in a box, of one pixel, where the fixations agree up to rounding.

    Those as well that stopped at another glimpse where a probability agrees with the threshold up to rounding.
    """
    tied = np.zeros(len(expected[LOGITS]), dtype=bool)
    if BOXES in expected and BOXES in found:
        moved = np.abs(expected[BOXES] - found[BOXES]).max((2, 3))
        images, first = np.arange(len(moved)), (moved > 0).argmax(1)
        distance = np.abs(expected[LOCATIONS] - found[LOCATIONS]).max(2)
        tied |= (moved[images, first] == 1) & (distance[images, first] < TIE)
    if GLIMPSES in found:
        near = np.abs(expected[PROBABILITIES].max(2) - SURE).min(1) < TIE
        tied |= (expected[GLIMPSES] != found[GLIMPSES]) & near
    return tied


def _chunks(images: Tensor) -> Iterator[Tensor]:
    """A few images one by one, then all the rest in batches."""
    yield from images[:SINGLES].split(1)
    if len(images) > SINGLES:
        yield from images[SINGLES:].split(CHUNK)


def _episode_outputs(card: ModelCard) -> list[str]:
    return list(replace(card, graph="episode").outputs)


def session_of(file: bytes, provider: str = "cpu") -> Any:
    """A file in onnxruntime, on one thread that does not spin.

    Args:
        file: An ONNX file.
        provider: One of :data:`glimpse.runtime.providers.PROVIDERS`.
    """
    return open_session(file, provider, threads=1, sizes={})
