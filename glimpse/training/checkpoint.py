"""Reading a training checkpoint, plain weights only and only one of ours, and beginning a training with its weights."""

import inspect
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from glimpse.data.datamodule import ImageData, complete_options
from glimpse.data.datasets import DataError, data_root
from glimpse.errors import Argument, ArgumentError, Part
from glimpse.training.classifier import OPTIMISATION, ClassifierTraining, arguments_of
from glimpse.training.families import FAMILIES

PICKLED_CODE = ("Unsupported global", "Unsupported class", "Trying to call reduce", "Can only build Tensor")
"""What torch's error contains for a file that would run code when loaded."""
MODEL_PREFIX = "observer.model."
"""What the names of a model's weights begin with in a checkpoint."""
CLASSIFIER = tuple(f"{MODEL_PREFIX}{part}classifier." for part in ("", "place_", "whole_", "window_"))
"""The weights of the part of a model whose shape follows from the number of classes, in every family."""
OF_THE_IMAGES = ("class_weights",)
"""What a checkpoint's weights hold of the training images, beside the model."""
ADVICE = "give a .ckpt file that 'glimpse train' wrote"


class CheckpointError(ArgumentError):
    """A file that is no checkpoint of ours, or one that does not fit."""


def read_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running any code in it.

    Args:
        path: A file that training wrote.
        map_location: The device that its tensors go to.

    Raises:
        CheckpointError: When there is no such file, it is none, it holds pickled code, or it is one of
            another kind of model.
    """
    path = Path(path)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "nothing"
        raise CheckpointError(f"expected a checkpoint at {path}, found {what}; {ADVICE}")
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as stream:
                pickled = stream.read(1) == pickle.PROTO
            raise CheckpointError(_refused(path) if pickled else _damaged(path))
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        refused = any(sign in str(error) for sign in PICKLED_CODE)
        raise CheckpointError(_refused(path) if refused else _damaged(path)) from error
    except (RuntimeError, EOFError, OSError, LookupError, AttributeError) as error:
        raise CheckpointError(_damaged(path)) from error
    kind = checkpoint.get("glimpse_model") if isinstance(checkpoint, dict) else None
    if kind is None:
        raise CheckpointError(f"{path} is a checkpoint of something other than Glimpse; {ADVICE}")
    if kind not in FAMILIES:
        raise CheckpointError(
            f"expected a checkpoint of a model of the kind {', '.join(FAMILIES)}; {path} holds one of the kind "
            f"{kind!r}; use a version of Glimpse that knows it"
        )
    return dict(checkpoint)


def load_training(
    path: str | Path, root: str | None = None, map_location: str | torch.device = "cpu"
) -> tuple[ClassifierTraining, ImageData]:
    """Rebuild the model and the data of a training run.

    Args:
        path: A file that training wrote.
        root: Where the data set lies now; where training found it when left out.
        map_location: The device that the model goes to.

    Returns:
        The model with its trained weights, ready to evaluate, and its data, not yet read; nothing is downloaded, and a
        cache that is there no longer is not made again.

    Raises:
        CheckpointError: When :func:`read_checkpoint` rejects the file, or another version of Glimpse wrote it.
        DataError: When an option of the data is no longer known.
    """
    checkpoint = read_checkpoint(path, map_location)
    family = FAMILIES[checkpoint["glimpse_model"]]
    training = family(**_arguments(checkpoint, "hyper_parameters", family, path))
    try:
        training.load_state_dict(checkpoint["state_dict"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(_other_version(path, "its weights do not fit its options")) from error
    data = complete_options(_arguments(checkpoint, "datamodule_hyper_parameters", ImageData, path))
    data["download"] = False
    if data.get("cache") and not Path(data["cache"]).expanduser().is_dir():
        data["cache"] = None
    if root is not None:
        data["root"] = root
    return training.to(map_location).eval(), ImageData(**data)


class Transfer(NamedTuple):
    """What a training has taken of another one's model."""

    taken: tuple[str, ...]
    """The parts of the model whose weights were taken."""
    anew: tuple[str, ...]
    """The parts that begin anew."""


