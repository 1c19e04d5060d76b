"""Any of torchvision's classification networks as an encoder, cut before its pooling."""

import difflib
import math
import pickle
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

PROBE = 224
"""Side of the square image, pixels, that a network is tried on: some take no other size."""
DEFAULT_WEIGHTS = "default"
SHOWN = 3
"""How many of the weights that don't fit an error names."""
SAVE = "write it with torch.save(model.state_dict(), path)"


class Backbone(nn.Module):
    """A network that makes a map of features out of an image.

    Grey images are repeated to the three channels that it expects. It doesn't standardise pixels: the model does, with
    its own mean and standard deviation. Weights that were trained on ImageNet expect pixels in [0, 1] less
    (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225); fine-tuning makes up for other figures.

    Attributes:
        features: Channels of the map.
        stride: Pixels from one place of the map to the next.

    Args:
        body: From standardised images of three channels to a map.
        name: What errors call it.
    """

    def __init__(self, body: nn.Module, name: str) -> None:
        super().__init__()
        self.body = body
        self.name = name
        _, self.features, rows, _ = self._probe(PROBE, PROBE).shape
        self.stride = 2 ** round(math.log2(PROBE / rows))

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the map of an image of so many pixels, found by trying.

        Raises:
            ValueError: When the network can't take such an image.
        """
        try:
            rows, columns = self._probe(height, width).shape[2:]
        except (RuntimeError, AssertionError) as error:
            raise ValueError(
                f"expected images that {self.name} can take, got {height} x {width} pixels (height x width): {error}; "
                "scale them up, or choose a backbone or an earlier layer of a smaller stride"
            ) from error
        return rows, columns

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch features map_height map_width"]:
        """Encode images.

        Args:
            images: Pixels, standardised, of one or three channels.

        Raises:
            ValueError: When they have another number of channels.
        """
        if images.shape[1] not in (1, 3):
            raise ValueError(f"expected images of 1 or 3 channels, got {images.shape[1]}; convert them to grey or RGB")
        return self.body(images.expand(-1, 3, -1, -1))["map"]  # type: ignore[no-any-return]

    def _probe(self, height: int, width: int) -> Tensor:
        """The map of a black image, made without touching the running averages."""
        like = next(self.body.parameters())
        training = self.body.training
        try:
            with torch.no_grad():
                self.body.eval()
                return self.body(like.new_zeros(1, 3, height, width))["map"]  # type: ignore[no-any-return]
        finally:
            self.body.train(training)


def torchvision_backbone(name: str, weights: str | None = None, layer: str | None = None) -> Backbone:
    """Cut one of torchvision's classification networks before its pooling.

    Args:
        name: What torchvision calls it: resnet18, mobilenet_v3_small, ...
        weights: None for random ones; ``default`` for torchvision's own, which it downloads once; or the path of a file
            that ``torch.save(model.state_dict(), path)`` wrote. The removed head's weights may differ or be missing.
        layer: The node of torchvision's graph whose output is the map; the last one that has places when left out.

    Raises:
        ValueError: When torchvision knows no such network, it has no map, it has no such layer, or the weights can't be
            downloaded, read or fitted.
    """
    import torchvision
    from torchvision.models import get_model, list_models
    from torchvision.models.feature_extraction import create_feature_extractor

    known = list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        raise ValueError(
            f"expected a classification network of torchvision, got {name!r}; "
            + (f"the nearest are {', '.join(near)}" if near else "torchvision.models.list_models() lists them")
        )
    given = None if weights in (None, DEFAULT_WEIGHTS) else _read(Path(str(weights)), name)
    try:
        model: nn.Module = get_model(name, weights="DEFAULT" if weights == DEFAULT_WEIGHTS else None)
    except OSError as error:
        raise ValueError(
            f"expected to download torchvision's weights of {name}, got: {error}; "
            "go online, or give the path of a file that holds them"
        ) from error
    node = _map_node(model, name, layer)
    body = create_feature_extractor(model, {node: "map"}, suppress_diff_warning=True)
    if given is not None:
        _fill(body, given, f"{name} in {weights}", set(model.state_dict()))
    return Backbone(body, name)


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


def _read(path: Path, name: str) -> dict[str, Tensor]:
    """Read a file of weights."""
    if not path.is_file():
        raise ValueError(
            f"expected weights of {name}: none, {DEFAULT_WEIGHTS!r} or a file, got {str(path)!r}, which is no file; "
            "check the path"
        )
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ValueError(f"expected a file of weights, got {path}, which can't be read so: {reason}; {SAVE}") from error
    if not isinstance(given, dict) or not given or not all(isinstance(part, Tensor) for part in given.values()):
        raise ValueError(f"expected a state dict, tensors by name, in {path}, got something else; {SAVE}")
    return given


def _fill(body: nn.Module, given: dict[str, Tensor], whose: str, whole: set[str]) -> None:
    """Fill in the weights; what belongs to the removed part of the whole network, or to another head, is left out."""
    own = body.state_dict()
    kept = {key.split(".", 1)[0] for key in own}
    faults = [
        f"{key} is missing"
        for key in own
        if key not in given and not key.endswith("num_batches_tracked")  # which files of old don't have
    ]
    faults += [
        f"{key} should be {tuple(own[key].shape)} and is {tuple(given[key].shape)}"
        for key in own
        if key in given and own[key].shape != given[key].shape
    ]
    faults += [f"{key} is not known" for key in given if key not in whole and key.split(".", 1)[0] in kept]
    if faults:
        more = f", and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ValueError(
            f"expected weights of {whose}, got others: {'; '.join(faults[:SHOWN])}{more}; "
            "give a file of that network's weights, or name the network that the file belongs to"
        )
    body.load_state_dict({key: given.get(key, own[key]) for key in own})
