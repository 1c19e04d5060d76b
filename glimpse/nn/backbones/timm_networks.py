"""Timm's networks (Wightman, PyTorch Image Models), cut before their pooling. It imports timm when it is called."""

import difflib
import importlib.util
from typing import Any

import torch
from torch import Tensor, nn

from glimpse.nn.backbones.network import PROBE, UNTAKEN, Backbone, Normalisation
from glimpse.nn.backbones.weights import DEFAULT_WEIGHTS, PRETRAINED_EXTRA, fill, given_weights


def has_timm() -> bool:
    """Whether timm is installed; it is not imported."""
    return importlib.util.find_spec("timm") is not None


def timm_names() -> list[str]:
    """Names of timm's networks, without those of their weights.

    Raises:
        ValueError: When timm is not installed.
    """
    if not has_timm():
        raise ValueError(f"expected timm, a library of networks, and it is not installed; {PRETRAINED_EXTRA}")
    import timm

    names: list[str] = timm.list_models()
    return names


def timm_backbone(name: str, weights: str | None = None, layer: str | None = None) -> Backbone:
    """Cut one of timm's networks before its pooling.

    Args:
        name: One of :func:`timm_names`; the name of weights may follow after a dot, as timm has it.
        weights: See :func:`glimpse.nn.backbones.backbone`.
        layer: The stage whose output is the map, by the name that timm's ``feature_info`` gives it, such as
            ``blocks.4``; what ``forward_features`` returns when left out.

    Raises:
        ValueError: When the network has no map or no such layer, or the weights can't be downloaded, read or fitted.
    """
    import timm

    try:
        network = timm.create_model(name, pretrained=weights == DEFAULT_WEIGHTS)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"expected to make {name} of timm with its weights, got: {error}; go online, or give the path of a file "
            "that holds them"
        ) from error
    whole = list(network.state_dict())
    given = given_weights(weights, name, whole) if weights not in (None, DEFAULT_WEIGHTS) else None
    body = _FeatureMap(network, _stage(network, name, layer))
    _check_map(body, name)
    if given is not None:
        fill(network, given, f"{name} in {weights}", whole)
    config: Any = network.pretrained_cfg
    return Backbone(body, name, Normalisation(tuple(config["mean"]), tuple(config["std"])) if weights else None)


class _FeatureMap(nn.Module):
    """A network of timm up to its map.

    Args:
        network: The network.
        stage: Number of the stage whose output is the map; None for what comes before the pooling.
    """

    def __init__(self, network: Any, stage: int | None) -> None:
        super().__init__()
        self.network = network
        self.stage = stage
        self.channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        if self.stage is not None:
            maps = self.network.forward_intermediates(
                images, indices=[self.stage], output_fmt="NCHW", intermediates_only=True, stop_early=True
            )
            return {"map": maps[0]}
        features = self.network.forward_features(images)
        return {"map": features.permute(0, 3, 1, 2) if self.channels_last and features.ndim == 4 else features}


def _stage(network: Any, name: str, layer: str | None) -> int | None:
    """Number of the stage of a name."""
    if layer is None:
        return None
    names = (
        list(network.feature_info.module_name())
        if hasattr(network.feature_info, "module_name")
        else [stage["module"] for stage in network.feature_info]
    )
    if layer not in names or not hasattr(network, "forward_intermediates"):
        near = difflib.get_close_matches(layer, names, n=3, cutoff=0.4) or names[-3:]
        raise ValueError(f"expected a layer of {name}, got {layer!r}; the nearest are {', '.join(near)}")
    return names.index(layer)


def _check_map(body: _FeatureMap, name: str) -> None:
    """Try a network, refuse one without a map, and remove those of its parts that the map doesn't need."""
    called: set[nn.Module] = set()
    hooks = [part.register_forward_hook(lambda part, *_: called.add(part)) for part in body.modules()]
    training = body.training
    try:
        with torch.no_grad():
            output = body.eval()(torch.zeros(1, 3, PROBE, PROBE))["map"]
    except UNTAKEN as error:
        raise ValueError(
            f"expected a network that takes images of any size, got {name}, which can't take {PROBE} x {PROBE} pixels: "
            f"{error}; choose another, such as resnet18"
        ) from error
    finally:
        body.train(training)
        for hook in hooks:
            hook.remove()
    if not isinstance(output, Tensor) or output.ndim != 4:
        shape = tuple(getattr(output, "shape", ())) or type(output).__name__
        raise ValueError(
            f"expected a network that keeps a map of features up to its head, got {name}, which gives {shape}; "
            "choose a convolutional one such as resnet18"
        )
    _prune(body, called)


def _prune(part: nn.Module, called: set[nn.Module]) -> None:
    """Replace parts with weights that were not called, nor any part of them, by nothing."""
    for name, child in list(part.named_children()):
        if called.isdisjoint(child.modules()):
            if child.state_dict():
                setattr(part, name, nn.Identity())
        else:
            _prune(child, called)
