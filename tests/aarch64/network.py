"""One whole network on two machines: ``write FOLDER`` where PyTorch is, ``check FOLDER`` elsewhere (make test-aarch64).

``write`` exports a binary ResNet-20 with AdaBin's offsets and a 4-bit one, whose graphs put out every code and accumulator besides the
logits, and keeps what the engine here gives. ``check`` needs the engine alone and compares bit for bit, floats included.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import bitfold
from bitfold.ir.encoding import Float

METHODS = {"adabin": {}, "qnn": {"weight_bits": 4, "act_bits": 4}}


def write(folder: Path) -> None:
    import torch

    torch.manual_seed(0)
    for method, fields in METHODS.items():
        model = bitfold.apply(bitfold.models.create("resnet20"), bitfold.methods.get(method, **fields))
        for _ in range(2):
            model(torch.randn(8, 3, 32, 32))  # running statistics that are not the initial ones
        graph = bitfold.export(model.eval(), torch.zeros(1, 3, 32, 32))
        coded = [name for name, t in graph.types.items() if not isinstance(t.element, Float) and name not in graph.inputs]
        graph = replace(graph, outputs=(*graph.outputs, *(name for name in coded if name not in graph.outputs)))
        graph.save(folder / f"{method}.bitfold")
        x = torch.randn(3, 3, 32, 32).numpy()
        y = bitfold.load(graph)(x)
        np.savez(folder / f"{method}.npz", x=x, **{f"y{i}": value for i, value in enumerate(y)})


def check(folder: Path) -> None:
    for method in METHODS:
        saved = np.load(folder / f"{method}.npz")
        net = bitfold.load(folder / f"{method}.bitfold")
        y = net(saved["x"])
        for i, value in enumerate(y):
            assert value.dtype == saved[f"y{i}"].dtype and np.array_equal(value, saved[f"y{i}"]), f"{method}: output {i} differs"
        isas = sorted({k.isa for k in net.kernels if k.isa})
        values = sum(int(np.prod(v.shape)) for v in y)
        print(f"{method}: {len(y)} outputs, {values} values, all equal bit for bit; kernels of {', '.join(isas)}")


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