def finetune(training: ClassifierTraining, path: str | Path) -> Transfer:
    """Begin a training with the weights of another one; the classifier begins anew where the classes are others.

    Mean and standard deviation of the pixels are taken as well: the weights were trained for them.

    Args:
        training: The new training.
        path: A file that another training wrote.

    Raises:
        CheckpointError: When :func:`read_checkpoint` rejects the file, or its model is another one than this.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint["glimpse_model"] != training.kind:
        raise CheckpointError(
            f"{path}: expected a model of the family {type(training).__name__}, which is to be trained, got one of "
            f"{FAMILIES[checkpoint['glimpse_model']].__name__}; train that family, or give another checkpoint"
        )
    given = _arguments(checkpoint, "hyper_parameters", type(training), path)
    weights = {name: weight for name, weight in checkpoint["state_dict"].items() if name not in OF_THE_IMAGES}
    own = {name: weight for name, weight in training.state_dict().items() if name not in OF_THE_IMAGES}
    same_classes = tuple(given["classes"]) == training.classes
    taken = {name for name in own.keys() | weights.keys() if same_classes or not name.startswith(CLASSIFIER)}
    for name in sorted(taken):
        there, here = (_shape(name, group) for group in (weights, own))
        if there != here:
            raise CheckpointError(
                f"{path}: expected weights of the same shapes as those of the model that is to be trained, got "
                f"{name.removeprefix(MODEL_PREFIX)} with {there}, not {here}",
                *_differences(given, dict(training.hparams)),
                "; give the same options",
            )
    training.load_state_dict({name: weights[name] for name in taken}, strict=False)
    training.is_finetuned = True
    return Transfer(_parts(taken), _parts(own.keys() - taken))


def _shape(name: str, weights: Mapping[str, torch.Tensor]) -> str:
    return "x".join(map(str, weights[name].shape)) or "a number" if name in weights else "nothing"


def _parts(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name.removeprefix(MODEL_PREFIX).partition(".")[0] for name in names}))


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[Part]:
    """The model's options that differ, as the end of a sentence."""
    parts: list[Part] = []
    for name in was:
        if name not in {*OPTIMISATION, "classes", "class_weights"} and name in now and was[name] != now[name]:
            parts += [", " if parts else ": ", Argument(name), f" was {was[name]}, is {now[name]}"]
    return parts


def _arguments(checkpoint: dict[str, Any], key: str, made: type, path: str | Path) -> dict[str, Any]:
    given = checkpoint.get(key)
    if not isinstance(given, dict):
        raise CheckpointError(_other_version(path, f"it lacks the entry {key!r}"))
    known = arguments_of(made)
    unknown = sorted(given.keys() - known.keys())
    missing = sorted(name for name in known if known[name].default is inspect.Parameter.empty and name not in given)
    if unknown or missing:
        wrong = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(missing)}"] * bool(missing)
        raise CheckpointError(_other_version(path, f"its arguments of {made.__name__} differ ({'; '.join(wrong)})"))
    return dict(given)


def _refused(path: Path) -> str:
    return (
        f"{path} is refused: it contains pickled code instead of plain weights, and loading it would run that code; "
        f"{ADVICE}"
    )


def _damaged(path: Path) -> str:
    return f"{path} is not a checkpoint, or is damaged; {ADVICE}"


def _other_version(path: str | Path, sign: str) -> str:
    return f"{path} was written by another version of Glimpse: {sign}; use that version, or train again"


def load_with_data(checkpoint: Path, root: str | None = None) -> tuple[ClassifierTraining, ImageData]:
    """Rebuild a trained model, and read the data that its checkpoint names.

    Args:
        checkpoint: A checkpoint that training wrote.
        root: Where the data set lies, when not where it lay in training.

    Raises:
        CheckpointError: When the checkpoint is none of ours, or the data have other classes or another shape by now.
        DataError: When the data are not there.
    """
    training, data = load_training(checkpoint, root=root)
    try:
        _check_same(checkpoint, training, data)
        data.setup()
    except DataError as error:
        raise error.only("root") from error
    return training, data


def _check_same(checkpoint: Path, training: ClassifierTraining, data: ImageData) -> None:
    for what, trained, found in (
        ("the classes", training.classes, tuple(data.classes)),
        ("images of the shape", training.image_shape, tuple(data.image_shape)),
    ):
        if found != trained:
            raise CheckpointError(
                f"{checkpoint} was trained on {what} {', '.join(map(str, trained))}; the data under "
                f"{data_root(data.root)} now have {', '.join(map(str, found))}; give the data of the training with ",
                Argument("root"),
                ", or train again",
            )
