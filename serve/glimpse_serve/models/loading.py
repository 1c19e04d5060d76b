"""Opening a model's file for the service: it is loaded, and answers for some images before it is served."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glimpse.contract.card import ContractError, ModelCard
from glimpse.contract.texts import visible
from glimpse.runtime.prediction import Prediction, from_glances
from glimpse.runtime.providers import ProviderError
from glimpse.runtime.session import GlimpseSession
from glimpse_serve.models.names import ModelError

LONGEST_MESSAGE = 2000
"""Characters of an error's message, which may quote the file."""


def open_model(path: Path, threads: int = 1, provider: str = "cpu", sha256: str | None = None) -> GlimpseSession:
    """Open a model's file, and run it in every way in which the service does.

    Args:
        path: An ONNX file written by ``glimpse export``.
        threads: Threads within an operator.
        provider: The execution provider.
        sha256: The seal that the file must have; any when left out.

    Raises:
        ModelError: When it can't be loaded, or does not answer with probabilities.
        MemoryError: When there is not enough memory.
    """
    try:
        session = GlimpseSession(path, threads, provider, sha256=sha256)
        for prediction, limited in _predictions(session):
            _check(session, prediction, limited)
    except (ContractError, ProviderError) as error:
        if _lacks_memory(error):
            raise MemoryError from error
        raise ModelError(visible(str(error), LONGEST_MESSAGE)) from error
    except (ModelError, MemoryError):
        raise
    except Exception as error:  # onnxruntime raises exceptions of any type for a damaged file
        if _lacks_memory(error):
            raise MemoryError from error
        message = visible(str(error), LONGEST_MESSAGE)
        raise ModelError(f"{str(path)!r} can't be served ({message}); export the model again") from error
    return session


def _predictions(session: GlimpseSession) -> Iterator[tuple[Prediction, bool]]:
    """One image and two, in one call and glimpse by glimpse, on the canvas and beyond it; and whether within limits."""
    images = _images(session.card)
    for batch in (images[:1], images[1:2], images[1:], images[2:]):
        yield session.run(batch), False
    yield session.run(images[:2], max_glimpses=1), True
    yield session.run(images[:2], confidence=0.5), True
    yield from_glances(list(session.scan(images[0]))), False
    if session.card.any_size or session.card.graph == "step":
        larger = np.pad(images[0], ((1, 2), (2, 1), (0, 0)), mode="edge")
        yield from_glances(list(session.scan(larger, size="native"))), False


def _images(card: ModelCard) -> npt.NDArray[np.uint8]:
    """Noise, black, and white."""
    images = np.zeros((3, card.height, card.width, card.channels), np.uint8)
    images[0] = np.random.default_rng(0).integers(0, 256, images.shape[1:], np.uint8)
    images[2] = 255
    return images


def _check(session: GlimpseSession, prediction: Prediction, limited: bool) -> None:
    found, card = prediction.probabilities, session.card
    taken = found.shape[1]
    if not (1 if limited else card.num_glimpses) <= taken <= card.num_glimpses or found.shape[2] != len(card.classes):
        raise ModelError(
            f"expected {card.num_glimpses} glimpses and probabilities of {len(card.classes)} classes from "
            f"{str(session.path)!r}, as its card says, got {found.shape[1:]}; export the model again"
        )
    total = found.sum(-1)
    if not np.isfinite(found).all() or np.abs(total - 1).max() > 1e-2:
        raise ModelError(
            f"expected probabilities that sum to one from {str(session.path)!r}, got {total.min():g} to "
            f"{total.max():g}; export the model again"
        )


def _lacks_memory(error: Exception) -> bool:
    """Whether onnxruntime, whose exceptions have no type for it, had not enough memory."""
    return any(word in str(error) for word in ("bad_alloc", "bad allocation", "Failed to allocate memory"))
