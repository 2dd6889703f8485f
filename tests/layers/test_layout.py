"""Gradients keep the layout of the activations that they belong to."""

import torch
from torch import Tensor, nn

from bitfold import models
from bitfold.layers.layout import keep_channels_last, memory_format


def gradient_formats(model: nn.Module) -> set[bool]:
    """Whether the gradients at the BatchNorms' outputs are channels_last."""
    seen: set[bool] = set()

    def look(gradient: Tensor) -> None:
        seen.add(gradient.is_contiguous(memory_format=torch.channels_last))

    def watch(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        output.register_hook(look)

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(watch)
    x = torch.randn(2, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    model(x).sum().backward()
    return seen


def test_gradients_stay_channels_last() -> None:
    plain, kept = (models.create("resnet20").to(memory_format=torch.channels_last) for _ in range(2))  # type: ignore[call-overload]
    kept.load_state_dict(plain.state_dict())
    keep_channels_last(kept)
    torch.manual_seed(0)
    assert gradient_formats(plain) == {False}  # the global mean before the classifier sends back the usual layout
    torch.manual_seed(0)
    assert gradient_formats(kept) == {True}
    for a, b in zip(plain.parameters(), kept.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


def test_compiled_networks_on_a_cpu_choose_for_themselves() -> None:
    assert memory_format("cpu") is memory_format("cuda", compiled=True) is torch.channels_last
    assert memory_format("cpu", compiled=True) is torch.contiguous_format
