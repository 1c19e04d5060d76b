from typing import Any

import pytest
from PIL import Image

from benchmarks.training import processes


def result() -> dict[str, Any]:
    curves = {"train_loss": [2.0, 1.5], "val_error": [0.5, 0.25]}
    side = {"images_an_epoch": 100, "images_per_second": 50.0, "images_per_cpu_second": 40.0, "curves": curves}
    return {
        "quick": True,
        "machine": {
            "processor": "some",
            "cores": 2,
            "load_average": [1.0],
            "threads": {},
            "versions": {},
            "commit": "a",
        },
        "load_average_after": [1.0],
        "sides": [side | {"side": name} for name in processes.SIDES],
        "times_faster": 1.0,
        "times_faster_per_cpu_second": 1.0,
        "largest_difference_of_a_weight": {"first epoch": 1e-6, "last epoch": 2e-3},
    }


def test_both_sides_train_the_same_recipe():
    one, two = (processes.arguments_of(devices, 3, 2, "run") for devices in processes.SIDES.values())
    assert [pair for pair in zip(one, two, strict=True) if pair[0] != pair[1]] == [("1", "2")]


def test_both_sides_are_in_the_tables_and_in_one_picture(tmp_path):
    text = processes.report(result())
    assert text.count("one process") == 3
    assert "validation error, two processes  0.5000  0.2500" in text
    assert "largest difference of a weight after the first epoch: 1e-06, the last epoch: 0.002" in text
    processes.draw(result(), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as drawn:
        assert drawn.width > drawn.height


@pytest.mark.child
def test_a_training_that_fails_shows_what_it_printed(tmp_path):
    with pytest.raises(RuntimeError, match=r"status 2\nglimpse train: there is no option --nothing"):
        processes.train_to_the_end(["--nothing", "1"], tmp_path)
