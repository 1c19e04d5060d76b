"""Which images are in each batch of an epoch."""

import torch

from glimpse.data.batches import EpochBatches


def test_an_epoch_shows_every_image_as_often_as_asked():
    batches = EpochBatches(10, 4, 2, seed=0)
    assert len(batches) == 5
    order = torch.cat(list(batches))
    assert order.bincount().tolist() == [2] * 10
    assert order[:10].bincount().tolist() == [1] * 10


def test_epochs_have_orders_of_their_own_that_follow_from_the_seed():
    batches, same, other = EpochBatches(50, 10, 1, 0), EpochBatches(50, 10, 1, 0), EpochBatches(50, 10, 1, 1)
    first = torch.stack(list(batches))
    batches.set_epoch(1)
    second = torch.stack(list(batches))
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.stack(list(same)))
    assert not torch.equal(first, torch.stack(list(other)))
    batches.set_epoch(0)
    assert torch.equal(first, torch.stack(list(batches)))


def test_a_rest_too_small_for_a_batch_waits_and_a_batch_is_never_larger_than_the_part():
    assert [len(places) for places in EpochBatches(10, 4, 1, 0)] == [4, 4]
    assert [len(places) for places in EpochBatches(10, 64, 1, 0)] == [10]
    assert [len(places) for places in EpochBatches(10, 64, 3, 0)] == [30]
