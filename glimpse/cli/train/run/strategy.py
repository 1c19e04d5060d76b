"""How Lightning trains with several processes that Glimpse starts: gradients are averaged, and so are statistics."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.plugins import LayerSync
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, distributed, nn

from glimpse.cli.train.run.batch_norm import share_batch_norms
from glimpse.cli.train.run.processes import ProcessPlace
from glimpse.cli.usage import UsageError

STRATEGIES = ("auto", "ddp")
"""The names of the strategies of a training with several processes, by which each has a share of every batch."""


class OneMachine(LightningEnvironment):
    """The processes of a training on this machine, which :mod:`glimpse.cli.train.run.processes` starts.

    Args:
        place: Which of them this is.
    """

    def __init__(self, place: ProcessPlace) -> None:
        super().__init__()
        self._place = place
        if place.port:
            self._main_port = place.port

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts none."""
        return True

    @property
    def main_address(self) -> str:
        """This machine."""
        return "127.0.0.1"

    def local_rank(self) -> int:
        """Which process this is."""
        return self._place.index

    def node_rank(self) -> int:
        """There is one machine."""
        return 0


class AveragedGradients(DDPStrategy):
    """Each process has a copy of the model, and their gradients are averaged after every backward pass.

    All of them go in one message, which suits models as small as ours; and a model may have weights that a recipe does
    not train, which ``DistributedDataParallel``, that Lightning would wrap it in, has to search for in every step.
    """

    def configure_ddp(self) -> None:
        """Begin with the same weights everywhere, in a model that is not wrapped."""
        assert self.model is not None
        for tensor in self.model.state_dict().values():
            distributed.broadcast(tensor, 0)

    def post_backward(self, closure_loss: Tensor) -> None:
        """Average the gradients."""
        assert self.model is not None
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        mean = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(mean)
        parts = (mean / self.num_processes).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


class SharedBatchNorms(LayerSync):
    """Have batch normalisation use the statistics of the whole batch while several processes train."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Change the layers."""
        return share_batch_norms(model, shared=True)

    def revert(self, model: nn.Module) -> nn.Module:
        """Change them back."""
        return share_batch_norms(model, shared=False)


def parallel_options(chosen: Mapping[str, Any], place: ProcessPlace, own_data: bool) -> dict[str, Any]:
    """The trainer's options of a training with several processes; none where there is to be one.

    Args:
        chosen: The trainer's options as they were given.
        place: Which process this is.
        own_data: Whether the data are of our class, which gives each process its share by itself.

    Raises:
        UsageError: When the user chose another strategy, or several machines.
    """
    if chosen["num_nodes"] != 1:
        raise UsageError(f"--trainer.num_nodes: expected 1, this machine, got {chosen['num_nodes']}; leave it out")
    if str(chosen["devices"]) == "1":
        return {}
    if chosen["strategy"] not in STRATEGIES:
        raise UsageError(
            f"--trainer.strategy: expected one of {', '.join(STRATEGIES)} with several devices, got "
            f"{chosen['strategy']}; leave it out"
        )
    plugins = chosen["plugins"] or []
    return {
        "strategy": AveragedGradients(),
        "plugins": [*(plugins if isinstance(plugins, list) else [plugins]), OneMachine(place), SharedBatchNorms()],
        "use_distributed_sampler": chosen["use_distributed_sampler"] and not own_data,
    }
