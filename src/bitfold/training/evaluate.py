"""``bitfold.evaluate``: one code for the accuracy of a PyTorch network and of an engine."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from bitfold.tasks.classification import Totals

Network: TypeAlias = nn.Module | Callable[[np.ndarray], np.ndarray]
Batches: TypeAlias = Iterable[Sequence[Tensor]]  # (inputs, labels, ...), as bitfold.data.Loader gives them


def evaluate(model: Network, data: Batches, *, confusion: bool = False) -> dict[str, Any]:
    """count, accuracy and top5 (per cent), mean cross-entropy loss; with ``confusion`` also the matrix, one row per true class.

    ``model``: a module, run in evaluation mode on its own device, or anything that maps a NumPy batch to NumPy outputs (an Engine).
    """
    return count(model, data, confusion=confusion).result()


def count(model: Network, data: Batches, *, confusion: bool = False) -> Totals:
    """The sums behind ``evaluate``, which several processes may add up."""
    totals = Totals()
    run = _on_tensors(model)
    with _evaluating(model), torch.inference_mode():
        for x, y, *_ in data:
            totals.add(run(x), y, with_confusion=confusion)
    return totals


def _on_tensors(model: Network) -> Callable[[Tensor], Tensor]:
    if isinstance(model, nn.Module):
        device = next((p.device for p in model.parameters()), None)
        return lambda x: model(x.to(device)).to(x.device)
    return lambda x: torch.from_numpy(np.asarray(model(np.ascontiguousarray(x.cpu().numpy())))).to(x.device)


@contextmanager
def _evaluating(model: Network) -> Iterator[None]:
    if not isinstance(model, nn.Module):
        yield
        return
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
