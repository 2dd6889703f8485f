"""One stage in progress: everything that changes with a step, and its exchange with a checkpoint."""

from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.tasks.classification import Totals
from bitfold.training.checkpoint import rng_state, set_rng_state
from bitfold.training.optim import Average, Optimizers


@dataclass
class State:
    """``step`` counts the stage's optimiser steps; ``totals`` belong to the present epoch of this process."""

    stage: int
    model: nn.Module
    optimizer: Optimizers
    average: Average | None
    codes: dict[str, Tensor]  # weight codes at the end of the last epoch
    step: int = 0
    totals: Totals = field(default_factory=Totals)
    seconds: float = 0.0  # spent in this stage so far
    epoch_seconds: float = 0.0  # spent in the present epoch so far

    def to_checkpoint(self, fabric: Fabric, rows: int) -> dict[str, Any]:
        """Called by every process; the result holds plain tensors, numbers, lists and dicts only."""
        return {
            "stage": self.stage,
            "step": self.step,
            "rows": rows,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.values if self.average is not None else None,
            "codes": self.codes,
            "totals": fabric.all_reduce(self.totals.sums, reduce_op="sum").cpu(),
            "seconds": self.seconds,
            "epoch_seconds": self.epoch_seconds,
            "rng": rng_state(fabric),
        }

    def restore(self, fabric: Fabric, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.average is not None:
            self.average.values = {name: t.to(fabric.device) for name, t in saved["average"].items()}
        self.codes = saved["codes"]
        self.step, self.seconds, self.epoch_seconds = saved["step"], saved["seconds"], saved["epoch_seconds"]
        # the sums were added over the processes; the first one carries them on
        if fabric.global_rank == 0:
            self.totals = Totals(saved["totals"])
        set_rng_state(fabric, saved["rng"])


def carry_over(previous: dict[str, Tensor], model: nn.Module, exceptions: tuple[str, ...], where: str) -> None:
    """Loads the weights of the stage before by name. A name or shape on one side only is refused unless a pattern of
    ``exceptions`` (``init_except``) matches it; such a tensor of the new model keeps its fresh value."""
    own = model.state_dict()
    bad = {
        **{name: "only in the stage before" for name in previous if name not in own},
        **{name: "new in this stage" for name in own if name not in previous},
        **{
            name: f"shape {tuple(previous[name].shape)} before, {tuple(own[name].shape)} now"
            for name in own
            if name in previous and previous[name].shape != own[name].shape
        },
    }
    refused = {name: why for name, why in bad.items() if not any(fnmatch(name, p) for p in exceptions)}
    if refused:
        listed = "; ".join(f"{name}: {why}" for name, why in list(refused.items())[:8])
        raise ConfigError(f"{where}.init = 'previous': {len(refused)} tensors do not match ({listed}); name them in init_except to go on")
    with torch.no_grad():
        for name, t in own.items():
            if name not in bad:
                t.copy_(previous[name])
