"""Batch normalisation over the batch that several processes share."""

from typing import Any

import torch
from torch import Tensor, distributed, nn

from glimpse.data.share import WHOLE, share_of_this_process


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, in each of them, with its gradient."""

    @staticmethod
    def forward(context: Any, part: Tensor) -> Tensor:
        """Sum the parts."""
        total = part.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """Each part is in the sum of every process."""
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe and Szegedy 2015) by the statistics of a batch of which each process has a share.

    torch's own ``SyncBatchNorm`` does so on GPUs alone. The shares are equally large, so that the mean is the mean of
    the shares' means, and the variance the mean of their variances plus the variance of their means. In evaluation it
    is the ordinary layer.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        """Normalise feature maps, NCHW."""
        share = share_of_this_process()
        if not self.training or share == WHOLE:
            return super().forward(input)
        exact = input.float()
        variances, means = torch.var_mean(exact, (0, 2, 3), correction=0)
        # A sum in which each process has a row of its own: gathered, with a gradient.
        every = SumOverProcesses.apply(share.widen(torch.stack([means, variances])[None]))
        mean = every[:, 0].mean(0)
        variance = every[:, 1].mean(0) + every[:, 0].var(0, correction=0)
        self._track(mean, variance, exact.numel() // self.num_features * len(every))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        normalised = (exact - mean[:, None, None]) * scale[:, None, None]
        if self.affine:
            normalised = normalised + self.bias[:, None, None]
        output: Tensor = normalised.to(input.dtype)
        return output

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics towards those of a batch of so many numbers a channel."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / (count - 1)), share)


def share_batch_norms(model: nn.Module, shared: bool) -> nn.Module:
    """Have a model's batch normalisation use the statistics of all processes, or those of its own process again.

    Args:
        model: Its layers ``BatchNorm2d`` change their class in place; weights and statistics stay as they are.
        shared: Which of the two.
    """
    before: type[nn.Module]
    before, after = (nn.BatchNorm2d, SharedBatchNorm2d) if shared else (SharedBatchNorm2d, nn.BatchNorm2d)
    for layer in model.modules():
        if type(layer) is before:
            layer.__class__ = after
    return model
