"""Where a number stopped being finite: the batch is run once more with a hook on every module."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def locate(model: nn.Module, loss: Callable[[], Tensor]) -> str:
    """Names the first parameter, module output or gradient that is not finite, or else the largest gradient if their norm overflows.

    ``loss`` recomputes the step's loss on ``model``.

    A hook on a module runs after those on its children, so the first one to fire names the innermost module that computed the value.
    """
    for name, parameter in model.named_parameters():  # not buffers: the bad pass itself has already spoilt BatchNorm's averages
        if not torch.isfinite(parameter).all():
            return f"parameter {name!r} (before this step)"
    found: list[str] = []
    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_hook(_forward_hook(name, found)))
    for name, parameter in model.named_parameters():
        hooks.append(parameter.register_hook(_gradient_hook(name, found)))
    try:
        value = loss()
        if found:
            return found[0]
        if not torch.isfinite(value):
            return "the loss itself (every module's output is finite)"
        value.backward()
        return found[0] if found else _overflow(model) or "a step that did not repeat itself (all values are finite in a second pass)"
    finally:
        for hook in hooks:
            hook.remove()
        model.zero_grad(set_to_none=True)


def _overflow(model: nn.Module) -> str | None:
    """What an exploding gradient looks like first: every value is finite, the sum of their squares is not."""
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if not gradients or torch.isfinite(torch.nn.utils.get_total_norm(gradients.values())):
        return None
    largest = {name: float(g.abs().amax()) for name, g in gradients.items()}
    name = max(largest, key=lambda n: largest[n])
    return f"the gradient's norm, which overflows: the largest value is {largest[name]:.2g}, in that of parameter {name!r}"


def _forward_hook(name: str, found: list[str]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: object, output: object) -> None:
        if not found and isinstance(output, Tensor) and not torch.isfinite(output).all():
            found.append(f"the output of module {name!r} ({type(module).__name__})")

    return hook


def _gradient_hook(name: str, found: list[str]) -> Callable[[Tensor], None]:
    def hook(gradient: Tensor) -> None:
        if not found and not torch.isfinite(gradient).all():
            found.append(f"the gradient of parameter {name!r}")

    return hook
