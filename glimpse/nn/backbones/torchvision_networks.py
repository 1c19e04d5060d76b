"""Torchvision's classification networks, cut before their pooling."""

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from glimpse.nn.backbones.network import PROBE, Backbone, Normalisation
from glimpse.nn.backbones.weights import DEFAULT_WEIGHTS, fill, given_weights


def torchvision_names() -> list[str]:
    """Names of torchvision's classification networks."""
    import torchvision
    from torchvision.models import list_models

    names: list[str] = list_models(module=torchvision.models)
    return names


def torchvision_backbone(name: str, weights: str | None = None, layer: str | None = None) -> Backbone:
    """Cut one of torchvision's classification networks before its pooling.

    Args:
        name: One of :func:`torchvision_names`.
        weights: See :func:`glimpse.nn.backbones.backbone`.
        layer: The node of torchvision's graph whose output is the map; the last one that has places when left out.

    Raises:
        ValueError: When the network has no map or no such layer, or the weights can't be downloaded, read or fitted.
    """
    from torchvision.models import get_model, get_model_weights
    from torchvision.models.feature_extraction import create_feature_extractor

    try:
        model: nn.Module = get_model(name, weights="DEFAULT" if weights == DEFAULT_WEIGHTS else None)
    except OSError as error:
        raise ValueError(
            f"expected to download torchvision's weights of {name}, got: {error}; "
            "go online, or give the path of a file that holds them"
        ) from error
    whole = list(model.state_dict())
    given = given_weights(weights, name, whole) if weights not in (None, DEFAULT_WEIGHTS) else None
    node = _map_node(model, name, layer)
    body = create_feature_extractor(model, {node: "map"}, suppress_diff_warning=True)
    if given is not None:
        fill(body, given, f"{name} in {weights}", whole)
    preset = get_model_weights(name).DEFAULT.transforms()
    return Backbone(body, name, Normalisation(tuple(preset.mean), tuple(preset.std)) if weights else None)


def _map_node(model: nn.Module, name: str, layer: str | None) -> str:
    """Name the node of the network's graph that gives the map: the one asked for, or the last that has places."""
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    nodes: list[str] = get_graph_node_names(model, suppress_diff_warning=True)[1]
    if layer is not None and layer not in nodes:
        near = difflib.get_close_matches(layer, nodes, n=3, cutoff=0.4) or nodes[-3:]
        raise ValueError(f"expected a layer of {name}, got {layer!r}; the nearest are {', '.join(near)}")
    tried = create_feature_extractor(
        model, train_return_nodes=nodes[:1], eval_return_nodes=nodes, suppress_diff_warning=True
    ).eval()
    with torch.no_grad():
        outputs: dict[str, Any] = tried(torch.zeros(1, 3, PROBE, PROBE))
    if layer is not None:
        shape = tuple(getattr(outputs[layer], "shape", ()))
        if len(shape) != 4:
            raise ValueError(
                f"expected a layer that gives a map (batch, channels, height, width), got {layer!r} of {name}, which "
                f"gives {shape or type(outputs[layer]).__name__}; choose an earlier one, or leave it out"
            )
        return layer
    modules = dict(model.named_modules())
    maps = [
        node
        for node in nodes
        if _has_places(outputs[node]) and not isinstance(modules.get(node), nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d)
    ]
    weighted = [node for node in nodes if node in modules and any(True for _ in modules[node].parameters())]
    head = [node for node in weighted if not maps or nodes.index(node) > nodes.index(maps[-1])]
    if 2 * len(head) > len(weighted):
        raise ValueError(
            f"expected a network that keeps a map of features up to its head, got {name}, of whose {len(weighted)} "
            f"layers with weights {len(head)} come after the last map; choose a convolutional one such as resnet18"
        )
    return maps[-1]


def _has_places(output: object) -> bool:
    """Whether a node's output is a map of more than one place."""
    return isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1
