"""An exported graph, ready to be called: arrays in by name, arrays out by name."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from glimpse.contract.tensors import GLIMPSE, INPUT, LOCATION, LOGITS, STATE
from glimpse.runtime.model_file import ModelFile
from glimpse.runtime.providers import DEVICES, ProviderError, open_session

Arrays = dict[str, npt.NDArray[Any]]
Call = Callable[[Arrays], Arrays]
"""Runs a graph once: a :class:`InferenceGraph`, or what takes its place in a test."""


class InferenceGraph:
    """A model's graph on an execution provider; threads may share it.

    On the CPU one image of the model's own size goes to a session of its own, for which onnxruntime has worked out
    beforehand all that follows from the size. Everything else goes to a session for any size, opened when it is first
    needed.

    Args:
        model: The model.
        provider: One of :data:`glimpse.runtime.providers.PROVIDERS`.
        threads: Threads within an operator.

    Raises:
        ProviderError: When the provider is unknown or does not start, or the file is not for it.
    """

    def __init__(self, model: ModelFile, provider: str, threads: int) -> None:
        card = model.card
        self._model, self._provider, self._threads = model, provider, threads
        self._outputs = [name for name in model.card.outputs if name != LOGITS]
        self._lock = threading.Lock()
        self._single: Any = None
        self._general: Any = None
        if provider == "cpu":
            self._single = self._open({"batch": 1, "height": card.height, "width": card.width})
        else:
            self._general = self._open({})
        if provider in DEVICES and card.target == "cpu" and card.has_retina and card.graph != "step":
            raise ProviderError(
                f"expected a file for GPUs to run with {provider!r}, got one for processors, which would cut the "
                "glimpses of single images on the processor; export the model with "
                "'glimpse export --target gpu'"
            )

    def __call__(self, given: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Run the graph once.

        Args:
            given: Its inputs, as :mod:`glimpse.contract.card` describes them; those with a default may be left out.
            outputs: Names of the outputs that are wanted; all but the logits if left out.

        Returns:
            Its outputs.
        """
        session = self._single if self._single is not None and self._is_single(given) else self._any_size()
        wanted = self._outputs if outputs is None else list(outputs)
        return dict(zip(wanted, session.run(wanted, given), strict=True))

    def zeros(self) -> Arrays:
        """Inputs for one image of the model's own size, nothing but black."""
        card = self._model.card
        if card.graph == "step":
            assert card.glimpse_size is not None
            assert card.state_size is not None
            glimpse = np.zeros((1, card.num_scales or 1, card.channels, *(card.glimpse_size,) * 2), np.float32)
            place, state = np.zeros((1, 2), np.float32), np.zeros((1, card.state_size), np.float32)
            return {GLIMPSE: glimpse, LOCATION: place, STATE: state}
        return {INPUT: np.zeros((1, card.channels, card.height, card.width), card.input_type)}

    def _is_single(self, given: Arrays) -> bool:
        card = self._model.card
        if card.graph == "step":
            return len(given[GLIMPSE]) == 1
        return given[INPUT].shape == (1, card.channels, card.height, card.width)

    def _any_size(self) -> Any:
        with self._lock:
            if self._general is None:
                self._general = self._open({})
            return self._general

    def _open(self, sizes: dict[str, int]) -> Any:
        return open_session(self._model.content, self._provider, self._threads, sizes)
