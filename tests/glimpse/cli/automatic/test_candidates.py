"""What is tried on images of which kind."""

from pathlib import Path

import pytest

from glimpse.cli.automatic.candidates import BACKBONE, Contender, candidates_for, finetuned
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
    assert list(found) == ["cnn", "cnn-strong", "pretrained", "focus", "focus-pretrained"]
    assert all("--data.channels=1" in options for options in found.values())
    assert {"--data.image_height=480", "--data.image_width=640", "--data.channels=1"} < set(found["focus"])
    assert "--model.reduction=2" in found["focus"]
    assert all("taught by boxes" in each.reason for each in candidates[-2:])
    assert "taught by the labels alone" in candidates_for(survey(640, 640), has_backbone=False)[-1].reason


@pytest.mark.parametrize("sides", [(30, 30), (64, 50), (96, 400), (4000, 150), (640, 640)])
def test_every_candidate_is_a_training_that_the_command_knows(sides: tuple[int, int]) -> None:
    candidates = candidates_for(survey(*sides), has_backbone=True)
    pretrained = next(candidate for candidate in candidates if candidate.is_pretrained)
    longer = finetuned(pretrained, Path("a.ckpt"))
    for candidate in [*candidates, longer]:
        arguments, _ = complete_arguments(candidate.options, {})
        assert any("ConvolutionalTraining" in each or "--config=" in each for each in arguments)
        assert candidate.reason
    assert BACKBONE in longer.reason
    assert "--data.channels=3" in longer.options
    assert not any("fit_images" in option for option in longer.options)
