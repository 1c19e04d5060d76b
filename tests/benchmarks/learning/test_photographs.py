"""Photographs: the shares of objects that are found, what is asked of looking, and figures of several calls."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.harness.glimpse_process import Ended
from benchmarks.learning.photographs import __main__ as program
from benchmarks.learning.photographs import product, similar
from benchmarks.learning.photographs.looking import (
    WINDOWS,
    covered,
    found_shares,
    judge,
    measure_looking,
    oracle_locations,
    roll_out,
)
from benchmarks.learning.photographs.product import groups_of_test
from benchmarks.learning.photographs.results import merge_results, read_result
from benchmarks.learning.photographs.sets import SETS, make_up
from benchmarks.learning.photographs.similar import similar_groups
from benchmarks.learning.photographs.uncertainty import standard_error
from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import Split
from glimpse.data.folder import labelled_files
from glimpse.training.classifier import ClassifierTraining
from glimpse.training.families.focus import FocusTraining
from glimpse.training.families.whole_image import ConvolutionalTraining

HEIGHT, WIDTH, WINDOW = 96, 128, 32


def some_boxes(images: int, most: int, generator: torch.Generator) -> torch.Tensor:
    """Boxes of any size; the last rows of every second image are empty."""
    corners = torch.rand(images, most, 2, 2, generator=generator).sort(dim=2).values.flatten(2)
    corners[::2, 1:] = torch.nan
    corners[3] = torch.nan
    return corners


def naive_shares(boxes, locations, chosen) -> tuple[list[float], list[float]]:
    """The definition, in pixels, one object and one window at a time."""
    objects, images = [], []
    for of_image, of_gaze, counts in zip(boxes.tolist(), locations.tolist(), chosen.tolist(), strict=True):
        rows = []
        for left, top, right, bottom in of_image:
            if not counts or math.isnan(left):
                continue
            x, y = (left + right) / 2 * WIDTH, (top + bottom) / 2 * HEIGHT
            row, found = [], False
            for across, down in of_gaze:
                middle_x, middle_y = (across + 1) / 2 * WIDTH, (down + 1) / 2 * HEIGHT
                in_window = abs(x - middle_x) <= WINDOW / 2 and abs(y - middle_y) <= WINDOW / 2
                in_box = left * WIDTH <= middle_x <= right * WIDTH and top * HEIGHT <= middle_y <= bottom * HEIGHT
                found = found or in_window or in_box
                row.append(found)
            rows.append(row)
        if rows:
            objects += rows
            images.append([any(column) for column in zip(*rows, strict=True)])
    return tuple(np.mean(rows, axis=0).tolist() for rows in (objects, images))


def test_shares_of_what_is_found_are_those_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    boxes = some_boxes(40, 3, generator)
    locations = torch.rand(40, 4, 2, generator=generator) * 2 - 1
    for chosen in (torch.ones(40, dtype=torch.bool), torch.arange(40) % 3 == 0):
        shares = found_shares(covered(boxes, locations, WINDOW, HEIGHT, WIDTH), boxes, chosen)
        objects, images = naive_shares(boxes, locations, chosen)
        assert shares["objects"] == pytest.approx(objects)
        assert shares["images"] == pytest.approx(images)
        assert 0 < objects[0] < objects[-1] < 1
        assert shares["number_of_images"] == int((~boxes[chosen][:, 0, 0].isnan()).sum())


def test_without_objects_there_is_no_share():
    boxes = torch.full((5, 2, 4), torch.nan)
    shares = found_shares(torch.zeros(5, 2, 4, dtype=torch.bool), boxes, torch.ones(5, dtype=torch.bool))
    assert (shares["objects"], shares["images"], shares["number_of_objects"]) == (None, None, 0)


def test_an_oracle_looks_at_the_boxes_in_turn_and_elsewhere_where_there_are_none():
    boxes = torch.full((2, 3, 4), torch.nan)
    boxes[0, 0], boxes[0, 1] = torch.tensor([0.0, 0.5, 0.5, 1.0]), torch.tensor([0.75, 0.0, 1.0, 0.5])
    own = torch.tensor([[0.0, 0.0], [0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]).expand(2, -1, -1)
    found = oracle_locations(boxes, own)
    torch.testing.assert_close(found[1], own[1])
    torch.testing.assert_close(found[0], torch.tensor([[0.0, 0.0], [-0.5, 0.5], [0.75, -0.5], [-0.5, 0.5]]))


@pytest.fixture
def looking() -> tuple[FocusTraining, Split]:
    torch.manual_seed(0)
    training = FocusTraining(
        ["none", "spot"], [1, 128, 128], widths=[4], depths=[1], focus_widths=[4], focus_depths=[1], window=32
    ).eval()
    for layer in (training.observer.model.place_classifier, training.observer.model.window_classifier):
        torch.nn.init.normal_(layer.weight)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (12, 1, 128, 128), dtype=torch.uint8, generator=generator)
    return training, Split(images, torch.arange(12) % 2, some_boxes(12, 2, generator))


def test_looking_is_measured_under_every_gaze_and_the_model_is_left_as_it_was(looking):
    training, test = looking
    training.observer.num_glimpses = 2
    found = measure_looking(training.observer, test, list("abcabcabcabc"), [True, False] * 6, balanced=True)
    assert (training.observer.num_glimpses, found["kept"]) == (2, 2)
    assert list(found["gazes"]) == ["own", "random", "centre", "oracle"]
    for of_gaze in found["gazes"].values():
        assert len(of_gaze["accuracy"]) == len(of_gaze["standard_error"]) == 1 + WINDOWS
        assert of_gaze["accuracy"][0] == found["gazes"]["own"]["accuracy"][0]
        assert len(of_gaze["found"]["small"]["images"]) == WINDOWS
    assert found["gazes"]["oracle"]["found"]["all"]["images"][0] == 1.0
    assert found["multiply_accumulates"] == sorted(found["multiply_accumulates"])
    assert found["random_less_glance"][1] == pytest.approx(
        found["gazes"]["random"]["accuracy"][2] - found["gazes"]["random"]["accuracy"][0]
    )
    json.dumps(found | judge(found))
    without = measure_looking(training.observer, Split(test.images, test.labels), ["a"] * 12, [False] * 12, False)
    assert list(without["gazes"]) == ["own", "random", "centre"]
    assert judge(without)["possible"] is None


def test_own_locations_followed_are_the_own_roll_out(looking):
    training, test = looking
    logits, seen = roll_out(training.observer, test.images)
    again, same = roll_out(training.observer, test.images, seen)
    torch.testing.assert_close(again, logits)
    torch.testing.assert_close(same, seen)


def test_all_windows_of_a_model_that_takes_more_are_measured(looking):
    training, test = looking
    training.observer.num_glimpses = 7
    found = measure_looking(training.observer, test, ["a", "b"] * 6, [False] * 12, balanced=False)
    assert len(found["gazes"]["own"]["accuracy"]) == len(found["multiply_accumulates"]) == 7
    assert judge(found)["windows"] == 6


def gazes(own: list[float], oracle: list[float], random: list[float], error: float = 0.0) -> dict[str, Any]:
    return {
        "kept": len(own),
        "gazes": {"own": {"accuracy": own}, "oracle": {"accuracy": oracle}},
        "random_less_glance": random,
        "random_less_glance_standard_error": [error] * len(random),
    }


def test_looking_is_judged_by_half_of_an_oracle_and_by_random_windows():
    good = judge(gazes([0.5, 0.6, 0.7], [0.5, 0.7, 0.8], [0.0, 0.01]))
    assert (good["windows"], good["earns_half"], good["random_lowers"]) == (2, True, False)
    assert good["earned"] == pytest.approx(20)
    assert "looking earns 20.0 points over the glance alone with 2 windows" in good["sentences"][0]
    assert "would earn 30.0: at least half" in good["sentences"][0]
    poor = judge(gazes([0.5, 0.55, 0.6], [0.5, 0.7, 0.8], [-0.05, 0.01], 0.01))
    assert (poor["earns_half"], poor["random_lowers"]) == (False, True)
    assert "the worst is -5.0 (standard error 1.0): lower by more" in poor["sentences"][1]
    assert not judge(gazes([0.5, 0.6], [0.5, 0.7], [-0.05], 0.03))["random_lowers"]
    nothing = judge(gazes([0.5, 0.5], [0.5, 0.4], [0.0]))
    assert nothing["earns_half"] is None
    assert "would earn -10.0: so that there is nothing to earn" in nothing["sentences"][0]


def test_a_standard_error_of_single_images_is_the_binomial_one():
    right = (np.arange(400) % 5 > 0).astype(float)
    labels = np.arange(400) % 2
    expected = math.sqrt(0.8 * 0.2 / 400)
    alone = [str(number) for number in range(400)]
    assert standard_error(right, labels, alone, balanced=False) == pytest.approx(expected, rel=0.08)
    assert standard_error(right, labels, alone, balanced=True) == pytest.approx(expected, rel=0.08)


def test_a_standard_error_of_equal_groups_is_that_of_their_number():
    right = np.repeat((np.arange(40) % 5 > 0).astype(float), 10)
    groups = [str(number // 10) for number in range(400)]
    found = standard_error(right, np.zeros(400, dtype=np.int64), groups, balanced=False)
    assert found == pytest.approx(math.sqrt(0.8 * 0.2 / 40), rel=0.08)


def test_groups_are_those_of_the_test_images_in_their_order(tmp_path):
    folder = make_up(SETS["boards"], tmp_path)
    data = ImageData("folder", str(folder), image_height=32, image_width=32, channels=1)
    groups = groups_of_test(data)
    assert len(groups) == len(data.source.test) == 30
    classes = {name.split("/")[1] for name in groups}
    assert classes == set(SETS["boards"].classes)
    assert [data.classes.index(name.split("/")[1]) for name in groups] == data.source.test.labels.tolist()


def result(seeds: dict[str, Any], **other) -> dict[str, Any]:
    return {"quick": False, "set": "signs", "machine": "new", "seeds": seeds, **other}


def test_figures_of_earlier_calls_are_kept_by_seed_and_rival(tmp_path):
    earlier = result(
        {"0": {"product": {"test": 1, "looking": 2}, "rivals": {"probe": 3, "cnn": 4}}, "10": {"product": {}}},
        machine="old",
    )
    file = tmp_path / "result.json"
    file.write_text(json.dumps(earlier))
    assert read_result(tmp_path / "none.json") == read_result(None) == {}
    latest = result({"2": {"product": {"test": 5}}, "0": {"rivals": {"cnn": 6}}})
    merged = merge_results(read_result(file), latest)
    assert merged["machine"] == "new"
    assert list(merged["seeds"]) == ["0", "2", "10"]
    assert merged["seeds"]["0"] == {"product": {"test": 1, "looking": 2}, "rivals": {"probe": 3, "cnn": 6}}
    again = merge_results(merged, result({"0": {"product": {"training": 7}}}))
    assert again["seeds"]["0"]["product"] == {"training": 7}


@pytest.mark.parametrize("other", [{"set": "tiles"}, {"quick": True}])
def test_figures_of_other_images_are_not_mixed_in(other):
    latest = result({"0": {"product": {}}}, **other)
    assert merge_results(result({"1": {"product": {}}}), latest) == latest
    assert merge_results({}, latest) == latest


class Product:
    """In the place of ``glimpse train DIR``: leaves a model without training, and what is said of its choice.

    Args:
        looks: Whether the chosen model looks; else a trial does.
    """

    def __init__(self, looks: bool) -> None:
        self.looks = looks
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, arguments: tuple[str, ...], workplace: Path, environment: Any, hidden: Any) -> Ended:
        self.calls.append(arguments)
        _, folder, *options = arguments
        output = workplace / options[options.index("--output") + 1]
        chosen, trial = output / "model.ckpt", output / "trials" / "focus" / "last.ckpt"
        trial.parent.mkdir(parents=True)
        data = ImageData("folder", folder, image_height=96, image_width=96, channels=1)
        widths: dict[str, Any] = {"widths": [4], "depths": [1]}
        close: dict[str, Any] = {"focus_widths": [4], "focus_depths": [1], "window": 32, "num_glimpses": 3}
        focus = FocusTraining(data.classes, [1, 96, 96], **widths, **close)
        save(focus, data, chosen if self.looks else trial)
        if not self.looks:
            save(ConvolutionalTraining(data.classes, [1, 96, 96], **widths), data, chosen)
        trials = [
            {"name": name, "epochs": 2, "seconds": 3.0, "validation_error": 0.5, "validation_balanced_error": 0.5}
            for name in ("cnn", "focus")
        ]
        choice = {
            "images": "grey images",
            "measure": "error",
            "chosen": "focus" if self.looks else "cnn",
            "majority_test_error": 0.6,
            "pixel_regression_test_error": 0.5,
            "pixel_regression_test_balanced_accuracy": 0.5,
            "trials": trials,
        }
        (output / "choice.json").write_text(json.dumps(choice))
        return Ended(0, "", 12.5, 20.25)


def save(training: ClassifierTraining, data: ImageData, file: Path) -> None:
    content = {
        "glimpse_model": training.kind,
        "state_dict": training.state_dict(),
        "hyper_parameters": dict(training.hparams),
        "datamodule_hyper_parameters": dict(data.hparams),
    }
    torch.save(content, file)


@pytest.mark.parametrize("looks", [True, False])
def test_a_run_becomes_figures_in_a_file_and_tables(looks, tmp_path, monkeypatch, capsys):
    found = Product(looks)
    monkeypatch.setattr(product, "run_glimpse", found)
    monkeypatch.setattr(program, "use_all_processors", lambda: None)
    file, kept = tmp_path / "photographs-boards.json", tmp_path / "runs"
    arguments = ["boards", "--quick", "--output", str(file), "--keep", str(kept)]
    assert program.main([*arguments, "--seeds", "3"]) == 0
    (call,) = found.calls
    assert call[2:] == ("--minutes", "0.1", "--seed", "3", "--output", "boards-seed3", "--overwrite")
    measured = json.loads(file.read_text())["seeds"]["3"]["product"]
    assert measured["training"]["cpu_seconds"] == 20.2
    assert measured["training"]["command"].startswith("glimpse train circuit-boards --minutes 0.1 --seed 3")
    assert measured["test"]["images"] == 30
    assert measured["test"]["error_standard_error"] > 0
    assert measured["looking"]["of"] == ("the chosen model" if looks else "the trial focus")
    assert measured["looking"]["gazes"]["oracle"]["found"]["small"]["images"] == [1.0] * WINDOWS
    assert "made-up images in the place of" in json.loads(file.read_text())["about"]
    printed = capsys.readouterr().out
    assert f"the choice is {'focus' if looks else 'cnn'}; looking is measured on {measured['looking']['of']}" in printed
    assert "oracle, all kinds, images" in printed
    assert "asked: accuracy at least 80 %" in printed
    assert program.main([*arguments, "--seeds", "3", "--evaluate-only"]) == 0
    again = json.loads(file.read_text())["seeds"]["3"]["product"]
    assert again == measured
    assert len(found.calls) == 1


def test_a_set_that_is_not_there_and_a_run_that_is_not_there(tmp_path, capsys):
    with pytest.raises(SystemExit):
        program.main(["tiles", "--root", str(tmp_path)])
    assert (
        f"expected a folder that holds magnetic-tiles, found none in {tmp_path}; unpack it" in capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        program.main(["tiles", "--quick", "--evaluate-only", "--keep", str(tmp_path)])
    assert "--evaluate-only: expected a run in --keep, its times in --output; run seed 0" in capsys.readouterr().err


def test_a_choice_without_any_model_that_looks_is_said(tmp_path):
    choice = {"chosen": "cnn", "trials": [{"name": "cnn"}]}
    found = product.looking_of(choice, tmp_path, tmp_path, [], SETS["signs"])
    assert found == {"of": None, "sentences": ["the choice is cnn, and no model that looks was tried"]}


def test_similar_photographs_are_those_of_one_direction_from_the_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    middles = torch.randn(3, 64, generator=generator)
    features = 5 + middles[[0, 1, 0, 2, 1, 2]] + 0.05 * torch.randn(6, 64, generator=generator)
    first, second, third = (similar_groups(features)[place] for place in (0, 1, 3))
    assert similar_groups(features) == [first, second, first, third, second, third]
    assert len({first, second, third}) == 3
    assert len(set(similar_groups(features, threshold=0.99999))) == 6


def test_a_table_of_similar_groups_is_one_of_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_up(SETS["tiles"], tmp_path)
    monkeypatch.setattr(similar, "features_of", lambda files: torch.eye(len(files))[: len(files)].repeat(1, 2))
    assert similar.write_similar_groups(folder, tmp_path / "table.csv") > 1
    table = labelled_files(folder, str(tmp_path / "table.csv"))
    laid_out = labelled_files(folder)
    assert set(table.tree.classes) == set(laid_out.tree.classes)
    assert len(table.groups) == sum(len(paths) for parts in laid_out.tree.parts.values() for paths in parts.values())
