"""An exported graph as a function: from arrays by name to arrays by name."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from glimpse.contract.tensors import GLIMPSE, INPUT, LOCATION, LOGITS, STATE
from glimpse.runtime.model_file import ModelFile
from glimpse.runtime.providers import DEVICES, ProviderError, open_session

Arrays = dict[str, npt.NDArray[Any]]
Call = Callable[[Arrays], Arrays]
"""Runs a graph once: a :class:`InferenceGraph`, or a function with the same inputs and outputs."""


class InterruptedRunError(RuntimeError):
    """A run of a graph that was ended by :meth:`InferenceGraph.interrupt`."""


class OutputError(ValueError):
    """A graph returned NaN or infinity: its inputs are too large for its arithmetic, or its weights are damaged."""


def is_finite(array: npt.NDArray[np.floating[Any]]) -> bool:
    """Return whether an array holds neither NaN nor infinity.

    The sum of the squares is found sooner than a flag for each element. It is not finite when an element is not, or
    when it overflows; only then is each element tested.

    Args:
        array: Of any shape.
    """
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


class InferenceGraph:
    """A model's graph on an execution provider; threads may share it.

    On the CPU a single image of the model's own size is run in a separate session of onnxruntime, in which all that
    depends only on the size is computed beforehand. Other batches and sizes are run in a session for any size, which
    is opened at its first use.

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
        self._running: dict[Any, float] = {}
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

    def __call__(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Run the graph once.

        Args:
            inputs: By their names, as :mod:`glimpse.contract.card` describes them; those with a default may be left
                out.
            outputs: Names of the requested outputs; all but the logits if left out.

        Returns:
            Its outputs, all of them finite.

        Raises:
            OutputError: When an output is not finite.
            InterruptedRunError: When :meth:`interrupt` has ended the run.
        """
        session = self._single if self._single is not None and self._is_single(inputs) else self._any_size()
        names = self._outputs if outputs is None else list(outputs)
        found = dict(zip(names, self._run(session, names, inputs), strict=True))
        for name, array in found.items():
            if array.dtype.kind == "f" and not is_finite(array):
                raise OutputError(
                    f"expected finite numbers of {name!r} from the model, got NaN or infinity; make the values of its "
                    "inputs smaller, or export it again if they are in their range"
                )
        return found

    def interrupt(self, seconds: float) -> None:
        """End the runs, in whatever threads, that have gone on for long; each ends before its next operator.

        Args:
            seconds: How long a run may go on, at least 0.
        """
        latest = time.monotonic() - seconds
        for options, started in list(self._running.items()):
            if started <= latest:
                options.terminate = True

    def _run(self, session: Any, names: list[str], inputs: Arrays) -> list[npt.NDArray[Any]]:
        """Run a session in such a way that it can be interrupted."""
        options = onnxruntime.RunOptions()
        self._running[options] = time.monotonic()
        try:
            found: list[npt.NDArray[Any]] = session.run(names, inputs, options)
            return found
        except Exception as error:  # onnxruntime's exceptions share no parent of their own
            if options.terminate:
                raise InterruptedRunError(
                    "expected the model to answer in time, and its graph went on and was ended; use another model, or "
                    "allow more time"
                ) from error
            raise
        finally:
            del self._running[options]

    def zeros(self) -> Arrays:
        """Inputs for one black image of the model's own size."""
        card = self._model.card
        if card.graph == "step":
            assert card.glimpse_size is not None
            assert card.state_size is not None
            glimpse = np.zeros((1, card.num_scales or 1, card.channels, *(card.glimpse_size,) * 2), np.float32)
            place, state = np.zeros((1, 2), np.float32), np.zeros((1, card.state_size), np.float32)
            return {GLIMPSE: glimpse, LOCATION: place, STATE: state}
        return {INPUT: np.zeros((1, card.channels, card.height, card.width), card.input_type)}

    def _is_single(self, inputs: Arrays) -> bool:
        card = self._model.card
        if card.graph == "step":
            return len(inputs[GLIMPSE]) == 1
        return inputs[INPUT].shape == (1, card.channels, card.height, card.width)

    def _any_size(self) -> Any:
        with self._lock:
            if self._general is None:
                self._general = self._open({})
            return self._general

    def _open(self, sizes: dict[str, int]) -> Any:
        return open_session(self._model.content, self._provider, self._threads, sizes)
