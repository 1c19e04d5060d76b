import math
from typing import Any
from unittest.mock import NonCallableMagicMock

import pytest
import pytorch_lightning as lightning
import torch
from torch import nn

from glimpse.training.divergence import INTERVAL, DivergedError, DivergenceStop, check_weights


def trainer_at(step: int) -> Any:
    return NonCallableMagicMock(spec=lightning.Trainer, global_step=step)


def module(weight: float = 1.0) -> Any:
    made = lightning.LightningModule()
    made.layer = nn.Linear(1, 1)
    nn.init.constant_(made.layer.weight, weight)
    return made


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_finite_number_stops_before_its_step(loss):
    stop = DivergenceStop()
    stop.on_before_backward(trainer_at(6), module(), torch.tensor(2.5))
    with pytest.raises(DivergedError, match=f"the loss became {loss} at step 8; lower learning_rate, clip the"):
        stop.on_before_backward(trainer_at(7), module(), torch.tensor(loss))


def test_a_device_that_computes_on_its_own_is_asked_now_and_then_and_before_a_checkpoint():
    class Elsewhere(torch.Tensor):
        """A tensor that says it lies on a GPU."""

        device = torch.device("cuda")

        def detach(self):
            return self.as_subclass(torch.Tensor)

    def loss(value: float) -> torch.Tensor:
        return torch.tensor(value).as_subclass(Elsewhere)

    stop = DivergenceStop()
    for step in range(INTERVAL - 1):
        stop.on_before_backward(trainer_at(step), module(), loss(math.nan if step == 4 else 1.0))
    with pytest.raises(DivergedError, match="nan at step 5"):
        stop.on_before_backward(trainer_at(INTERVAL), module(), loss(1.0))
    stop.on_train_start(trainer_at(0), module())
    stop.on_before_backward(trainer_at(1), module(), loss(math.inf))
    with pytest.raises(DivergedError, match="inf at step 2"):
        stop.on_save_checkpoint(trainer_at(2), module(), {"state_dict": {}})


def test_no_checkpoint_holds_bad_weights():
    stop, bad = DivergenceStop(), module(math.nan)
    with pytest.raises(DivergedError, match=r"the weights layer.weight were no finite numbers any more after step 3"):
        stop.on_save_checkpoint(trainer_at(3), bad, {"state_dict": dict(bad.state_dict())})
    with pytest.raises(DivergedError, match=r"the weights layer.weight were no finite numbers any more after step 3"):
        stop.on_validation_start(trainer_at(3), bad)
    good = module()
    stop.on_validation_start(trainer_at(3), good)
    stop.on_save_checkpoint(trainer_at(3), good, {"state_dict": dict(good.state_dict())})


def test_whole_numbers_are_no_weights_that_can_diverge():
    check_weights({"count": torch.tensor(3), "kind": "a", "weight": torch.ones(2)}, 1)


def test_the_advice_is_written_as_the_front_end_writes_options():
    error = DivergedError("the loss became nan at step 2")
    assert error.render(lambda argument: f"--x.{argument.name}").endswith("or compute in --x.precision")
    assert "gradient_clip_val=1.0" in str(error)
