"""Export: write a trained model as one ONNX file, compare the file with the model, and deliver it to a model server.

The functions below are imported when they are first used, so that :mod:`glimpse.export.targets` does without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glimpse.export.checkpoint import export_checkpoint
    from glimpse.export.model import export_model

__all__ = ["export_checkpoint", "export_model"]

_MODULES = {"export_checkpoint": "glimpse.export.checkpoint", "export_model": "glimpse.export.model"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
