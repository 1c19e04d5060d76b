import pytest
from pytorch_lightning.plugins import Precision
from torch import nn

from glimpse.cli.train.run.batch_norm import SharedBatchNorm2d
from glimpse.cli.train.run.processes import FIRST, ProcessPlace
from glimpse.cli.train.run.strategy import AveragedGradients, OneMachine, SharedBatchNorms, parallel_options
from glimpse.cli.usage import UsageError

GIVEN = {"num_nodes": 1, "devices": 2, "strategy": "auto", "plugins": None, "use_distributed_sampler": True}


def test_one_process_needs_no_options():
    assert parallel_options(GIVEN | {"devices": 1}, FIRST, own_data=True) == {}
    assert parallel_options(GIVEN | {"devices": "1"}, FIRST, own_data=True) == {}


def test_several_processes_average_their_gradients_and_keep_what_the_user_plugged_in():
    precision = Precision()
    options = parallel_options(GIVEN | {"plugins": precision}, FIRST, own_data=True)
    assert isinstance(options["strategy"], AveragedGradients)
    assert [type(plugin) for plugin in options["plugins"]] == [Precision, OneMachine, SharedBatchNorms]
    assert options["use_distributed_sampler"] is False
    assert parallel_options(GIVEN, FIRST, own_data=False)["use_distributed_sampler"] is True


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"num_nodes": 2}, "--trainer.num_nodes: expected 1, this machine, got 2"),
        (
            {"strategy": "ddp_spawn"},
            "--trainer.strategy: expected one of auto, ddp with several devices, got ddp_s",
        ),
    ],
)
def test_what_is_shared_otherwise_is_refused(wrong, sentence):
    with pytest.raises(UsageError, match=sentence):
        parallel_options(GIVEN | wrong, FIRST, own_data=True)


def test_the_first_process_chooses_the_port_and_the_others_are_told():
    first, second = OneMachine(FIRST), OneMachine(ProcessPlace(1, 4711))
    assert first.main_port == first.main_port > 0
    assert (second.main_address, second.main_port) == ("127.0.0.1", 4711)
    assert (second.local_rank(), second.node_rank(), second.creates_processes_externally) == (1, 0, True)


def test_layers_change_for_the_training_and_change_back():
    model = nn.Sequential(nn.BatchNorm2d(2))
    assert type(SharedBatchNorms().apply(model)[0]) is SharedBatchNorm2d  # type: ignore[index]
    assert type(SharedBatchNorms().revert(model)[0]) is nn.BatchNorm2d  # type: ignore[index]
