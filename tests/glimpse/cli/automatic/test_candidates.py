"""What is tried on images of which kind."""

from pathlib import Path

import pytest

from glimpse.cli.automatic.candidates import BACKBONE, Contender, candidates_for, trained_on
from glimpse.cli.automatic.survey import Survey
from glimpse.cli.train.arguments import complete_arguments


def survey(width: int, height: int, is_grey: bool = False, has_boxes: bool = False) -> Survey:
    return Survey(width, height, min(width, height), max(width, height), is_grey, has_boxes)


def named(candidates: list[Contender]) -> dict[str, tuple[str, ...]]:
    return {candidate.name: candidate.options for candidate in candidates}


def test_small_images_are_seen_whole_in_their_own_size() -> None:
    found = named(candidates_for(survey(44, 46), has_backbone=False))
    assert list(found) == ["cnn", "cnn-strong"]
    assert {"--data.image_height=48", "--data.image_width=48", "--data.channels=3"} < set(found["cnn"])


def test_large_images_are_looked_at_as_well() -> None:
    candidates = candidates_for(survey(1600, 1200, is_grey=True, has_boxes=True), has_backbone=True)
    found = named(candidates)
    assert list(found) == ["pretrained", "cnn", "cnn-strong", "focus"]
    assert all("--data.channels=1" in options for options in found.values())
    assert {"--data.image_height=480", "--data.image_width=640", "--data.channels=1"} < set(found["focus"])
    assert "--model.reduction=2" in found["focus"]
    assert "taught by boxes" in candidates[-1].reason
    assert "taught by the labels alone" in candidates_for(survey(640, 640), has_backbone=False)[-1].reason


@pytest.mark.parametrize("sides", [(30, 30), (64, 50), (96, 400), (4000, 150), (640, 640)])
def test_every_candidate_is_a_training_that_the_command_knows(sides: tuple[int, int]) -> None:
    candidates = candidates_for(survey(*sides), has_backbone=True)
    pretrained = next(candidate for candidate in candidates if candidate.is_pretrained)
    for candidate in [*candidates, trained_on(pretrained, Path("a.ckpt"), survey(*sides))]:
        arguments, _ = complete_arguments(candidate.options, {})
        assert any("ConvolutionalTraining" in each or "--config=" in each for each in arguments)
        assert candidate.reason
        assert min(candidate.canvas) > 0


def test_a_pretrained_network_that_was_chosen_is_trained_on_and_looks_where_that_may_earn_something() -> None:
    def becomes(side: int, **options: bool) -> Contender:
        images = survey(side, side, **options)
        pretrained = next(each for each in candidates_for(images, has_backbone=True) if each.is_pretrained)
        return trained_on(pretrained, Path("a.ckpt"), images)

    small = becomes(447, is_grey=True)
    assert small.name == "finetuned"
    assert {"--data.channels=1", "--finetune=a.ckpt"} < set(small.options)
    assert not any("fit_images" in option for option in small.options)
    assert BACKBONE in small.reason
    assert becomes(448).name == "focus-pretrained"
    assert becomes(191, has_boxes=True).name == "finetuned"
    looking = becomes(192, has_boxes=True, is_grey=True)
    assert looking.name == "focus-pretrained"
    assert "--data.channels=1" in looking.options
    assert "taught by boxes" in looking.reason
