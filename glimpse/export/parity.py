"""Comparison of an exported file, in onnxruntime, with its model, in torch, on real images."""

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
"""Two fixations that differ by less than this, in half images, but whose boxes differ by a pixel, are a rounding tie;
so are a probability and the confidence threshold that differ by less."""
STOP_CONFIDENCE = 0.9
"""Confidence at which adaptive graphs stop in the comparison."""
OTHER_OUTPUTS = (LOCATIONS, BOXES, GLIMPSES, NEXT_STATE, NEXT_LOCATION)
SINGLE_IMAGES, BATCH = 32, 250
"""How many images are compared one by one, and how many in a batch."""


@dataclass(frozen=True)
class Parity:
    """How an exported file compares with the model that it was made from.

    Attributes:
        images: Images compared.
        difference: Largest difference in a probability, or in an attention weight, ties excepted.
        ties: Images on which file and model differ by a rounding tie: a fixation lay between two pixels, or a
            probability at the threshold.
        labels_differ: Images on which the predicted class differs, ties excepted.
        other_difference: Largest difference in a location, a box, a number of glimpses, a state or a next location,
            ties excepted.
    """

    images: int
    difference: float
    ties: int
    labels_differ: int
    other_difference: float = 0.0


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
        card: The file's card.
        file: Its content.
        images: Pixels in [0, 255].
        provider: Execution provider of the file, one of :data:`glimpse.runtime.providers.PROVIDERS`.
    """
    session = session_of(file, provider)
    episode = Episode(observer, card.temperature).eval()
    difference, other_difference, ties, differ = 0.0, 0.0, 0, 0
    for chunk in _chunks(images):
        pixels = chunk if card.input_type == "uint8" else fractions(chunk)
        with torch.no_grad():
            expected = dict(zip(_episode_outputs(card), (part.numpy() for part in episode(pixels)), strict=True))
            if isinstance(observer, HardObserver):
                expected |= _next_states(observer, pixels, expected[LOCATIONS])
        tied = differing = np.zeros(len(chunk), dtype=bool)
        for found, wanted in _run_file(session, card, observer, pixels, expected):
            rounded = _tied(wanted, found)
            difference = _largest((PROBABILITIES, MAPS), found, wanted, ~rounded, difference)
            other_difference = _largest(OTHER_OUTPUTS, found, wanted, ~rounded, other_difference)
            labels = (outputs[LOGITS][:, -1].argmax(1) for outputs in (wanted, found))
            tied, differing = tied | rounded, differing | (np.not_equal(*labels) & ~rounded)
        ties, differ = ties + int(tied.sum()), differ + int(differing.sum())
    return Parity(len(images), difference, ties, differ, other_difference)


def _largest(
    names: tuple[str, ...], found: Arrays, wanted: Arrays, rows: npt.NDArray[np.bool_], before: float
) -> float:
    """The largest difference in some outputs of some images and the difference before; NaN where one is NaN."""
    gaps = [np.abs(found[name] - wanted[name])[rows].max(initial=0) for name in names if name in found]
    return float(np.max([before, *gaps]))


class _Outputs(NamedTuple):
    """The outputs of a file, and those expected of it, by name."""

    found: Arrays
    expected: Arrays


def _next_states(observer: HardObserver, pixels: Tensor, locations: npt.NDArray[np.float32]) -> Arrays:
    """State and next location after each glimpse of an episode."""
    model, policy = observer.model, observer.model.policy
    state, states, following = model.initial_state(len(pixels)), [], []
    for location in torch.from_numpy(locations).unbind(1):
        step = model(observer.retina(fractions(pixels), location), location, state)
        state = step.state
        states.append(torch.cat([*state], dim=1))
        following.append(policy.location(policy.mode(step.policy)))
    return {NEXT_STATE: torch.stack(states, 1).numpy(), NEXT_LOCATION: torch.stack(following, 1).numpy()}


def _run_file(
    session: Any, card: ModelCard, observer: Observer, pixels: Tensor, expected: Arrays
) -> Iterator[_Outputs]:
    """Run a file in every way that its graph allows."""
    if card.graph == "step":
        assert isinstance(observer, HardObserver)
        yield _Outputs(_by_steps(session, observer, pixels, expected), expected)
        return
    names = _episode_outputs(card)
    feeds = {INPUT: pixels.numpy()}
    if card.graph == "episode":
        yield _Outputs(dict(zip(names, session.run(names, feeds), strict=True)), expected)
        return
    names += [GLIMPSES, NEXT_STATE, NEXT_LOCATION]
    everything = np.full(len(pixels), card.num_glimpses)
    found = dict(zip(names, session.run(names, feeds), strict=True))
    yield _Outputs(found, _stopped_after(expected, everything, card.num_glimpses))
    if card.precision == "float32":
        feeds[CONFIDENCE] = np.array(STOP_CONFIDENCE, np.float32)
        found = dict(zip(names, session.run(names, feeds), strict=True))
        taken = glimpses_until(torch.from_numpy(expected[PROBABILITIES]), STOP_CONFIDENCE).numpy()
        yield _Outputs(found, _stopped_after(expected, taken, found[PROBABILITIES].shape[1]))
        if len(pixels) == 1:
            yield _Outputs(_by_parts(session, card, pixels, expected), expected)


def _by_steps(session: Any, observer: HardObserver, pixels: Tensor, expected: Arrays) -> Arrays:
    """Take an episode's glimpses one by one, at the model's locations, so that a tie does not change the scanpath."""
    state = np.zeros((len(pixels), session.get_inputs()[2].shape[1]), np.float32)
    names, found = [LOGITS, PROBABILITIES, NEXT_STATE, NEXT_LOCATION], []
    for location in expected[LOCATIONS].transpose(1, 0, 2):
        glimpses = observer.retina(fractions(pixels), torch.from_numpy(location)).numpy()
        found.append(session.run(names, {GLIMPSE: glimpses, LOCATION: location, STATE: state}))
        state = found[-1][2]
    return {name: np.stack(parts, 1) for name, parts in zip(names, zip(*found, strict=True), strict=True)}


def _by_parts(session: Any, card: ModelCard, pixels: Tensor, expected: Arrays) -> Arrays:
    """Classify one image glimpse by glimpse; each run gets only the pixels within the widest window."""
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
        outputs = dict(zip(names, session.run(names, feeds), strict=True))
        state = outputs[NEXT_STATE]
        found.append([outputs[name][:, -1] if name in timed else outputs[name] for name in names])
    return {name: np.stack(parts, 1) for name, parts in zip(names, zip(*found, strict=True), strict=True)}


def _stopped_after(expected: Arrays, taken: npt.NDArray[np.int64], length: int) -> Arrays:
    """The outputs of an episode that ends after so many glimpses of each image; the last one is repeated."""
    rows, times = np.arange(len(taken))[:, None], np.minimum(np.arange(length), taken[:, None] - 1)
    next_states = {name: expected[name][rows[:, 0], taken - 1] for name in (NEXT_STATE, NEXT_LOCATION)}
    return {**{name: values[rows, times] for name, values in expected.items()}, **next_states, GLIMPSES: taken}


def _tied(expected: Arrays, found: Arrays) -> npt.NDArray[np.bool_]:
    """The images that differ by a rounding tie.

    Their first differing box differs by one pixel, and its location by less than ``TIE``; or they stopped at another
    glimpse, and a probability differs from the threshold by less than ``TIE``.
    """
    tied = np.zeros(len(expected[LOGITS]), dtype=bool)
    if BOXES in expected and BOXES in found:
        moved = np.abs(expected[BOXES] - found[BOXES]).max((2, 3))
        images, first = np.arange(len(moved)), (moved > 0).argmax(1)
        distance = np.abs(expected[LOCATIONS] - found[LOCATIONS]).max(2)
        tied |= (moved[images, first] == 1) & (distance[images, first] < TIE)
    if GLIMPSES in found:
        near = np.abs(expected[PROBABILITIES].max(2) - STOP_CONFIDENCE).min(1) < TIE
        tied |= (expected[GLIMPSES] != found[GLIMPSES]) & near
    return tied


def _chunks(images: Tensor) -> Iterator[Tensor]:
    """The first images one by one, then the others in batches."""
    yield from images[:SINGLE_IMAGES].split(1)
    if len(images) > SINGLE_IMAGES:
        yield from images[SINGLE_IMAGES:].split(BATCH)


def _episode_outputs(card: ModelCard) -> list[str]:
    return list(replace(card, graph="episode").outputs)


def session_of(file: bytes, provider: str = "cpu") -> Any:
    """Open a file in onnxruntime, on one thread that does not spin.

    Args:
        file: The content of an ONNX file.
        provider: One of :data:`glimpse.runtime.providers.PROVIDERS`.
    """
    return open_session(file, provider, threads=1, sizes={})
