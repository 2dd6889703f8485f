"""The method contract: a frozen dataclass whose fields are hyperparameters, and hooks, all optional."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import Tensor, nn

from bitfold.errors import ConfigError, unknown
from bitfold.layers.quant import QuantLayer
from bitfold.layers.swap import swap
from bitfold.quantizers.base import Quantizer


@dataclass(frozen=True, kw_only=True)
class Method:
    """Base of all methods. A subclass in ``methods/<name>.py`` with ``METHOD = Subclass`` is found by its file name.

    The three fields say which layers besides the inner ones are quantised (the field's default: none of them).
    Fields are bool, int, float, str or ``Literal[...]``; their types and choices are checked here, their ranges by the subclass.
    """

    first: bool = False  # the first conv or linear
    last: bool = False  # the classifier
    shortcut: bool = False  # convs on residual shortcuts

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            _check(f"{type(self).__name__}.{field.name}", hints[field.name], getattr(self, field.name))

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        """The weight slot of ``layer`` (see ``layer.role``); None leaves it in float."""
        return None

    def act_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        """The input slot of ``layer``; None leaves it in float."""
        return None

    def grad_quantizer(self, layer: QuantLayer) -> nn.Module | None:
        """A module that is the identity on the output of ``layer`` and changes the gradient that comes back; None changes nothing."""
        return None

    def transform(self, model: nn.Module, keep_float: Collection[str] = ()) -> nn.Module:
        """Structural change. The default swaps every eligible conv/linear for its Quant twin (same parameters, same names)."""
        return swap(model, self, keep_float)

    def param_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups with their own weight decay (and learning-rate factor ``lr_scale``). Default: one group, all parameters."""
        return [{"params": [p for p in model.parameters() if p.requires_grad], "weight_decay": weight_decay}]

    def before_step(self, model: nn.Module, progress: float) -> None:
        """Before each forward; progress in [0, 1] over the stage, rising with optimiser steps."""

    def after_step(self, model: nn.Module, progress: float) -> None:
        """After each optimiser step (clamps, recentring)."""

    def loss(self, model: nn.Module, batch: Any, outputs: Tensor, teacher: Tensor | None, task_loss: Tensor) -> Tensor:
        """The training loss. ``batch``: (inputs, targets); ``teacher``: the teacher's outputs or None; ``task_loss``: the task's own
        loss. Default: task_loss."""
        return task_loss

    def calibrate(self, model: nn.Module, loader: Any) -> None:
        """Post-training methods: set quantisers from data."""


def _check(where: str, hint: Any, value: Any) -> None:
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise unknown(where, str(value), [str(choice) for choice in get_args(hint)])
        return
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
