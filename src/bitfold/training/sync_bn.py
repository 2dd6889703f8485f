"""BatchNorm over the batch of all processes, on any device: PyTorch's own SyncBatchNorm needs a GPU."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """The sum over all processes; every process's loss depends on it, so the gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def _sum(x: Tensor) -> Tensor:
    result: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return result


class _Synced(nn.modules.batchnorm._BatchNorm):
    """Training statistics are sums over all processes; evaluation and everything else is PyTorch's."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not self.track_running_stats:
            return super().forward(input)
        assert self.num_batches_tracked is not None and self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked.add_(1)
        dims = [d for d in range(input.ndim) if d != 1]
        count = input.numel() / input.shape[1]
        sums = _sum(torch.cat([input.sum(dims), input.new_tensor([count])]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        shape = [1, -1] + [1] * (input.ndim - 2)
        centred = input - mean.view(shape)
        # a second exchange instead of mean(x^2) - mean(x)^2, which cancels badly
        var = _sum(centred.square().sum(dims)) / total
        with torch.no_grad():
            factor = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
            self.running_mean.lerp_(mean, factor)
            self.running_var.lerp_(var * total / (total - 1), factor)
        y = centred * torch.rsqrt(var + self.eps).view(shape)
        return y if self.weight is None else y * self.weight.view(shape) + self.bias.view(shape)

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def synchronise(model: nn.Module) -> None:
    """Every BatchNorm1d and BatchNorm2d of ``model`` counts all processes' samples from now on. In place; names and parameters stay."""
    assert dist.is_initialized()
    for module in model.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            module.__class__ = _Synced
