import pytest
import torch
from torch import Tensor, nn

from glimpse.models.hard import HardAttention, HardObserver
from glimpse.models.observer import Observer
from glimpse.nn.retina import Retina

RETINA = Retina(6, 2, 2)


class Plain(nn.Module):
    """A stand-in for a model that takes the image in at once."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("std", torch.ones(1))


def hard(num_glimpses: int = 3) -> HardObserver:
    torch.manual_seed(0)
    model = HardAttention(4, 1, 6, 2, 12, gaze_hidden=8)
    for parameter in model.policy.parameters():  # type: ignore[attr-defined]
        torch.nn.init.normal_(parameter, std=0.5)
    return HardObserver(model, RETINA, num_glimpses)


def images_of(batch: int = 4) -> Tensor:
    return torch.rand(batch, 1, 20, 34, generator=torch.Generator().manual_seed(1))


def test_a_retina_takes_in_its_windows_and_no_retina_the_whole_image():
    assert hard(num_glimpses=3).pixels_sensed(3, 40, 60) == 3 * 3 * 2 * 36
    assert hard(num_glimpses=1).pixels_sensed(1, 4000, 60) == 2 * 36
    assert Observer(Plain(), num_glimpses=5).pixels_sensed(3, 40, 60) == 3 * 40 * 60


def test_it_is_where_its_model_is():
    observer = Observer(Plain(), num_glimpses=1)
    assert observer.device.type == "cpu"
    assert observer.to("meta").device.type == "meta"


def test_its_weights_and_its_mean_are_the_models():
    observer = hard()
    assert {name for name in observer.state_dict() if "mean" in name} >= {"model.mean"}
    assert list(observer.parameters()) == list(observer.model.parameters())


def test_what_a_family_does_not_say_is_not_made_up():
    observer = Observer(Plain(), num_glimpses=1)
    with pytest.raises(NotImplementedError):
        observer(images_of())
    with pytest.raises(NotImplementedError):
        observer.following(images_of(), torch.zeros(4, 1, 2))


def test_the_hard_model_begins_at_the_centre_and_follows_its_mode():
    observer = hard()
    trace = observer(images_of())
    assert trace.locations.shape == (4, 3, 2)
    assert not trace.locations[:, 0].any()
    assert trace.locations[:, 1:].std(0).min() > 0
    step = observer.model(RETINA(images_of(), torch.zeros(4, 2)), torch.zeros(4, 2), observer.model.initial_state(4))
    mode = observer.model.policy.location(observer.model.policy.mode(step.policy))
    torch.testing.assert_close(trace.locations[:, 1], mode)
    assert trace.maps is None


def test_the_hard_model_looks_where_it_is_told_however_often():
    observer = hard(num_glimpses=3)
    locations = torch.rand(4, 5, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
    assert torch.equal(observer.following(images_of(), locations).locations, locations)
    own = observer(images_of())
    torch.testing.assert_close(observer.following(images_of(), own.locations).logits, own.logits)
    assert not torch.allclose(observer.following(images_of(), own.locations.flip(2)).logits, own.logits, atol=1e-4)
