"""Trainings of the rivals: on the product's own split of the same folder, for as long as the product took."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.harness.machine import Clock, commit
from benchmarks.learning.photographs.product import figures_on_test, groups_of_test
from benchmarks.learning.photographs.rivals import FINE_TUNED, PROBE, fine_tuned, from_scratch, linear_probe
from glimpse.cli.automatic.candidates import Contender
from glimpse.cli.automatic.survey import Survey, survey_images
from glimpse.cli.automatic.trials import CandidateTrial, run_trial
from glimpse.cli.train.run.dry_run import dry_run
from glimpse.data.folder import labelled_files
from glimpse.training.checkpoint import load_with_data

DECODED = "decoded"
"""The folder in which decoded images are kept meanwhile."""


@dataclass(frozen=True)
class RivalRuns:
    """What the trainings of all rivals share.

    Attributes:
        folder: The photographs.
        options: Options of the data that the product had, and the seed; each in one word with its value.
        augmentation: Of the rivals from scratch.
        seconds: Wall time that each is given, reading the images included. The linear probe takes what it takes.
        output: The folder of the runs.
    """

    folder: Path
    options: tuple[str, ...]
    augmentation: str
    seconds: float
    output: Path

    def measure(self, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Train rivals one after another, and measure each on the test images before the next one begins.

        Decoded images are kept on the disk until the last one is measured, as the product keeps them.

        Args:
            names: Some of :data:`benchmarks.learning.photographs.rivals.RIVALS`.

        Yields:
            The name of a rival and its figures: see :func:`benchmarks.learning.photographs.product.figures_on_test`;
            and ``reason``, ``options``, ``epochs``, ``validation_error``, ``wall_seconds``, ``cpu_seconds``, load
            averages before and after, and the commit.

        Raises:
            UsageError: When an option does not fit.
            RunError: When a training fails.
        """
        groups: list[str] = []
        probe: tuple[CandidateTrial, Clock] | None = None
        try:
            for name in names:
                before = os.getloadavg()
                trained, clock = self._fine_tune(probe) if name == FINE_TUNED else self._train(self._candidate(name))
                if name == PROBE:
                    probe = trained, clock
                training, data = load_with_data(trained.checkpoint, str(self.folder))
                groups = groups or groups_of_test(data)
                yield (
                    name,
                    figures_on_test(training, data, groups)
                    | {
                        "reason": trained.candidate.reason,
                        "options": [each for each in trained.candidate.options if not each.startswith("--finetune")],
                        "epochs": trained.epochs,
                        "validation_error": trained.error,
                        "wall_seconds": round(clock.wall, 1),
                        "cpu_seconds": round(clock.cpu, 1),
                        "load_average_before": [round(each, 2) for each in before],
                        "load_average_after": [round(each, 2) for each in os.getloadavg()],
                        "commit": commit(),
                    },
                )
        finally:
            shutil.rmtree(self.output / DECODED, ignore_errors=True)

    @cached_property
    def _survey(self) -> Survey:
        parts = labelled_files(self.folder).tree.parts
        return survey_images(path for of_class in parts.values() for paths in of_class.values() for path in paths)

    def _candidate(self, name: str) -> Contender:
        survey = self._survey
        return linear_probe(survey) if name == PROBE else from_scratch(name, survey, self.augmentation)

    def _fine_tune(self, probe: tuple[CandidateTrial, Clock] | None) -> tuple[CandidateTrial, Clock]:
        """Fit the linear probe, unless that was just done, and train on from it; its time counts either way."""
        start, spent = probe or self._train(self._candidate(PROBE))
        return self._train(fine_tuned(self._survey, start.checkpoint), spent)

    def _train(self, candidate: Contender, spent: Clock | None = None) -> tuple[CandidateTrial, Clock]:
        """Train for the time that is left; the time in all, what was spent before included."""
        clock = Clock()
        if spent is not None:
            clock.cpu, clock.wall = spent.cpu, spent.wall
        options = (f"--data.root={self.folder}", *self.options, f"--data.cache={self.output / DECODED}")
        clock.start()
        data = dry_run([*candidate.options, *options], "glimpse train")[0]
        clock.stop()
        left = self.seconds - clock.wall
        clock.start()
        trained = run_trial(candidate, options, self.output / candidate.name, left, data)
        clock.stop()
        print(f"{candidate.name}: {trained.epochs} epochs, {clock.wall:.0f} s in all", flush=True)
        return trained, clock
