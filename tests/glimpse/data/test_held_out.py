import pytest
import torch

from glimpse.data.canvas import Canvas
from glimpse.data.datamodule import ImageData
from glimpse.data.datasets import Split
from glimpse.data.held_out import FrozenBlocks, generator_for


def test_blocks_are_drawn_one_by_one_and_the_last_may_be_short(mnist_root):
    data = ImageData("mnist", str(mnist_root), canvas_height=60, canvas_width=60, num_pieces=4)
    blocks = data.test_dataloader().dataset
    assert isinstance(blocks, FrozenBlocks)
    assert len(blocks) == 20
    images, labels = blocks[7]
    assert torch.equal(images, blocks[7][0])
    assert torch.equal(labels, data.source.test.labels[3500:4000])
    assert len(FrozenBlocks(data.source.train, None, 1)[113][1]) == 500
    with pytest.raises(IndexError, match="expected a block from 0 to 19, got 20"):
        blocks[20]


def test_blocks_do_not_repeat_one_another():
    part = ImageData("digits").source.train
    same = Split(torch.full_like(part.images, 255), part.labels)
    first, second, rest = (FrozenBlocks(same, Canvas(60, 60), 1)[block][0] for block in range(3))
    assert len(rest) == 97
    assert not torch.equal(first, second)
    assert not torch.equal(first[:97], rest)


def test_generators_follow_from_all_their_numbers():
    def draw(*numbers: int) -> int:
        return int(torch.randint(2**40, (1,), generator=generator_for("cpu", *numbers)))

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(1, 2), draw(2, 1), draw(1, 2, 1), draw(12), draw(1, 3)}) == 5
    assert len({draw(), draw(0), draw(0, 0), draw(2, 1), draw(2, 1, 0), draw(2, 1, 0, 0)}) == 6
