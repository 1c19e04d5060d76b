"""``glimpse train DIR`` on a set of photographs, as a user calls it, and the figures of the model that it leaves."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.glimpse_process import run_glimpse
from benchmarks.harness.machine import commit
from benchmarks.learning.photographs.comparison import outcomes_in_words
from benchmarks.learning.photographs.looking import judge, measure_looking
from benchmarks.learning.photographs.sets import PhotoSet
from benchmarks.learning.photographs.uncertainty import sums_of_groups
from glimpse.cli.automatic.command import TRIALS
from glimpse.cli.automatic.report import CHOICE_FILE, MODEL_FILE
from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import data_root
from glimpse.data.folder import labelled_files
from glimpse.data.folder.reading import complete_parts, group_files, in_reading_order
from glimpse.data.folder.tree import TEST
from glimpse.evaluation.evaluate import beliefs, costs_of
from glimpse.evaluation.scores import scores_of
from glimpse.models.focus import FocusObserver
from glimpse.training.callbacks import LAST_FILE
from glimpse.training.checkpoint import load_with_data, read_checkpoint
from glimpse.training.classifier import ClassifierTraining
from glimpse.training.families.focus import FocusTraining


def train_product(
    folder: Path, minutes: float, seed: int, output: Path, environment: Mapping[str, str], more: Sequence[str] = ()
) -> dict[str, Any]:
    """Have the product choose and train, in a process of its own.

    Args:
        folder: The photographs.
        minutes: The wall time that it is given.
        seed: Fixes the run.
        output: The run's folder.
        environment: Variables of the process.
        more: Further options.

    Returns:
        The command, its CPU and wall time in seconds, the load averages before and after, the commit.

    Raises:
        RuntimeError: When it fails.
    """
    options = ("--minutes", f"{minutes:g}", "--seed", str(seed), "--output", output.name, "--overwrite", *more)
    output.parent.mkdir(parents=True, exist_ok=True)
    command = f"glimpse train {folder.name} {' '.join(options)}".replace(f"{output.parent}/", "")
    print(f"$ {command}", flush=True)
    before = os.getloadavg()
    ended = run_glimpse(("train", str(folder), *options), output.parent, environment, {f"{folder.parent}/": ""})
    if ended.status:
        raise RuntimeError(
            f"{command}: expected a trained model, it ended with status {ended.status}; see what it printed"
        )
    return {
        "command": command,
        "wall_seconds": round(ended.wall_seconds, 1),
        "cpu_seconds": round(ended.cpu_seconds, 1),
        "load_average_before": [round(each, 2) for each in before],
        "load_average_after": [round(each, 2) for each in os.getloadavg()],
        "commit": commit(),
    }


def evaluate_product(folder: Path, output: Path, photos: PhotoSet) -> dict[str, Any]:
    """Measure on the test images what the product has chosen and trained.

    Args:
        folder: The photographs.
        output: The run's folder.
        photos: The set.

    Returns:
        ``choice``: what the product wrote of its choice; ``test``: see :func:`figures_on_test`; ``looking``: see
        :func:`looking_of`.
    """
    choice = json.loads((output / CHOICE_FILE).read_text(encoding="utf-8"))
    training, data = load_with_data(output / MODEL_FILE, str(folder))
    groups = groups_of_test(data)
    figures = figures_on_test(training, data, groups)
    return {"choice": choice, "test": figures, "looking": looking_of(choice, folder, output, groups, photos)}


def groups_of_test(data: ImageData) -> list[str]:
    """The name of each test image's group, as the product groups the images before it splits them.

    Args:
        data: A folder's images.

    Raises:
        RuntimeError: When these are not the images that were read.
    """
    found, reading = labelled_files(data_root(data.root), data.labels), data.reading
    groups = group_files(found, reading["group"], reading["near_duplicates"], reading["cache"]).groups
    listed = in_reading_order(complete_parts(found.tree, groups)[0][TEST], found.tree.classes)
    if [label for _, label in listed] != data.source.test.labels.tolist():
        raise RuntimeError(f"expected the test images of {found.tree.root} as they were read; the folder has changed")
    return [groups.of(path) for path, _ in listed]


def figures_on_test(training: ClassifierTraining, data: ImageData, groups: Sequence[str]) -> dict[str, Any]:
    """Measure a model on the test images.

    Args:
        training: The model.
        data: Its data.
        groups: See :func:`groups_of_test`.

    Returns:
        Error and balanced accuracy in [0, 1] with their standard errors, multiply-accumulates, images and groups; and
        ``outcomes``, see :func:`benchmarks.learning.photographs.comparison.outcomes_in_words`.
    """
    logits, labels = beliefs(training.observer, data.test_dataloader())
    found = scores_of(logits[:, -1], labels)
    right = (logits[:, -1].argmax(1) == labels).double().numpy()
    counted = sums_of_groups(right, labels.numpy(), groups)
    return {
        "error": found.error,
        "error_standard_error": counted.standard_error(balanced=False),
        "balanced_accuracy": found.balanced_accuracy,
        "balanced_accuracy_standard_error": counted.standard_error(balanced=True),
        "multiply_accumulates": costs_of(training.observer, training.image_shape)[-1],
        "images": len(labels),
        "groups": len(set(groups)),
        "outcomes": outcomes_in_words(counted),
    }


def looking_of(
    choice: Mapping[str, Any], folder: Path, output: Path, groups: Sequence[str], photos: PhotoSet
) -> dict[str, Any]:
    """Measure what looking earns: of the chosen model where it looks, else of the best trial that does.

    Args:
        choice: What the product wrote of its choice.
        folder: The photographs.
        output: The run's folder.
        groups: See :func:`groups_of_test`.
        photos: The set.

    Returns:
        ``of``: which model; ``sentences``; and what :mod:`benchmarks.learning.photographs.looking` finds, if any looks.
    """
    trials = [(f"the trial {each['name']}", output / TRIALS / each["name"] / LAST_FILE) for each in choice["trials"]]
    models = [("the chosen model", output / MODEL_FILE), *trials]
    of, checkpoint = next((model for model in models if _looks(model[1])), (None, output))
    if of is None:
        return {"of": None, "sentences": [f"the choice is {choice['chosen']}, and no model that looks was tried"]}
    training, data = load_with_data(checkpoint, str(folder))
    assert isinstance(training.observer, FocusObserver)
    test = data.source.test
    small = [data.classes[label] in photos.small for label in test.labels.tolist()]
    found = measure_looking(training.observer, test, groups, small, photos.balanced)
    judged = judge(found)
    taken = f"it takes {judged['windows']} windows" if found["kept"] > 1 else "its windows were dropped"
    sentences = [
        f"the choice is {choice['chosen']}; looking is measured on {of}; {taken}",
        *judged.pop("sentences"),
    ]
    return {"of": of, "sentences": sentences, "judgement": judged, **found}


def _looks(checkpoint: Path) -> bool:
    return checkpoint.is_file() and read_checkpoint(checkpoint)["glimpse_model"] == FocusTraining.kind
