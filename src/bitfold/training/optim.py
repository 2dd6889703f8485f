"""The optimiser of a stage: the method's parameter groups, the recipe's hyperparameters."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bitfold.errors import ConfigError
from bitfold.methods.base import Method
from bitfold.training.recipe import Stage


def make_optimizer(stage: Stage, method: Method, model: nn.Module) -> Optimizer:
    """Groups from ``method.param_groups``; a group's ``lr_scale`` (default 1) multiplies the learning rate for the whole stage."""
    groups = []
    for group in method.param_groups(model, stage.weight_decay):
        groups.append({"lr_scale": 1.0, **group, "params": [p for p in group["params"] if p.requires_grad]})
    _check_complete(groups, model, stage.method)
    for group in groups:
        group["lr"] = stage.lr * group["lr_scale"]
    if stage.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=stage.lr, momentum=stage.momentum, nesterov=stage.nesterov)
    betas = (stage.betas[0], stage.betas[1])
    kind = torch.optim.Adam if stage.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=stage.lr, betas=betas)


def set_lr(optimizer: Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def _check_complete(groups: list[dict[str, list[Tensor]]], model: nn.Module, method: str) -> None:
    """A parameter that a method forgets would silently never train."""
    grouped = {id(p) for g in groups for p in g["params"]}
    missing = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in grouped]
    if missing:
        raise ConfigError(f"method {method!r}: param_groups leaves out {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}")


class Average:
    """Exponential moving average of a model's parameters; buffers (BatchNorm statistics) are copied as they are."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: t.detach().clone() for name, t in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        parameters = dict(model.named_parameters())
        for name, t in model.state_dict().items():
            if name in parameters:
                self.values[name].lerp_(t, 1.0 - self.decay)
            else:
                self.values[name].copy_(t)

    def swap(self, model: nn.Module) -> None:
        """Exchanges the model's state with the average; call it again to undo."""
        current = {name: t.detach().clone() for name, t in model.state_dict().items()}
        model.load_state_dict(self.values)
        self.values = current
