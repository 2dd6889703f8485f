"""PyTorch eager in inference mode, the faster of NCHW and channels_last."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from bitfold.bench.peers._base import Prepared, Subject
from bitfold.bench.timing import compare

PRECISION = "float32"


def available() -> str | None:
    return None  # the float twin is a PyTorch model


def prepare(subject: Subject) -> Prepared:
    x = torch.from_numpy(subject.x)
    calls = {"NCHW": _call(copy.deepcopy(subject.model).eval(), x)}
    if x.ndim == 4:
        model = copy.deepcopy(subject.model).eval()
        calls["channels_last"] = _call(model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last))  # type: ignore[call-overload]
    with threads(subject.threads):
        times = compare(calls, repeats=9, warmup=2, max_time=10.0)
    layout = min(times, key=lambda name: times[name].median_us)
    return Prepared(calls[layout], f"eager, {layout}")


def _call(model: nn.Module, x: torch.Tensor) -> Callable[[], np.ndarray]:
    @torch.inference_mode()
    def call() -> np.ndarray:
        return model(x).numpy()  # type: ignore[no-any-return]

    return call


@contextmanager
def threads(n: int) -> Iterator[None]:
    """PyTorch limited to n threads inside, as before outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
