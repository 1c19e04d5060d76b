import pytest
import torch

from glimpse.data.datamodule import ImageData
from glimpse.nn.retina import Retina
from glimpse_envs.classification.prefiltered import PrefilteredRetina, prefiltered_bytes

EDGES = torch.tensor([-1.0, -0.9999999, -0.8, -0.6, -0.5, 0.0, 0.25, 0.5, 0.9999999, 1.0])


@pytest.mark.parametrize(("size", "num_scales", "zoom"), [(12, 3, 2), (8, 1, 2), (5, 3, 2), (4, 2, 3), (7, 3, 3)])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 60, 60), (3, 31, 46), (1, 25, 100), (3, 9, 7)])
def test_it_sees_what_the_retina_sees_within_half_a_grey_level(channels, height, width, size, num_scales, zoom):
    generator = torch.Generator().manual_seed(height + size)
    images = torch.randint(0, 256, (7, channels, height, width), generator=generator, dtype=torch.uint8)
    retina = Retina(size, num_scales, zoom)
    location = torch.rand(400, 2, generator=generator) * 2 - 1
    location[:100] = torch.cartesian_prod(EDGES, EDGES)
    scene = torch.randint(0, 7, (400,), generator=generator)
    seen = PrefilteredRetina(images, retina)(scene, location)
    exact = retina(images[scene], location)
    assert seen.shape == exact.shape
    assert seen.dtype == torch.float32
    assert float((seen - exact).abs().max()) <= 0.5001 / 255
    torch.testing.assert_close(seen[:, 0], exact[:, 0], atol=1e-7, rtol=0)


def test_locations_at_the_border_between_two_pixels_fall_to_the_same_side():
    # On this image the middles of a 5x5 grid lie exactly between two pixels, where rounding decides.
    images = torch.arange(25 * 25).remainder(251).to(torch.uint8).view(1, 1, 25, 25)
    middles = torch.tensor([-0.8, -0.4, 0.0, 0.4, 0.8])
    steps = torch.arange(-3, 4) * 6e-8
    indices = (middles[:, None] + steps).flatten()
    location = torch.cartesian_prod(indices, indices)
    retina = Retina(8, 2, 2)
    seen = PrefilteredRetina(images, retina)(torch.zeros(len(location), dtype=torch.long), location)
    exact = retina(images.expand(len(location), -1, -1, -1), location)
    assert float((seen - exact).abs().max()) <= 0.5001 / 255


def test_on_real_canvases_many_at_a_time_are_what_each_is_alone():
    images = next(iter(ImageData("digits", canvas_height=60, canvas_width=60, num_pieces=4).test_dataloader()))[0]
    sees = PrefilteredRetina(images, Retina(12, 3, 2))
    location = torch.rand(500, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1
    scene = torch.arange(500)
    together = sees(scene, location)
    for row in (0, 7, 499):
        assert torch.equal(sees(scene[row : row + 1], location[row : row + 1])[0], together[row])


def test_its_memory_is_foretold():
    images = torch.zeros(20, 1, 60, 60, dtype=torch.uint8)
    retina = Retina(12, 3, 2)
    taken = PrefilteredRetina(images, retina)._runs.shape[0]
    assert 0.9 < taken / prefiltered_bytes(tuple(images.shape), retina) < 1.1
