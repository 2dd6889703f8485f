"""What ``bench kernels`` runs: single layers and chains of Bi-Real blocks, each as a graph for the engine and as a float twin for peers."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import nn

from bitfold.ir.encoding import Binary, Coded, Float, PowerOfTwo, Ternary, Uniform
from bitfold.ir.graph import Constant, Graph, TensorType
from bitfold.ir.ops import DISTANCE, PRODUCT, Add, Conv, Epilogue, Linear, Node, Quantize, TwoSlope

CODES: dict[str, Coded] = {
    "binary": Binary(),
    "ternary": Ternary(),
    "2 bit": Uniform(2, signed=True),
    "unsigned 2 bit": Uniform(2, signed=False),
    "4 bit": Uniform(4, signed=True),
    "unsigned 4 bit": Uniform(4, signed=False),
    "8 bit": Uniform(8, signed=True),
    "3-bit shift": PowerOfTwo(max_exp=2),
}


@dataclass(frozen=True)
class Shape:
    """One benchmark. ``kernel`` 0 means a linear layer; ``weight`` and ``act`` are keys of CODES, or "float". With ``blocks`` the layer is
    a chain of that many Bi-Real blocks: sign, convolution, BatchNorm, residual, PReLU. ``batch``: images or rows of a call."""

    name: str
    in_channels: int
    out_channels: int
    size: int
    kernel: int
    stride: int = 1
    weight: str = "binary"
    act: str = "binary"
    blocks: int = 0
    groups: int = 1
    batch: int = 1
    metric: str = PRODUCT

    @property
    def input(self) -> tuple[int, ...]:
        return (self.in_channels, self.size, self.size) if self.kernel else (self.in_channels,)

    @property
    def weights(self) -> tuple[int, ...]:
        per_group = self.in_channels // self.groups
        return (self.out_channels, per_group, self.kernel, self.kernel) if self.kernel else (self.out_channels, per_group)

    @property
    def out_size(self) -> int:
        return (self.size - 1) // self.stride + 1 if self.kernel else 1

    @property
    def macs(self) -> int:
        """Products (or distances) of one call."""
        return self.batch * max(self.blocks, 1) * self.out_size**2 * prod(self.weights)


def _square(name: str, weight: str, act: str, metric: str = PRODUCT) -> Shape:
    return Shape(f"{name} 3x3 256x14x14", 256, 256, 14, 3, weight=weight, act=act, metric=metric)


SHAPES = (
    Shape("six Bi-Real blocks 64x56x56", 64, 64, 56, 3, blocks=6),
    Shape("six Bi-Real blocks 128x28x28", 128, 128, 28, 3, blocks=6),
    Shape("six Bi-Real blocks 256x14x14", 256, 256, 14, 3, blocks=6),
    Shape("six Bi-Real blocks 512x7x7", 512, 512, 7, 3, blocks=6),
    _square("binary", "binary", "binary"),
    _square("ternary x binary", "ternary", "binary"),
    _square("ternary x ternary", "ternary", "ternary"),
    _square("2 bit x 2 bit", "2 bit", "unsigned 2 bit"),
    _square("4 bit x 4 bit", "4 bit", "unsigned 4 bit"),
    _square("3-bit shift x 8 bit", "3-bit shift", "8 bit"),
    _square("8 bit x 8 bit", "8 bit", "8 bit"),
    _square("adder, 8 bit", "8 bit", "8 bit", DISTANCE),
    _square("adder, 4 bit", "4 bit", "4 bit", DISTANCE),
    Shape("binary linear 2048x2048", 2048, 2048, 1, 0),
    Shape("binary linear 2048x2048, 128 rows", 2048, 2048, 1, 0, batch=128),
    Shape("2-bit x int8 linear 4096x4096", 4096, 4096, 1, 0, weight="2 bit", act="8 bit"),
    Shape("2-bit x int8 linear 2048x2048, 128 rows", 2048, 2048, 1, 0, weight="2 bit", act="8 bit", batch=128),
    Shape("float 7x7/2 3x224x224 to 64", 3, 64, 224, 7, stride=2, weight="float", act="float"),
    Shape("float 3x3 64x56x56", 64, 64, 56, 3, weight="float", act="float"),
    Shape("float 3x3 256x14x14", 256, 256, 14, 3, weight="float", act="float"),
    Shape("float 3x3/2 3x224x224 to 32", 3, 32, 224, 3, stride=2, weight="float", act="float"),
    Shape("float 1x1 64x28x28 to 128", 64, 128, 28, 1, weight="float", act="float"),
    Shape("float depthwise 3x3 128x56x56", 128, 128, 56, 3, weight="float", act="float", groups=128),
    Shape("float depthwise 3x3 256x14x14", 256, 256, 14, 3, weight="float", act="float", groups=256),
    Shape("float depthwise 5x5 256x28x28", 256, 256, 28, 5, weight="float", act="float", groups=256),
    Shape("float depthwise 3x3/2 256x28x28", 256, 256, 28, 3, stride=2, weight="float", act="float", groups=256),
    Shape("float linear 512x1000", 512, 1000, 1, 0, weight="float", act="float"),
)


@dataclass(frozen=True, eq=False)
class Case:
    """A shape with random weights. ``x``: float32 (batch, ...)."""

    shape: Shape
    graph: Graph
    twin: nn.Module
    x: np.ndarray


def build(shape: Shape) -> Case:
    """Always the same weights for a shape. The twin has weights of its own and no quantiser: the same work, not the same answer. They are
    normal, since int8 kernels that saturate (AVX2) go wrong where every weight is at the end of its range, as codes of two values are."""
    rng = np.random.default_rng(0)
    out = shape.out_channels
    chain, twin = _Chain(rng), []
    x = rng.standard_normal((shape.batch, *shape.input)).astype(np.float32)
    for _ in range(max(shape.blocks, 1)):
        weights = _weights(shape, rng)
        mul = rng.uniform(0.5, 1.5, out) / _spread(weights, shape)
        bias = 0.1 * rng.standard_normal(out)
        neg = rng.uniform(0.1, 0.3, out) if shape.blocks else None
        chain.layer(shape, weights, mul, bias, neg)
        twin.append(_Twin(shape, rng.standard_normal(weights.shape) / np.sqrt(prod(weights.shape[1:])), bias, neg))
    graph = Graph({"x": TensorType(shape.input, Float())}, tuple(chain.nodes), (chain.value,), chain.constants, name=shape.name)
    return Case(shape, graph, nn.Sequential(*twin).eval(), x)


class _Chain:
    """A graph in the making."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, Constant] = {}
        self.value = "x"

    def layer(self, shape: Shape, weights: np.ndarray, mul: np.ndarray, bias: np.ndarray, neg: np.ndarray | None) -> None:
        i = len(self.nodes)
        keep, shortcut = self._keep(i), self.value
        if shape.act != "float":
            encoding = CODES[shape.act]
            thresholds = keep("thresholds", Constant.from_array(_thresholds(encoding)))
            self._add(Quantize(name=f"quantize{i}", output=f"codes{i}", x=self.value, thresholds=thresholds, encoding=encoding))
        coded = CODES.get(shape.weight)
        weight = keep("weight", Constant.from_array(weights) if coded is None else Constant.from_codes(weights, coded))
        epilogue = Epilogue(mul=keep("mul", Constant.from_array(mul)), bias=keep("bias", Constant.from_array(bias)))
        common = {"name": f"product{i}", "output": f"y{i}", "x": self.value, "weight": weight, "epilogue": epilogue, "metric": shape.metric}
        if shape.kernel:
            pad = (shape.kernel // 2, shape.kernel // 2)
            self._add(Conv(**common, padding=pad, stride=(shape.stride, shape.stride), groups=shape.groups))  # type: ignore[arg-type]
        else:
            self._add(Linear(**common))  # type: ignore[arg-type]
        if neg is not None:
            self._add(Add(name=f"add{i}", output=f"sum{i}", a=self.value, b=shortcut))
            self._add(TwoSlope(name=f"prelu{i}", output=f"z{i}", x=self.value, neg=keep("neg", Constant.from_array(neg))))

    def _add(self, node: Node) -> None:
        self.nodes.append(node)
        self.value = node.output

    def _keep(self, i: int) -> Callable[[str, Constant], str]:
        def keep(name: str, constant: Constant) -> str:
            self.constants[f"{name}{i}"] = constant
            return f"{name}{i}"

        return keep


class _Twin(nn.Module):
    """Convolution or linear layer with BatchNorm folded in; in a block also the residual and PReLU."""

    def __init__(self, shape: Shape, weights: np.ndarray, bias: np.ndarray, neg: np.ndarray | None) -> None:
        super().__init__()
        pad = shape.kernel // 2
        self.product: nn.Conv2d | nn.Linear
        if shape.kernel:
            self.product = nn.Conv2d(shape.in_channels, shape.out_channels, shape.kernel, shape.stride, pad, groups=shape.groups)
        else:
            self.product = nn.Linear(shape.in_channels, shape.out_channels)
        assert self.product.bias is not None
        self.prelu = None if neg is None else nn.PReLU(shape.out_channels)
        with torch.no_grad():
            self.product.weight.copy_(torch.from_numpy(weights))
            self.product.bias.copy_(torch.from_numpy(bias))
            if self.prelu is not None:
                self.prelu.weight.copy_(torch.from_numpy(neg))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.product(x)
        return y if self.prelu is None else self.prelu(y + x)


def _weights(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    if shape.weight == "float":
        return 0.05 * rng.standard_normal(shape.weights)
    return rng.choice(np.array(CODES[shape.weight].alphabet(), np.int16), shape.weights)


def _thresholds(encoding: Coded) -> np.ndarray:
    """(1, levels - 1), over the middle of a normal distribution."""
    levels = len(encoding.alphabet())
    return np.zeros((1, 1)) if levels == 2 else np.linspace(-2, 2, levels - 1)[None]


def _spread(weights: np.ndarray, shape: Shape) -> float:
    """About the deviation of the sums: outputs, and the next block's inputs, stay near 1."""
    codes = np.array(CODES[shape.act].alphabet()) if shape.act != "float" else np.array([1.0])
    taps = prod(weights.shape[1:])
    if shape.metric == DISTANCE:
        return taps * float(np.abs(codes).mean())
    return float(np.sqrt(taps * (weights.astype(np.float64) ** 2).mean() * (codes.astype(np.float64) ** 2).mean()))
