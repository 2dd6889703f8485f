"""One look at a network while it runs, which leaves it as it was."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def probing(model: nn.Module, hooks: Iterable[tuple[nn.Module, Callable[[nn.Module, Any, Any], None]]]) -> Iterator[None]:
    """Within it ``model`` is in evaluation mode, makes no gradients, and calls each forward hook (module, hook). Afterwards the hooks are
    gone and every module is in its own mode again, whatever happened."""
    modes = {module: module.training for module in model.modules()}
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
