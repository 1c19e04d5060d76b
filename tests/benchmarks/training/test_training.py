"""The benchmarks themselves, at sizes at which their figures mean nothing: what they compare must be comparable."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness import machine
from benchmarks.learning import learning
from benchmarks.training import crops, stages, steps, throughput
from benchmarks.training.stages import Timed
from benchmarks.training.steps import Alone, BareStep, Setup
from glimpse.data.datamodule import ImageData
from glimpse.data.held_out import generator_for
from glimpse.training.objectives import losses
from glimpse.training.precision import choose_precision

MODEL = {**steps.PAPER_MODEL, "hidden": 16, "num_glimpses": 3}
TRAINER: dict[str, Any] = {"precision": "32-true"}


def setup(name: str = "small", **data: Any) -> Setup:
    return Setup(name, {"dataset": "digits", "batch_size": 8, **data}, MODEL, TRAINER)


@pytest.mark.parametrize(("side", "size", "scales"), [(28, 8, 1), (60, 12, 3), (20, 4, 2)])
def test_every_way_to_cut_cuts_the_same_glimpses(side, size, scales):
    ways = crops.ways_to_cut(6, side, size, scales)
    ours = ways[crops.OURS]()
    assert ours.shape == (6, scales, 1, size, size)
    for way in ways.values():
        torch.testing.assert_close(way(), ours, atol=2e-4, rtol=0)
    torch.testing.assert_close(ways["loop over the batch"](), ours, atol=1e-6, rtol=0)


def test_crops_are_compared_with_ours():
    result = crops.crops(4, 28, 8, 1, repetitions=3, seconds=1e-4)
    ours = result["ways"][0]
    assert ours["way"] == crops.OURS
    assert ours["times_ours"] == ours["times_ours_wall"] == 1
    assert all(row["times_ours"] > 0 and math.isfinite(row["cpu_microseconds"]) for row in result["ways"])


def test_glimpses_are_compared_with_those_of_the_smallest_image():
    rows = crops.one_glimpse((64, 128), 12, 3, repetitions=3, seconds=1e-4)
    assert [row["image"] for row in rows] == [64, 128]
    assert rows[0]["times_smallest"] == 1
    assert rows[1]["times_smallest"] > 0


def test_a_wandering_glimpse_looks_somewhere_else_each_time():
    look = crops._wandering_glimpse(64, 12, 3)
    assert not torch.equal(look(), look())


def test_ratios_are_of_samples_taken_side_by_side():
    slow, quick = machine.Samples((2.0, 40.0, 6.0), (1.0, 1.0, 1.0)), machine.Samples((1.0, 10.0, 3.0), (2.0, 2.0, 2.0))
    assert slow.over(quick) == 2
    assert slow.over(quick, "wall") == 0.5
    assert slow.median() == 6


def test_things_are_timed_in_turn():
    called: list[str] = []
    samples = machine.interleave({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 3, 0.0)
    assert "".join(called[-6:]) == "ababab"
    assert len(samples["a"].cpu) == len(samples["b"].wall) == 3


def test_the_bare_step_computes_the_losses_of_the_training_step():
    data = ImageData("digits", batch_size=8)
    step = BareStep(setup(), data, Alone)
    images, labels = next(step.batches)
    loss = step.loss(images, labels)
    training = step.training
    trace = training.explore(images, generator_for("cpu", training.seed, 2, 0, 0))
    parts = losses(trace, labels, training.rule, **training.objective)
    torch.testing.assert_close(loss, parts.classification + parts.policy + parts.baseline)
    assert training.rule.reward == "terminal"


def test_the_bare_step_changes_every_weight_and_leaves_no_gradient():
    step = BareStep(setup(), ImageData("digits", batch_size=8), Alone)
    before = [weight.detach().clone() for weight in step.training.parameters()]
    for _ in range(2):
        step()
    after = list(step.training.parameters())
    assert all(weight.grad is None for weight in after)
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_bare_steps_are_compared_image_for_image():
    small, large = setup(), setup("large", batch_size=16)
    rows = steps.bare_steps([small, large], 1, repetitions=2, seconds=1e-3)
    assert [row["setup"] for row in rows] == ["small", "large"]
    assert rows[0]["times_first"] == pytest.approx(1)
    assert all(row["images_per_cpu_second"] > 0 and row["images_per_second"] > 0 for row in rows)


def test_the_trainer_is_timed_beside_as_many_bare_steps():
    result = steps.trainer_beside_bare(setup(), 1, epochs=1, steps=3)
    assert result["batches_an_epoch"] == 3
    assert result["of_bare"] == pytest.approx(
        result["trainer"]["images_per_cpu_second"] / result["bare"]["images_per_cpu_second"]
    )


def test_the_stages_make_up_the_whole_step():
    canvases = setup(canvas_height=40, canvas_width=40, num_pieces=2)
    result = stages.stages(Setup(canvases.name, canvases.data, {**MODEL, "gaze": "eyes"}, TRAINER), steps=3)
    assert tuple(result["shares"]) == stages.STAGES
    assert sum(result["shares"].values()) == pytest.approx(1)
    assert all(share > 0 for share in result["shares"].values())


def test_a_timed_roll_out_is_counted_once():
    step = BareStep(setup(), ImageData("digits", batch_size=8), Timed)
    stopwatch = step.training.stopwatch
    with stopwatch.stage("loss"):
        step.loss(*next(step.batches))
    whole = stopwatch.spent["loss"]
    spent = stopwatch.read()
    assert "look" not in spent
    assert sum(spent.values()) == pytest.approx(whole)
    assert sum(stopwatch.spent.values()) == 0


def test_recipes_are_timed_as_they_are_shipped():
    shipped = steps.recipe_setup("cluttered-60-8", "digits")
    assert shipped.data["canvas_height"] == 60
    assert shipped.data["dataset"] == "digits"
    assert shipped.precision == choose_precision("auto", "cpu").name
    assert shipped.model["num_glimpses"] == 8


def test_the_figures_are_printed_ratios_first():
    rates = {"images_per_cpu_second": 900.0, "images_per_second": 800.0}
    row = {"setup": "a recipe", "threads": 1, "batch": 8}
    text = throughput.report(
        {
            "quick": True,
            "machine": machine.describe(),
            "load_average_after": [0.5],
            "training": {
                "data": "digits",
                "bare": [{**row, "times_first": 1.0, "times_first_wall": 1.0, **rates}],
                "trainer": [{**row, "of_bare": 0.91, "of_bare_wall": 0.92, "trainer": rates, "bare": rates}],
                "stages": [{**row, "shares": {"crop": 0.25, "loss": 0.75}, "cpu_milliseconds_a_step": 3.0}],
            },
            "crop": [crops.crops(2, 28, 8, 1, 1, 1e-4)],
            "glimpse": crops.one_glimpse((64,), 12, 3, 1, 1e-4),
        }
    )
    assert "load average" in text
    assert "data: digits; a quick run: the figures mean nothing" in text
    assert "a recipe        1  0.910  0.920" in text
    assert "25.0%" in text


def test_figures_go_only_into_a_folder_that_is_there(tmp_path, capsys):
    with pytest.raises(SystemExit):
        throughput.main(["--quick", "--output", str(tmp_path / "missing" / "file.json")])
    assert "expected a folder at" in capsys.readouterr().err


def write_recipe(path: Path, **model: Any) -> Path:
    groups = {
        "data": {"class_path": "ImageData", "init_args": {"dataset": "digits", "batch_size": 100}},
        "model": {"class_path": "HardAttentionTraining", "init_args": {"hidden": 16, "num_scales": 1, **model}},
        "trainer": {"max_epochs": 2, "limit_train_batches": 3},
    }
    path.write_text(json.dumps(groups), encoding="utf-8")
    return path


@pytest.mark.child
@pytest.mark.slow
def test_a_run_is_written_with_all_that_its_figure_needs(tmp_path):
    recipe = write_recipe(tmp_path / "tiny.yaml", num_glimpses=2)
    assert learning.main([str(recipe), "--seed", "3", "--results", str(tmp_path / "results")]) == 0
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "results").iterdir()}
    assert sorted(written) == ["tiny-seed3.json", "tiny-seed3.log", "tiny-seed3.yaml"]
    result = json.loads(written["tiny-seed3.json"])
    assert result["command"] == "glimpse train --config tiny --seed 3"
    assert result["images_seen"] == 2 * 3 * 100
    assert result["images"] == 500
    errors = result["test_errors_after_each_glimpse"]
    assert sorted(errors) == ["centre", "grid", "own", "random"]
    assert len(errors["own"]) == 2
    assert errors["own"][-1] == result["test_error"]
    assert result["cpu_seconds"] > 0
    assert [row["epoch"] for row in result["epochs"]] == [1, 2]
    assert "epoch 2/2" in written["tiny-seed3.log"]
    assert "seed: 3" in written["tiny-seed3.yaml"]
    for text in written.values():
        assert str(tmp_path) not in text
        assert str(machine.REPOSITORY) not in text


def test_a_run_that_fails_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(learning, "train", lambda recipe, seed, workplace: learning.Run(2, workplace, "", 1.0, 1.0))
    assert learning.main(["wrong", "--results", str(tmp_path / "results")]) == 2
    assert not (tmp_path / "results").exists()
    assert "it failed with status 2; nothing is written" in capsys.readouterr().err
