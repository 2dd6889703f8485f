"""Small networks and the comparison that most export tests make."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitfold
from bitfold.ir.encoding import Encoding, Uniform
from bitfold.ir.graph import Graph
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.quantizers.adabin import AdaBinActivation, AdaBinWeight
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.scaled_sign import ScaledSign
from bitfold.quantizers.sign import Sign

# Float32 sums of another order, and BatchNorm folded into one fma, relative to the largest output.
TOLERANCE = 2e-5


class Steps(Quantizer):
    """``levels`` codes: how many of the given rising thresholds x has reached, plus ``first``. For tests of thresholds."""

    def __init__(self, thresholds: list[float], scale: float = 0.5, signed: bool = False) -> None:
        super().__init__()
        self.register_buffer("thresholds", torch.tensor(thresholds))
        self.bits, self.signed, self.scale = len(thresholds).bit_length(), signed, scale

    def codes(self, x: Tensor) -> Tensor:
        count = (x[..., None] >= self.thresholds).sum(-1)
        return (count - (1 << self.bits - 1 if self.signed else 0)).to(torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        return self.codes(x) * self.scale

    def encoding(self, x: Tensor | None = None) -> Encoding:
        return Uniform(self.bits, self.signed, self.scale)


class Lambda(nn.Module):
    """A function as a module, which the trace looks into."""

    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def sign_conv(inputs: int, outputs: int, kernel: int = 3, act: Quantizer | None = None, **kwargs: object) -> QuantConv2d:
    kwargs.setdefault("bias", False)
    act = act if act is not None else Sign()
    return QuantConv2d(inputs, outputs, kernel, act_quant=act, weight_quant=ScaledSign("swap"), **kwargs)


def sign_linear(inputs: int, outputs: int, act: Quantizer | None = None) -> QuantLinear:
    return QuantLinear(inputs, outputs, bias=False, act_quant=act if act is not None else Sign(), weight_quant=ScaledSign("swap"))


def adabin_activation(rng: np.random.Generator) -> AdaBinActivation:
    act = AdaBinActivation()
    act.alpha.data.fill_(float(rng.uniform(0.3, 2)))
    act.beta.data.fill_(float(rng.uniform(-0.7, 0.7)))
    return act


def adabin_weight() -> AdaBinWeight:
    return AdaBinWeight(Sign())


def batch_norm(channels: int, rng: np.random.Generator, scale: float = 1.0) -> nn.Module:
    """BatchNorm in eval form with slopes of both signs and, with three channels or more, a zero slope."""
    bn = nn.BatchNorm2d(channels)
    slopes = rng.uniform(0.2, 2, channels) * rng.choice([-1, 1], channels)
    if channels > 2:
        slopes[1] = 0
    for tensor, values in (
        (bn.weight, slopes),
        (bn.bias, rng.normal(size=channels)),
        (bn.running_mean, rng.normal(size=channels) * scale),
        (bn.running_var, rng.uniform(0.5, 2, channels) * scale**2),
    ):
        assert tensor is not None
        tensor.data.copy_(torch.from_numpy(values))
    return bn


class Block(nn.Module):
    """A transformer's, with heads."""

    def __init__(self, width: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2, self.act = nn.Linear(width, 2 * width), nn.Linear(2 * width, width), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = ((q @ k.transpose(-2, -1)) * (c // self.heads) ** -0.5).softmax(dim=-1) @ v
        x = x + self.proj(y.transpose(1, 2).reshape(n, t, c))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))  # type: ignore[no-any-return]


class ViT(nn.Module):
    """As timm writes it: patches, class token, positions, blocks, norm, head."""

    def __init__(self, fused: bool = True) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 24, 4, stride=4)
        self.cls, self.pos = nn.Parameter(torch.randn(1, 1, 24)), nn.Parameter(torch.randn(1, 17, 24))
        self.blocks = nn.Sequential(*[Block(24, 3, fused) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1) + self.pos
        return self.head(self.norm(self.blocks(x))[:, 0])  # type: ignore[no-any-return]


def inputs(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def kinds(graph: Graph) -> list[str]:
    return [type(node).__name__ for node in graph.nodes]


def compare(model: nn.Module, x: Tensor, *, engine: bool = True, tolerance: float = TOLERANCE) -> Graph:
    """Exports; the interpreter and the engine must give PyTorch's eval outputs, and every integer core its integers. (A, B) per sample is
    (A, B, 1) in the graph."""
    graph: Graph = bitfold.export(model, x)
    training = {name: m.training for name, m in model.named_modules()}
    with torch.no_grad():
        expected = model.eval()(x).numpy()
    for name, m in model.named_modules():
        m.training = training[name]
    given, (shape,) = (
        x.numpy().reshape(len(x), *next(iter(graph.inputs.values())).shape),
        {graph.types[name].shape for name in graph.outputs},
    )
    runs = {"interpreter": bitfold.interpret(graph, given)}
    if engine:
        runs["engine"] = bitfold.load(graph)(given)
    for who, got in runs.items():
        assert got.shape == (len(x), *shape) and shape in (expected.shape[1:], (*expected.shape[1:], 1)), who
        got = got.reshape(expected.shape)
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()), err_msg=who)
    report = bitfold.verify(model, graph, x, layer_images=4, backend="engine" if engine else "interpreter")
    assert report.accumulators_differ == 0 and report.ok, str(report)
    return graph
