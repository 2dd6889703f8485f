"""The other end of ``pytorch_avx2``: python -m bitfold.bench.peers._pytorch_process SUBJECT.pt OUTPUT.npy

First line out: capability|form. Then for every line in: "output" writes the output's file, a number runs that many calls; the answer
is "written" or the seconds per call.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bitfold import models
from bitfold.bench import shapes  # noqa: F401  (its layers are then known classes)
from bitfold.bench.peers import pytorch
from bitfold.bench.peers._base import Subject
from bitfold.bench.timing import collector_off, seconds_per_call


def serve(given: Path, output: Path) -> None:
    models.names()  # imports them all
    with torch.serialization.safe_globals(list(_modules(nn.Module))):
        model, x, threads = torch.load(given, weights_only=True)
    prepared = pytorch.prepare(Subject(model, x.numpy(), (), threads, output.parent))
    print(f"{torch.backends.cpu.get_cpu_capability()}|{prepared.note}", flush=True)
    with pytorch.threads(threads), collector_off():
        for line in sys.stdin:
            if line.strip() == "output":
                np.save(output, prepared.call())
                print("written", flush=True)
            else:
                print(repr(seconds_per_call(prepared.call, int(line))), flush=True)


def _modules(base: type[nn.Module]) -> Iterator[type[nn.Module]]:
    """The known classes of modules: PyTorch's, those of bitfold's models and of the layers that ``bench kernels`` runs."""
    for found in base.__subclasses__():
        yield found
        yield from _modules(found)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
