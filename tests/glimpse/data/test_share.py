from typing import Any

import pytest
import torch

from glimpse.data.batches import EpochBatches
from glimpse.data.canvas import Canvas
from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import DataError
from glimpse.data.held_out import generator_for
from glimpse.data.share import WHOLE, Share, drawn_for, mean_over_processes, share_of_this_process
from glimpse.models.relaxed import reparametrised, spread_over
from glimpse.nn.heads import GaussianPolicy, GridPolicy
from glimpse.rollout import fixed, sample_from

SHARES = [Share(index, 3) for index in range(3)]


def test_a_share_is_a_part_of_the_batch_and_goes_back_to_its_place():
    whole = torch.arange(12).reshape(6, 2)
    assert torch.equal(torch.cat([share.take(whole) for share in SHARES]), whole)
    assert torch.equal(torch.stack([share.widen(share.take(whole)) for share in SHARES]).sum(0), whole)
    assert WHOLE.take(whole) is WHOLE.widen(whole) is whole


def test_the_only_process_has_the_whole_batch():
    assert share_of_this_process() == WHOLE
    number = torch.tensor(2.0, requires_grad=True)
    assert mean_over_processes(number) == 2
    assert not mean_over_processes(number).requires_grad


def test_a_generator_of_no_share_draws_for_the_rows_it_gets():
    rows = torch.zeros(4)
    drawn = drawn_for(torch.Generator().manual_seed(1), rows, lambda rows: rows + 1)
    assert torch.equal(drawn, torch.ones(4))


class Parameters:
    """A step, as far as a choice looks at it."""

    def __init__(self, policy: torch.Tensor) -> None:
        self.policy = policy


CHOOSERS: dict[str, tuple[Any, int, Any]] = {
    "gaussian": (GaussianPolicy(4), 2, lambda policy, generator: sample_from(policy, 0.3, generator)),
    "grid": (GridPolicy(4, 3), 9, lambda policy, generator: sample_from(policy, 1.0, generator)),
    "pathwise": (GaussianPolicy(4), 2, lambda policy, generator: reparametrised(policy, 0.3, generator)),
    "gumbel": (GridPolicy(4, 3), 9, lambda policy, generator: spread_over(policy, 0.7, False, generator)),
}


@pytest.mark.parametrize("name", CHOOSERS)
def test_the_choices_of_the_shares_are_those_of_the_whole_batch(name):
    policy, size, chooser = CHOOSERS[name]
    parameters = torch.randn(6, size, generator=torch.Generator().manual_seed(0))

    def locations(share: Share) -> torch.Tensor:
        choose: Any = chooser(policy, generator_for("cpu", 5, share=share))
        step = Parameters(share.take(parameters))
        return torch.cat([choose(step, fixed(torch.zeros(len(step.policy), 2))).location for _ in range(2)], 1)

    together = torch.cat([locations(share) for share in SHARES])
    torch.testing.assert_close(together, locations(WHOLE))
    assert together.unique(dim=0).shape[0] > 1


@pytest.mark.parametrize("options", [{"canvas_height": 40, "canvas_width": 44, "num_pieces": 3}, {"jitter": 3}])
def test_the_canvases_of_the_shares_are_those_of_the_whole_batch(options):
    data = ImageData("digits", **options)
    images = data.source.train.images[:12]
    parts = [data.draw(share.take(images), 2, 7, share) for share in SHARES]
    assert torch.equal(torch.cat(parts), data.draw(images, 2, 7))


def test_boxes_follow_the_share():
    canvas = Canvas(40, 44)
    whole = canvas.boxes(6, 8, 8, generator_for("cpu", 3))
    parts = [canvas.boxes(2, 8, 8, generator_for("cpu", 3, share=share)) for share in SHARES]
    assert torch.equal(torch.cat(parts), whole)


def test_the_order_of_the_shares_is_that_of_the_whole_batch():
    whole = list(EpochBatches(20, 6, 2, seed=4))
    shares = zip(*(EpochBatches(20, 6, 2, seed=4, share=share) for share in SHARES), strict=True)
    for batch, parts in zip(whole, shares, strict=True):
        assert torch.equal(torch.cat(parts), batch)


def test_a_batch_without_equal_shares_is_refused():
    with pytest.raises(DataError, match=r"expected batch_size to be a multiple of 3, .*got 20; change it"):
        EpochBatches(10, 64, 2, seed=0, share=SHARES[0])
