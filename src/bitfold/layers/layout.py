"""Memory layout of images: channels last, in the forward and in the backward pass."""

from typing import Any

import torch
from torch import Tensor, nn


def memory_format(device: torch.device | str, compiled: bool = False) -> torch.memory_format:
    """Of 4-D tensors: channels_last, save for compiled networks on CPUs, whose compiler chooses layouts itself (and is faster so)."""
    if compiled and torch.device(device).type == "cpu":
        return torch.contiguous_format
    return torch.channels_last


def keep_channels_last(model: nn.Module) -> None:
    """Lets every module of ``model`` hand gradients of channels_last outputs on as channels_last.

    A global mean or a strided slice sends back a gradient in the usual layout, and every BatchNorm and activation before it passes that
    on: their backward passes then mix layouts, which made ResNet-20's step half as long again on a CPU. For eager networks.
    """
    for module in model.modules():
        if next(module.children(), None) is None:
            module.register_forward_hook(_watch)


def _watch(module: nn.Module, inputs: Any, output: Any) -> None:
    if isinstance(output, Tensor) and output.ndim == 4 and output.requires_grad and output.is_contiguous(memory_format=torch.channels_last):
        output.register_hook(_channels_last)


def _channels_last(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)
