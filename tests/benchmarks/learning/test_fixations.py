import pytest
import torch

from benchmarks.learning.fixations import KINDS, interval, roll_out_under
from glimpse.contract.episode import EpisodeRule
from glimpse.evaluation.evaluate import baseline_locations
from glimpse.models.hard import HardAttention
from glimpse.nn.retina import Retina


@pytest.mark.parametrize(
    ("wrong", "images", "expected"), [(0.0, 10, (0.0, 0.2775)), (0.5, 4, (0.15, 0.85)), (0.056, 500, (0.0390, 0.0797))]
)
def test_the_interval_is_wilsons(wrong, images, expected):
    assert interval(wrong, images) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_looks_where_the_evaluation_of_the_kind_looks(kind):
    model = HardAttention(3, glimpse_size=4, num_scales=1, hidden=8)
    images, labels = torch.randint(256, (5, 1, 12, 16), dtype=torch.uint8), torch.zeros(5, dtype=torch.long)

    def choose(step, present):
        raise AssertionError("the policy is asked")

    torch.manual_seed(3)
    trace = roll_out_under(kind)(model, Retina(4, 1), images, labels, 3, EpisodeRule(4), choose, None)
    expected = baseline_locations(kind, 5, 4, torch.Generator().manual_seed(3))
    torch.testing.assert_close(trace.locations, expected)
    assert trace.logits.requires_grad
