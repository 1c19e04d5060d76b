"""The stages of a network: its parts by the size of the map that they compute."""

import math
from typing import Any

import torch
from torch import Tensor, nn


def stages_of(network: nn.Module, images: Tensor) -> list[list[nn.Module]]:
    """Find a network's parts that have tensors of their own, by stages. Each stage halves the map's sides.

    Small convolutions over a pooled map, such as those of squeeze-and-excitation, belong to the stage they stand in.

    Args:
        network: The network, in evaluation.
        images: Square images to try it on, (batch, 3, side, side).

    Returns:
        For each stage the parts, in the order in which they compute.
    """
    owners = [part for part in network.modules() if any(True for _ in _own_tensors(part))]
    calls: list[tuple[nn.Module, int]] = []

    def note(part: nn.Module, inputs: Any, output: Any) -> None:
        calls.append((part, output.shape[-2] if isinstance(output, Tensor) and output.ndim == 4 else 1))

    hooks = [part.register_forward_hook(note) for part in owners]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    stages: list[list[nn.Module]] = [[]]
    numbers: dict[nn.Module, int] = {}
    side: float = math.inf
    for part, rows in calls:
        if 1 < rows < side:
            side = rows
            if stages[-1]:
                stages.append([])
        if part not in numbers:
            numbers[part] = len(stages) - 1
            stages[-1].append(part)
    for part in owners:  # whose tensors are read without a call, as by a traced graph
        if part not in numbers:
            stages[max((numbers[inner] for inner in part.modules() if inner in numbers), default=-1)].append(part)
    return stages


def _own_tensors(part: nn.Module) -> Any:
    """The parameters and buffers of a part itself, without those of its parts."""
    yield from part.parameters(recurse=False)
    yield from part.buffers(recurse=False)
