"""What a peer is given and what it gives back."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from bitfold.ir.graph import Graph


@dataclass(frozen=True, eq=False)
class Subject:
    """A float network with what is needed to run it elsewhere. ``x``: float32 (batch, ...). ``folder``: for the ONNX files.
    ``graph``: its low-bit form, for the peers that run low-bit networks."""

    model: nn.Module
    x: np.ndarray
    calibration: tuple[np.ndarray, ...]  # inputs shaped as x, for int8 ranges
    threads: int
    folder: Path
    graph: Graph | None = None

    @cached_property
    def onnx(self) -> Path:
        """The model as an ONNX file (opset 17, fixed shapes, BatchNorm folded by the exporter)."""
        path = self.folder / "float.onnx"
        with warnings.catch_warnings():
            # The TorchScript exporter needs nothing but the onnx package; the newer one needs onnxscript as well.
            warnings.simplefilter("ignore")
            example = (torch.from_numpy(self.x),)
            torch.onnx.export(self.model.eval(), example, str(path), dynamo=False, opset_version=17, input_names=["x"], output_names=["y"])
        return path


class Prepared(NamedTuple):
    """``call`` runs the whole network on the subject's x and returns the output. ``note`` says what was chosen on the way. ``first``, where
    the network lies in a file, opens it, prepares it and returns the first output."""

    call: Callable[[], np.ndarray]
    note: str
    first: Callable[[], np.ndarray] | None = None


def missing(*packages: str) -> str | None:
    """The reason for ``available`` when a package is not installed."""
    absent = [p for p in packages if find_spec(p) is None]
    return f"not installed: {', '.join(absent)} (pip install 'bitfold[bench]')" if absent else None


@contextmanager
def no_telemetry() -> Iterator[None]:
    """OpenVINO and NNCF report their use over the network unless they believe to run in CI; they decide while they are imported."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before
