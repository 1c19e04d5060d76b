import pytest
import torch

from glimpse.nn.encoders import COMBINE, WHAT, GlimpseEncoder


def inputs(channels: int, num_scales: int, size: int, batch: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    glimpse = torch.randn(batch, num_scales, channels, size, size, generator=generator)
    return glimpse, torch.rand(batch, 2, generator=generator) * 2 - 1


@pytest.mark.parametrize("size", [4, 7, 8, 12])
@pytest.mark.parametrize(("channels", "num_scales"), [(1, 1), (1, 3), (3, 2)])
@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize("what", WHAT)
def test_any_glimpse_becomes_one_vector_none_of_it_negative(what, combine, channels, num_scales, size):
    encoder = GlimpseEncoder(size, num_scales, channels, 10, what, combine)
    encoding = encoder(*inputs(channels, num_scales, size))
    assert encoding.shape == (5, 10)
    assert encoding.min() >= 0
    assert encoding.max() > 0


@pytest.mark.parametrize("combine", COMBINE)
@pytest.mark.parametrize("what", WHAT)
def test_what_and_where_both_matter(what, combine):
    torch.manual_seed(0)
    encoder = GlimpseEncoder(8, 2, 1, 10, what, combine)
    glimpse, location = inputs(1, 2, 8)
    encoding = encoder(glimpse, location)
    assert not torch.allclose(encoding, encoder(glimpse + 1, location), atol=1e-4)
    assert not torch.allclose(encoding, encoder(glimpse, -location), atol=1e-4)
    assert not torch.allclose(encoding, encoder(glimpse, location.flip(1)), atol=1e-4)


@pytest.mark.parametrize("what", WHAT)
def test_every_scale_and_channel_matters(what):
    torch.manual_seed(0)
    encoder = GlimpseEncoder(8, 2, 3, 16, what, "add")
    glimpse, location = inputs(3, 2, 8)
    encoding = encoder(glimpse, location)
    for scale in range(2):
        for channel in range(3):
            changed = glimpse.clone()
            changed[:, scale, channel] += 2
            assert not torch.allclose(encoding, encoder(changed, location), atol=1e-4)


def test_multiplying_gates_and_adding_does_not():
    encoders = {combine: GlimpseEncoder(6, 1, 1, 8, "mlp", combine) for combine in COMBINE}
    encoders["add"].load_state_dict(encoders["multiply"].state_dict())
    glimpse, location = inputs(1, 1, 6)
    what = encoders["add"].what(glimpse.flatten(1))
    where = encoders["add"].where(location)
    torch.testing.assert_close(encoders["multiply"](glimpse, location), torch.relu(what * where))
    torch.testing.assert_close(encoders["add"](glimpse, location), torch.relu(what + where))


@pytest.mark.parametrize("what", WHAT)
def test_a_batch_mate_never_changes_an_encoding(what):
    encoder = GlimpseEncoder(8, 2, 1, 10, what, "multiply").double()
    glimpse, location = (part.double() for part in inputs(1, 2, 8))
    alone = torch.cat([encoder(glimpse[row : row + 1], location[row : row + 1]) for row in range(5)])
    torch.testing.assert_close(encoder(glimpse, location), alone)


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match=r"glimpse encoder out of \('conv', 'mlp'\), got 'vit'; choose one of them"):
        GlimpseEncoder(8, 1, 1, 8, what="vit")
    with pytest.raises(ValueError, match=r"way to combine out of \('multiply', 'add'\), got 'max'; choose one of them"):
        GlimpseEncoder(8, 1, 1, 8, combine="max")
