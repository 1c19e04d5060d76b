"""Trainings of the rivals: the time that each is given, and what is measured of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.learning.photographs import rival_runs
from benchmarks.learning.photographs.comparison import read_outcomes
from benchmarks.learning.photographs.rival_runs import DECODED, RivalRuns
from benchmarks.learning.photographs.rivals import FINE_TUNED, PROBE
from benchmarks.learning.photographs.sets import SETS, make_up
from glimpse.cli.automatic.candidates import Contender
from glimpse.cli.automatic.trials import CandidateTrial
from glimpse.data.datamodule import ImageData
from glimpse.training.families.whole_image import ConvolutionalTraining


class Trainings:
    """In the place of ``run_trial`` and of the clocks: leaves a model without training, and takes ten seconds."""

    def __init__(self) -> None:
        self.calls: list[tuple[Contender, tuple[str, ...], float]] = []
        self.now = 0.0

    def read(self, options: Sequence[str], program: str) -> tuple[ImageData, dict[str, Any]]:
        self.now += 1
        (root,) = (option.removeprefix("--data.root=") for option in options if option.startswith("--data.root="))
        return ImageData("folder", root, image_height=32, image_width=32, channels=1), {}

    def train(
        self, candidate: Contender, options: tuple[str, ...], folder: Path, seconds: float, data: ImageData
    ) -> CandidateTrial:
        self.calls.append((candidate, options, seconds))
        self.now += 10
        training = ConvolutionalTraining(data.classes, [1, 32, 32], widths=[4], depths=[1])
        content = {
            "glimpse_model": training.kind,
            "state_dict": training.state_dict(),
            "hyper_parameters": dict(training.hparams),
            "datamodule_hyper_parameters": dict(data.hparams),
        }
        trial = CandidateTrial(candidate, folder, 7, 10.0, 0.25, 0.5)
        folder.mkdir(parents=True)
        torch.save(content, trial.checkpoint)
        return trial


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    found = Trainings()
    monkeypatch.setattr(rival_runs, "dry_run", found.read)
    monkeypatch.setattr(rival_runs, "run_trial", found.train)
    monkeypatch.setattr("benchmarks.harness.machine.time.perf_counter", lambda: found.now)
    return found


@pytest.fixture
def runs(tmp_path: Path) -> RivalRuns:
    return RivalRuns(make_up(SETS["boards"], tmp_path), ("--seed=3",), "mild", 100.0, tmp_path / "runs")


def test_every_rival_is_given_the_same_time_and_the_probe_counts_for_what_begins_with_it(trainings, runs):
    found = dict(runs.measure([PROBE, FINE_TUNED, "cnn"]))
    assert [(candidate.name, seconds) for candidate, _, seconds in trainings.calls] == [
        (PROBE, 99),
        (FINE_TUNED, 88),
        ("cnn", 99),
    ]
    assert {name: figures["wall_seconds"] for name, figures in found.items()} == {PROBE: 11, FINE_TUNED: 22, "cnn": 11}
    _, options, _ = trainings.calls[0]
    assert options == (f"--data.root={runs.folder}", "--seed=3", f"--data.cache={runs.output / DECODED}")


def test_fine_tuning_alone_fits_the_probe_it_begins_with(trainings, runs):
    ((name, figures),) = runs.measure([FINE_TUNED])
    assert [candidate.name for candidate, _, _ in trainings.calls] == [PROBE, FINE_TUNED]
    assert (name, figures["wall_seconds"], figures["epochs"]) == (FINE_TUNED, 22, 7)
    assert f"--finetune={runs.output / PROBE / 'last.ckpt'}" in trainings.calls[1][0].options
    assert figures["options"] == ["--config=folder-finetuned", "--data.channels=1"]


def test_a_rival_is_measured_before_the_next_one_begins(trainings, runs):
    measured = runs.measure(["cnn", "resnet18"])
    name, figures = next(measured)
    assert (name, len(trainings.calls)) == ("cnn", 1)
    assert figures["images"] == read_outcomes(figures["outcomes"]).images.sum() == 30
    assert figures["error_standard_error"] > 0
    assert figures["multiply_accumulates"] > 0
    assert (next(measured)[0], len(trainings.calls)) == ("resnet18", 2)


def test_decoded_images_are_dropped_in_the_end_even_where_a_training_fails(trainings, runs, monkeypatch):
    (runs.output / DECODED).mkdir(parents=True)
    list(runs.measure(["cnn"]))
    assert not (runs.output / DECODED).exists()

    def fail(*_: object) -> CandidateTrial:
        (runs.output / DECODED).mkdir(parents=True)
        raise RuntimeError("no room")

    monkeypatch.setattr(rival_runs, "run_trial", fail)
    with pytest.raises(RuntimeError, match="no room"):
        list(runs.measure(["resnet18"]))
    assert not (runs.output / DECODED).exists()


@pytest.mark.slow
def test_a_real_training_is_measured_on_the_test_images(runs):
    ((name, figures),) = replace(runs, seconds=0.0).measure(["cnn"])
    assert (name, figures["epochs"], figures["images"]) == ("cnn", 1, 30)
    assert figures["cpu_seconds"] > 0
    assert "--data.augmentation=mild" in figures["options"]
