"""A binary ImageNet ResNet-18 (Bi-Real form, PReLU) as a graph with random weights: the size at which the engine is judged."""

import numpy as np

from bitfold.ir import ops
from bitfold.ir.encoding import Binary, Float
from bitfold.ir.graph import Constant, Graph, TensorType


class _Builder:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[ops.Node] = []
        self.constants: dict[str, Constant] = {}

    def floats(self, name: str, *shape: int, low: float = 0.5, high: float = 1.5) -> str:
        self.constants[name] = Constant.from_array(self.rng.uniform(low, high, shape).astype(np.float32))
        return name

    def epilogue(self, name: str, channels: int, scale: float) -> ops.Epilogue:
        mul = self.floats(f"{name}.mul", channels, low=0.5 * scale, high=1.5 * scale)
        return ops.Epilogue(mul=mul, bias=self.floats(f"{name}.bias", channels, low=-0.5, high=0.5))

    def add(self, node: ops.Node) -> str:
        self.nodes.append(node)
        return node.output

    def float_conv(self, name: str, x: str, inp: int, out: int, kernel: int, **shape: tuple[int, int]) -> str:
        weight = self.floats(f"{name}.weight", out, inp, kernel, kernel, low=-0.1, high=0.1)
        return self.add(ops.Conv(name=name, output=name, x=x, weight=weight, epilogue=self.epilogue(name, out, 1.0), **shape))

    def binary_conv(self, name: str, x: str, inp: int, out: int, stride: int) -> str:
        self.constants[f"{name}.t"] = Constant.from_array(self.rng.normal(0, 0.3, (inp, 1)).astype(np.float32))
        bits = self.add(ops.Quantize(name=f"{name}.sign", output=f"{name}.bits", x=x, thresholds=f"{name}.t", encoding=Binary()))
        codes = self.rng.integers(0, 2, (out, inp, 3, 3)) * 2 - 1
        self.constants[f"{name}.weight"] = Constant.from_codes(codes, Binary())
        epilogue = self.epilogue(name, out, 0.5 / np.sqrt(9 * inp))
        return self.add(
            ops.Conv(name=name, output=name, x=bits, weight=f"{name}.weight", stride=(stride, stride), padding=(1, 1), epilogue=epilogue)
        )

    def half(self, name: str, x: str, inp: int, out: int, stride: int) -> str:
        """Sign, binary convolution, BatchNorm, shortcut, PReLU."""
        y, shortcut = self.binary_conv(name, x, inp, out, stride), x
        if stride != 1:
            pooled = self.add(ops.AvgPool(name=f"{name}.pool", output=f"{name}.pool", x=x, kernel=(2, 2), stride=(2, 2)))
            shortcut = self.float_conv(f"{name}.down", pooled, inp, out, 1)
        total = self.add(ops.Add(name=f"{name}.add", output=f"{name}.add", a=y, b=shortcut))
        neg = self.floats(f"{name}.neg", out, low=0.1, high=0.4)
        return self.add(ops.TwoSlope(name=f"{name}.prelu", output=f"{name}.prelu", x=total, neg=neg))


def binary_resnet18(rng: np.random.Generator, size: int = 224, classes: int = 1000) -> Graph:
    b = _Builder(rng)
    x = b.float_conv("stem", "x", 3, 64, 7, stride=(2, 2), padding=(3, 3))
    x = b.add(ops.MaxPool(name="maxpool", output="maxpool", x=x, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)))
    channels = 64
    for stage, out in enumerate((64, 128, 256, 512)):
        for half in range(4):
            x = b.half(f"layer{stage + 1}.{half}", x, channels, out, 2 if stage and half == 0 else 1)
            channels = out
    x = b.add(ops.Mean(name="pool", output="pool", x=x, over="space"))
    x = b.add(ops.Flatten(name="flatten", output="flatten", x=x))
    weight = b.floats("fc.weight", classes, 512, low=-0.05, high=0.05)
    bias = ops.Epilogue(bias=b.floats("fc.bias", classes, low=-0.1, high=0.1))
    b.add(ops.Linear(name="fc", output="fc", x=x, weight=weight, epilogue=bias))
    return Graph({"x": TensorType((3, size, size), Float())}, tuple(b.nodes), ("fc",), b.constants, "resnet18_binary")
