"""The optimiser of a stage: the method's parameter groups, the recipe's hyperparameters."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from bitfold.errors import ConfigError, unknown
from bitfold.methods.base import Method
from bitfold.training.bop import Bop
from bitfold.training.recipe import Stage
from bitfold.training.s_adamax import SAdaMax

Groups: TypeAlias = list[dict[str, Any]]


def _sgd(groups: Groups, stage: Stage) -> Optimizer:
    own = stage.optimizer == "sgd"
    return torch.optim.SGD(groups, lr=stage.lr, momentum=stage.momentum if own else 0.0, nesterov=stage.nesterov and own)


def _adam(kind: type[torch.optim.Adam]) -> Callable[[Groups, Stage], Optimizer]:
    return lambda groups, stage: kind(groups, lr=stage.lr, betas=(stage.betas[0], stage.betas[1]))


OPTIMIZERS: dict[str, Callable[[Groups, Stage], Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam(torch.optim.Adam),
    "adamw": _adam(torch.optim.AdamW),
    "bop": lambda groups, stage: Bop(groups),
    "s_adamax": lambda groups, stage: SAdaMax(groups, betas=(stage.betas[0], stage.betas[1])),
}


class Optimizers:
    """The optimisers of a stage as one: the method's parameter groups, each with the recipe's optimiser or the one it names.

    Rates: (the group's ``lr`` or the recipe's) * ``lr_scale`` * (the group's ``factor`` of progress or the recipe's schedule).
    """

    def __init__(self, stage: Stage, method: Method, model: nn.Module) -> None:
        groups = [{**g, "params": [p for p in g["params"] if p.requires_grad]} for g in method.param_groups(model, stage.weight_decay)]
        _check_complete(groups, model, stage.method)
        self.parts: list[Optimizer] = []
        self._rates: list[tuple[float, Callable[[float], float] | None]] = []  # one a group, in the order of param_groups
        for name in dict.fromkeys(g.get("optimizer", stage.optimizer) for g in groups):
            if name not in OPTIMIZERS:
                raise unknown(f"optimizer in param_groups of method {stage.method!r}:", name, OPTIMIZERS)
            mine = [g for g in groups if g.get("optimizer", stage.optimizer) == name]
            # what a checkpoint holds must be plain numbers, so a schedule stays here
            plain = [{k: v for k, v in g.items() if k in ("params", "weight_decay")} | dict(g.get("options", {})) for g in mine]
            self.parts.append(OPTIMIZERS[name](plain, stage))
            self._rates += [(g.get("lr", stage.lr) * g.get("lr_scale", 1.0), g.get("factor")) for g in mine]
        self.set_lr(1.0, 0.0)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def set_lr(self, schedule: float, progress: float) -> None:
        """``schedule``: the recipe's factor at this step."""
        for group, (base, factor) in zip(self.param_groups, self._rates, strict=True):
            group["lr"] = base * (schedule if factor is None else factor(progress))

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, saved: list[dict[str, Any]]) -> None:
        for part, own in zip(self.parts, saved, strict=True):
            part.load_state_dict(own)


def _check_complete(groups: Groups, model: nn.Module, method: str) -> None:
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
