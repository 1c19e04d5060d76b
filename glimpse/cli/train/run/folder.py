"""Folders of runs: each run has a folder of its own. No torch before one is looked into."""

from pathlib import Path

from glimpse.cli.train.recipes import CONFIG_FILE
from glimpse.cli.usage import UsageError

RUNS = Path("runs")
"""Where runs go, below the folder that the user is in."""
TENSORBOARD_FILES = "events.out.tfevents.*"


def usual_output(name: str) -> Path:
    """The folder of a recipe's run where the user gives none."""
    return RUNS / name


def choose_output(given: str | None, name: str, overwrite: bool, resumed: Path | None) -> Path:
    """The folder of a run, in which there is no other run.

    Args:
        given: The folder that the user names, if any.
        name: The recipe's name.
        overwrite: Whether a run that is there already may be replaced.
        resumed: The checkpoint from which the run resumes, if any.

    Raises:
        UsageError: When the wanted folder holds another run, or is no folder.
    """
    if given is None and resumed and (resumed.parent / CONFIG_FILE).is_file():
        return resumed.parent
    folder = Path(given).expanduser() if given else usual_output(name)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder}: expected a folder, found a file; choose another name")
    own = resumed is not None and resumed.resolve().parent == folder.resolve()
    if overwrite or own or not run_files(folder):
        return folder
    if given:
        raise UsageError(
            f"--output {folder}: it holds a run already; choose another folder, or replace it with --overwrite"
        )
    number = 2
    while run_files(Path(f"{folder}-{number}")):
        number += 1
    return Path(f"{folder}-{number}")


def run_files(folder: Path) -> list[Path]:
    """The files of the run that a folder holds."""
    from glimpse.training.callbacks import BEST_FILE, CONFUSION_FILE, CURVES_FILE, LAST_FILE, METRICS_FILE  # with torch

    named = [folder / name for name in (CONFIG_FILE, METRICS_FILE, BEST_FILE, LAST_FILE, CURVES_FILE, CONFUSION_FILE)]
    return [*(file for file in named if file.is_file()), *folder.glob(TENSORBOARD_FILES)]
