from typing import Any

import pytest
import torch

from glimpse.models.hard import HardObserver
from glimpse.training.classifier import arguments_of
from glimpse.training.families.hard import HardAttentionTraining
from glimpse.training.families.hard_model import CHOICES, COUNTS, HardModelTraining
from glimpse.training.families.relaxed import RelaxedAttentionTraining
from tests.support.spellings import rejected

FAMILIES = pytest.mark.parametrize("family", [HardAttentionTraining, RelaxedAttentionTraining])
CLASSES, SHAPE = ["cat", "dog"], [1, 20, 30]
SMALL: dict[str, Any] = {
    "num_glimpses": 3,
    "glimpse_size": 6,
    "num_scales": 1,
    "zoom": 3,
    "hidden": 12,
    "what": "conv",
    "combine": "add",
    "core": "lstm",
    "gaze": "layer",
    "gaze_hidden": 8,
}


@FAMILIES
def test_both_trainings_have_the_options_of_the_model_with_the_same_defaults(family):
    shared = arguments_of(HardModelTraining)
    own = arguments_of(family)
    assert {*COUNTS, *CHOICES, "relative", "every_glimpse", "smoothing", "seed"} <= shared.keys()
    assert {name: own[name].default for name in shared} == {name: shared[name].default for name in shared}


@FAMILIES
def test_the_options_of_the_model_and_of_the_retina_arrive(family):
    observer = family(CLASSES, SHAPE, **SMALL).observer
    assert isinstance(observer, HardObserver)
    assert (observer.retina.size, observer.retina.num_scales, observer.retina.zoom) == (6, 1, 3)
    assert observer.num_glimpses == 3
    assert observer.model.gaze_encoder is None
    assert observer.model.core.state_size == 2 * 12
    assert observer(torch.zeros(2, *SHAPE)).logits.shape == (2, 3, 2)


@FAMILIES
@pytest.mark.parametrize("name", COUNTS)
def test_a_count_below_one_is_refused(family, name):
    with rejected(f"expected --model.{name} of at least 1, got 0"):
        family(CLASSES, SHAPE, **(SMALL | {name: 0}))


@FAMILIES
@pytest.mark.parametrize("name", CHOICES)
def test_an_unknown_choice_is_refused(family, name):
    with rejected(f"expected --model.{name} out of .*; got 'none such'"):
        family(CLASSES, SHAPE, **(SMALL | {name: "none such"}))


@FAMILIES
@pytest.mark.parametrize(
    ("retina", "sentence"),
    [
        ({"glimpse_size": 20, "num_scales": 1}, "the finest window takes in the whole image of 20x20 pixels"),
        ({"glimpse_size": 7, "num_scales": 2}, "the widest window of 21 pixels takes in the whole image of 20x20"),
        ({"glimpse_size": 6, "num_scales": 2}, None),
        ({"glimpse_size": 19, "num_scales": 1}, None),
    ],
)
def test_a_window_as_large_as_the_image_is_warned_of(family, retina, sentence):
    warning = family(CLASSES, [1, 20, 20], **(SMALL | retina)).warning()
    assert (warning is None) == (sentence is None)
    assert sentence is None or str(warning).startswith(sentence)


def test_a_window_as_wide_as_the_shorter_side_leaves_something_to_look_for():
    assert (
        HardAttentionTraining(CLASSES, [1, 20, 41], **(SMALL | {"glimpse_size": 10, "num_scales": 2})).warning() is None
    )
