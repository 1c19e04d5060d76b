"""Running exported models with onnxruntime and numpy. No torch.

onnxruntime is imported when a name that needs it is first used, since those that make a prediction into text or JSON
work without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from glimpse.contract.card import ContractError
from glimpse.runtime.limits import LimitError, Limits
from glimpse.runtime.prediction import Glance, ImagePrediction, Prediction

if TYPE_CHECKING:
    from glimpse.runtime.graph import OutputError
    from glimpse.runtime.model_file import ModelFile
    from glimpse.runtime.providers import PROVIDERS, ProviderError
    from glimpse.runtime.session import GlimpseSession

__all__ = [
    "PROVIDERS",
    "ContractError",
    "Glance",
    "GlimpseSession",
    "ImagePrediction",
    "LimitError",
    "Limits",
    "ModelFile",
    "OutputError",
    "Prediction",
    "ProviderError",
]

_NEED_ONNXRUNTIME = {
    "GlimpseSession": "glimpse.runtime.session",
    "ModelFile": "glimpse.runtime.model_file",
    "OutputError": "glimpse.runtime.graph",
    "PROVIDERS": "glimpse.runtime.providers",
    "ProviderError": "glimpse.runtime.providers",
}
"""Modules of the names that are imported at their first use."""


def __getattr__(name: str) -> Any:
    """Import a name that needs onnxruntime."""
    if name in _NEED_ONNXRUNTIME:
        return getattr(import_module(_NEED_ONNXRUNTIME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
