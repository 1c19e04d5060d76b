"""Whether an exported file answers as the model that it was made from: onnxruntime beside torch, on real images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from jaxtyping import UInt8
from torch import Tensor

from glimpse.contract import (
    BOXES,
    CONFIDENCE,
    GLIMPSE,
    GLIMPSES,
    INPUT,
    LOCATION,
    LOCATIONS,
    LOGITS,
    MAPS,
    NEXT_STATE,
    PROBABILITIES,
    STATE,
    ModelCard,
)
from glimpse.graphs.whole import Episode
from glimpse.models.hard import HardObserver
from glimpse.observer import Observer
from glimpse.retina import fractions

TIE = 1e-5
"""Fixations that differ by less than this, in half images, and yet by a whole pixel, are a rounding tie; so are a
probability and a threshold."""
SURE = 0.9
"""Probability at which an adaptive graph is asked to stop when it is compared."""
CPU = ("CPUExecutionProvider",)
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
        labels_differ: Images on which the final answer differs.
    """

    images: int
    difference: float
    ties: int
    labels_differ: int


def compare(
    observer: Observer,
    card: ModelCard,
    file: bytes,
    images: UInt8[Tensor, "batch channels height width"],
    providers: tuple[str, ...] = CPU,
) -> Parity:
    """Run a file and the model that it was made from on the same images.

    Args:
        observer: The model.
        card: Says which graph the file holds.
        file: The file.
        images: Pixels in [0, 255].
        providers: Names of the execution providers that run the file.
    """
    session = session_of(file, providers)
    episode = Episode(observer, card.temperature).eval()
    difference, ties, differ = 0.0, 0, 0
    for chunk in _chunks(images):
        pixels = chunk if card.input_type == "uint8" else fractions(chunk)
        with torch.no_grad():
            expected = dict(zip(_episode_outputs(card), (part.numpy() for part in episode(pixels)), strict=True))
        tied = differing = np.zeros(len(chunk), dtype=bool)
        for answer, wanted in _answers(session, card, observer, pixels, expected):
            rounded = _tied(wanted, answer)
            distance = np.abs(wanted[PROBABILITIES] - answer[PROBABILITIES]).max((1, 2))
            if MAPS in wanted:
                distance = np.maximum(distance, np.abs(wanted[MAPS] - answer[MAPS]).max((1, 2, 3)))
            difference = float(np.append(distance[~rounded], difference).max())
            labels = (found[LOGITS][:, -1].argmax(1) for found in (wanted, answer))
            tied, differing = tied | rounded, differing | (np.not_equal(*labels) & ~rounded)
        ties, differ = ties + int(tied.sum()), differ + int(differing.sum())
    return Parity(len(images), difference, ties, differ)


class _Answer(NamedTuple):
    """What a file said, and what it should have said, by name."""

    found: dict[str, npt.NDArray[Any]]
    expected: dict[str, npt.NDArray[Any]]


def _answers(
    session: Any,
    card: ModelCard,
    observer: Observer,
    pixels: Tensor,
    expected: dict[str, npt.NDArray[Any]],
) -> Iterator[_Answer]:
    """Have a file answer, in every way in which it can be asked."""
    if card.graph == "step":
        assert isinstance(observer, HardObserver)
        yield _Answer(_by_steps(session, observer, pixels, expected), expected)
        return
    names = _episode_outputs(card)
    feeds = {INPUT: pixels.numpy()}
    yield _Answer(dict(zip(names, session.run(names, feeds), strict=True)), expected)
    if card.graph == "adaptive" and card.precision == "float32":
        feeds[CONFIDENCE] = np.array(SURE, np.float32)
        found = dict(zip((*names, GLIMPSES), session.run([*names, GLIMPSES], feeds), strict=True))
        yield _Answer(found, _stopped(expected, found[PROBABILITIES].shape[1]))


def _by_steps(
    session: Any, observer: HardObserver, pixels: Tensor, expected: dict[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """Take an episode's glimpses one by one, at the model's own places, so that a tie leads to no other path."""
    state = np.zeros((len(pixels), session.get_inputs()[2].shape[1]), np.float32)
    logits, probabilities = [], []
    for place in expected[LOCATIONS].transpose(1, 0, 2):
        glimpses = observer.retina(fractions(pixels), torch.from_numpy(place)).numpy()
        belief, shares, state = session.run(
            [LOGITS, PROBABILITIES, NEXT_STATE], {GLIMPSE: glimpses, LOCATION: place, STATE: state}
        )
        logits.append(belief)
        probabilities.append(shares)
    return {LOGITS: np.stack(logits, 1), PROBABILITIES: np.stack(probabilities, 1)}


def _stopped(expected: dict[str, npt.NDArray[Any]], length: int) -> dict[str, npt.NDArray[Any]]:
    """What an episode comes to that ends, for each image, as soon as it is sure."""
    sure = expected[PROBABILITIES].max(2) >= SURE
    taken = np.where(sure.any(1), sure.argmax(1) + 1, sure.shape[1])
    shown = np.minimum(np.arange(length), taken[:, None] - 1)
    rows = np.arange(len(taken))[:, None]
    return {**{name: values[rows, shown] for name, values in expected.items()}, GLIMPSES: taken}


def _tied(expected: Mapping[str, npt.NDArray[Any]], found: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
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


def session_of(file: bytes, providers: tuple[str, ...] = CPU) -> Any:
    """A file in onnxruntime, on one thread that does not spin.

    Args:
        file: An ONNX file.
        providers: Names of execution providers.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(file, options, providers=list(providers))
