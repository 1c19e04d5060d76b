"""Rivals: the options of their trainings, and their order."""

from pathlib import Path

import pytest

from benchmarks.learning.photographs.rivals import (
    ALL,
    FINE_TUNED,
    PROBE,
    RIVALS,
    chosen_rivals,
    fine_tuned,
    from_scratch,
    linear_probe,
)
from benchmarks.learning.photographs.sets import SETS
from glimpse.cli.automatic.survey import Survey
from glimpse.cli.train.run.dry_run import dry_run
from glimpse.data.augmentation import AUGMENTATIONS
from tests.support.folders import flat


def survey(side: int, is_grey: bool) -> Survey:
    return Survey(side, side, side, side, is_grey, has_boxes=False)


def test_rivals_are_trained_in_one_order_the_probe_first():
    assert chosen_rivals(["cnn", PROBE]) == (PROBE, "cnn")
    assert chosen_rivals([ALL]) == chosen_rivals(["cnn", ALL]) == RIVALS
    assert chosen_rivals([]) == ()
    assert RIVALS.index(PROBE) < RIVALS.index(FINE_TUNED)


@pytest.mark.parametrize(("side", "seen"), [(41, 48), (640, 96)])
def test_networks_from_scratch_see_what_the_products_own_sees(side, seen):
    cnn, resnet = (from_scratch(name, survey(side, is_grey=True), "mild") for name in ("cnn", "resnet18"))
    assert cnn.options == (
        "--config=folder-cnn",
        f"--data.image_height={seen}",
        f"--data.image_width={seen}",
        "--data.channels=1",
        "--data.augmentation=mild",
    )
    assert resnet.options == (*cnn.options, "--model.backbone=resnet18", "--model.learning_rate=0.001")


def test_a_pretrained_network_gets_the_images_colours_and_is_trained_on_from_the_probe():
    probe, tuned = linear_probe(survey(640, is_grey=True)), fine_tuned(survey(640, is_grey=True), Path("last.ckpt"))
    assert (probe.is_pretrained, tuned.is_pretrained) == (True, False)
    assert probe.options == ("--config=folder-pretrained", "--data.channels=1")
    assert tuned.options == ("--config=folder-finetuned", "--data.channels=1", "--finetune=last.ckpt")
    assert "--data.channels=3" in linear_probe(survey(41, is_grey=False)).options


def test_the_augmentation_of_every_set_is_known():
    assert {photos.augmentation for photos in SETS.values()} <= set(AUGMENTATIONS)


def test_a_training_takes_the_options_of_resnet18(tmp_path):
    options = from_scratch("resnet18", survey(41, is_grey=False), "strong").options
    data, recipe = dry_run([*options, f"--data.root={flat(tmp_path)}"], "glimpse train")
    assert data.image_shape == [3, 48, 48]
    assert (recipe["model.backbone"], recipe["model.learning_rate"]) == ("resnet18", 0.001)
    assert recipe["data.augmentation"] == "strong"
