"""Export targets, found by name: each writes what a model server needs to serve an exported file. No torch."""

from glimpse.errors import suggestion
from glimpse.export.targets.kserve import KServeTarget
from glimpse.export.targets.ownership import DeploymentError
from glimpse.export.targets.target import Target, TargetOption
from glimpse.export.targets.triton import TritonTarget

__all__ = ["EXPORT_TARGETS", "DeploymentError", "KServeTarget", "Target", "TargetOption", "TritonTarget", "find_target"]

EXPORT_TARGETS: dict[str, type[Target]] = {target.kind: target for target in (TritonTarget, KServeTarget)}
"""Every target by its name; ``glimpse export --to`` offers these."""


def find_target(kind: str) -> type[Target]:
    """Find a target by its name.

    Args:
        kind: One of ``EXPORT_TARGETS``.

    Raises:
        DeploymentError: When there is no such target; it names the one that was most likely meant.
    """
    if kind not in EXPORT_TARGETS:
        hint = suggestion(kind, EXPORT_TARGETS) or "; choose one of them"
        raise DeploymentError(f"expected an export target out of {', '.join(EXPORT_TARGETS)}, got {kind!r}{hint}")
    return EXPORT_TARGETS[kind]
