import pytest
import torch
from torch import Tensor

from glimpse.data.canvas import Canvas


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def solid(batch: int, channels: int = 1, height: int = 5, width: int = 4, value: int = 200) -> Tensor:
    return torch.full((batch, channels, height, width), value, dtype=torch.uint8)


def corners(canvases: Tensor) -> Tensor:
    """Row and column of the first pixel that isn't black."""
    shown = canvases.amax(1) > 0
    return torch.stack([shown.any(2).int().argmax(1), shown.any(1).int().argmax(1)], 1)


@pytest.mark.parametrize(("height", "width"), [(9, 20), (20, 9), (5, 4), (5, 30)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_lie_whole_on_the_canvas_and_nothing_else_does(channels, height, width):
    images = torch.randint(1, 256, (50, channels, 5, 4), generator=generator(), dtype=torch.uint8)
    canvases = Canvas(height, width).draw(images, images, generator(1))
    assert canvases.shape == (50, channels, height, width)
    assert canvases.dtype == torch.uint8
    for image, canvas, (top, left) in zip(images, canvases, corners(canvases).tolist(), strict=True):
        assert torch.equal(canvas[:, top : top + 5, left : left + 4], image)
        assert int((canvas > 0).sum()) == image.numel()


def test_every_place_is_as_likely_as_any_other():
    height, width = 5 + 5, 4 + 8
    canvases = Canvas(height, width).draw(solid(10_800), solid(1), generator(3))
    places = corners(canvases)
    counts = (places[:, 0] * 9 + places[:, 1]).bincount(minlength=6 * 9).double()
    assert len(counts) == 54
    expected = 10_800 / 54
    assert float(((counts - expected) ** 2 / expected).sum()) < 90.6  # chi-square, 53 degrees: one seed in a thousand


def test_pieces_are_cut_from_the_pool_and_lie_everywhere():
    # Every pixel of the pool names itself, so each patch of a canvas can be looked up.
    pool = torch.arange(1, 1 + 2 * 8 * 10, dtype=torch.uint8).view(2, 1, 8, 10)
    blank = torch.zeros(3000, 1, 8, 10, dtype=torch.uint8)
    canvases = Canvas(9, 13, num_pieces=1, piece_size=4).draw(blank, pool, generator(2))
    places, patches = corners(canvases), set()
    for canvas, (top, left) in zip(canvases, places.tolist(), strict=True):
        assert int((canvas > 0).sum()) == 16
        patches.add(bytes(canvas[0, top : top + 4, left : left + 4].flatten().tolist()))
    cut = {
        bytes(image[0, row : row + 4, column : column + 4].flatten().tolist())
        for image in pool
        for row in range(5)
        for column in range(7)
    }
    assert patches == cut
    assert len(set(map(tuple, places.tolist()))) == 6 * 10


def test_all_is_combined_by_maximum():
    canvas = Canvas(9, 9, num_pieces=6, piece_size=4)
    under = canvas.draw(solid(400, value=100), solid(1, value=60), generator())
    assert set(under.unique().tolist()) == {0, 60, 100}
    assert ((under == 100).sum((1, 2, 3)) == 20).all()
    over = canvas.draw(solid(400, value=100), solid(1, value=160), generator())
    assert ((over == 100).sum((1, 2, 3)) < 20).any()


def test_there_are_as_many_pieces_as_asked_for():
    pool = solid(1, height=2, width=2, value=9)
    blank = torch.zeros(300, 1, 2, 2, dtype=torch.uint8)
    for pieces in (0, 1, 5):
        canvases = Canvas(60, 60, num_pieces=pieces, piece_size=2).draw(blank, pool, generator())
        covered = (canvases > 0).sum((1, 2, 3))
        assert int(covered.max()) == 4 * pieces


def test_the_generator_decides_and_each_call_is_new():
    images = torch.randint(0, 256, (8, 1, 6, 6), generator=generator(), dtype=torch.uint8)
    canvas, one, same = Canvas(20, 30, 3, 4), generator(7), generator(7)
    torch.manual_seed(0)
    first = canvas.draw(images, images, one)
    torch.manual_seed(1)
    assert torch.equal(first, canvas.draw(images, images, same))
    assert not torch.equal(first, canvas.draw(images, images, one))


def test_each_canvas_of_a_batch_is_its_own():
    canvases = Canvas(30, 40, 2, 4).draw(solid(30), solid(5), generator())
    assert len(canvases.flatten(1).unique(dim=0)) > 25


@pytest.mark.parametrize(("height", "width"), [(9, 20), (20, 9), (5, 4), (5, 30)])
def test_boxes_are_where_a_generator_in_the_same_state_draws_the_images(height, width):
    images = torch.randint(1, 256, (40, 3, 5, 4), generator=generator(), dtype=torch.uint8)
    canvas = Canvas(height, width)
    canvases, boxes = canvas.draw(images, images, generator(4)), canvas.boxes(40, 5, 4, generator(4))
    assert torch.equal(boxes[:, [1, 0]], corners(canvases))
    assert torch.equal(boxes[:, 2:], boxes[:, :2] + torch.tensor([4, 5]))


def test_images_are_left_as_they_were():
    images = torch.randint(0, 256, (4, 1, 6, 6), generator=generator(), dtype=torch.uint8)
    before = images.clone()
    Canvas(6, 6, 4, 3).draw(images, images, generator())
    assert torch.equal(images, before)


def test_a_canvas_smaller_than_its_images_is_refused():
    sentence = "expected a canvas of at least 5x4 pixels, the images' size, got 5x3; enlarge canvas_height and canvas_"
    with pytest.raises(ValueError, match=sentence):
        Canvas(5, 3).draw(solid(1), solid(1), generator())


def test_pieces_larger_than_the_images_are_refused():
    with pytest.raises(ValueError, match="no larger than the images they are cut from, 5x4 pixels, got piece_size=5"):
        Canvas(9, 9, 1, 5).draw(solid(1), solid(1), generator())


@pytest.mark.parametrize("wrong", [(0, 5, 0, 8), (5, 0, 0, 8), (5, 5, -1, 8), (5, 5, 1, 0)])
def test_an_impossible_canvas_is_refused(wrong):
    with pytest.raises(ValueError, match="expected a canvas and pieces of at least 1 pixel and a count of pieces that"):
        Canvas(*wrong)
