"""Going on with a run that was stopped. No torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glimpse.cli.train.recipes import CONFIG_FILE
from glimpse.cli.train.run.folder import RUNS
from glimpse.cli.usage import UsageError
from glimpse.errors import suggestion

MAY_CHANGE = {("data", "root"), ("data", "download")}
"""Options that may differ when a run goes on: the data set may have moved."""


def find_run(name: str) -> Path:
    """The folder of a run that has begun.

    Args:
        name: The folder, or its name where runs usually go.

    Raises:
        UsageError: When there is no such run.
    """
    given, usual = Path(name).expanduser(), RUNS / name
    for folder in (given, usual):
        if (folder / CONFIG_FILE).is_file():
            return folder
    if given.is_file():
        raise UsageError(f"--resume {name}: expected the folder of a run, got a file; --ckpt_path takes a checkpoint")
    if given.is_dir() or usual.is_dir():
        raise UsageError(
            f"--resume {name}: expected a run that has begun to train, found no {CONFIG_FILE} in its folder; give the "
            "training's own command again"
        )
    known = [file.parent.name for file in RUNS.glob(f"*/{CONFIG_FILE}")]
    raise UsageError(
        f"--resume {name}: expected the folder of a run, or its name in {RUNS}/, found neither{suggestion(name, known)}"
    )


def check_same_options(
    model: Mapping[str, Any], data: Mapping[str, Any], checkpoint: Mapping[str, Any], name: str
) -> None:
    """Reject a checkpoint of a model with other options, or of one that was trained on other data.

    Args:
        model: The arguments of the model that this run would train.
        data: Those of the data that it would be trained on, which may have moved.
        checkpoint: What :func:`glimpse.training.checkpoint.read_checkpoint` read.
        name: The checkpoint's file.

    Raises:
        UsageError: When an argument of the model or the data differs.
    """
    differences = [
        f"--{group}.{key} was {was[key]}, is {now[key]}"
        for group, was, now in (
            ("model", checkpoint.get("hyper_parameters", {}), model),
            ("data", checkpoint.get("datamodule_hyper_parameters", {}), data),
        )
        for key in now
        if key in was and was[key] != now[key] and (group, key) not in MAY_CHANGE
    ]
    if differences:
        raise UsageError(
            f"{name}: a run goes on with the options that it began with, but {'; '.join(differences)}; give the "
            "same ones"
        )
