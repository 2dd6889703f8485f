"""The hook between the backward pass and the optimiser's step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.training.recipes import short
from torch import nn

from bitfold.methods.base import Method, Wrapper
from bitfold.training import train as training


def test_gradients_are_there_and_the_weights_not_yet_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In ``train``, through a method on top of another."""
    seen: list[tuple[bool, bool]] = []
    weights: dict[str, Any] = {}

    @dataclass(frozen=True, kw_only=True)
    class Watcher(Method):
        def before_step(self, model: nn.Module, progress: float) -> None:
            weights.update({n: p.detach().clone() for n, p in model.named_parameters()})

        def after_backward(self, model: nn.Module, progress: float) -> None:
            parameters = dict(model.named_parameters())
            seen.append((all(p.grad is not None for p in parameters.values()), all(weights[n].equal(p) for n, p in parameters.items())))

        def after_step(self, model: nn.Module, progress: float) -> None:
            assert all(p.grad is None for p in model.parameters())

    monkeypatch.setattr(training, "make_method", lambda stage, where: Wrapper(base=Watcher()))
    training.train(short("stage.method=float", "stage.epochs=1", "data.train_limit=80"), tmp_path / "run", accelerator="cpu", quiet=True)
    assert seen == [(True, True)] * 2
