"""What a network costs: bits, parameters, multiply-accumulates by bit pair and bytes, per layer and in total.

Conventions of the binary-network papers: OPs = BOPs / 64 + FLOPs; 1 MAC = 1 FLOP; conv and linear layers only (BatchNorm,
activations, additions and pooling are not counted). BOPs are the MACs of layers where weight and activation both have codes, times
the product of their bits: what bit planes and popcount do. Packed size: coded weights at their bits, all other parameters at 4 bytes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bitfold.errors import ConfigError
from bitfold.ir.encoding import Encoding, Float
from bitfold.ir.graph import Graph
from bitfold.layers.quant import QuantConv2d, QuantLinear

_FLOAT_BITS = 32
_LAYERS = (nn.Conv2d, nn.Linear)
_UNCOUNTED = (_ConvNd, nn.Bilinear, nn.RNNBase, nn.MultiheadAttention)  # they multiply, and we cannot say how much


@dataclass(frozen=True)
class Row:
    """One layer. ``weight_bits`` and ``act_bits`` are 0 for layers that multiply nothing (norms, activations)."""

    path: str
    type: str
    weight_bits: int
    act_bits: int
    parameters: int
    coded_weights: int  # of these parameters, those stored at ``weight_bits``
    macs: int
    out_shape: tuple[int, ...]  # per sample

    @property
    def packed_bytes(self) -> float:
        return self.coded_weights * self.weight_bits / 8 + (self.parameters - self.coded_weights) * 4


@dataclass(frozen=True)
class Summary:
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        return sum(r.parameters for r in self.rows)

    @property
    def coded_weights(self) -> int:
        return sum(r.coded_weights for r in self.rows)

    @property
    def macs(self) -> dict[tuple[int, int], int]:
        """(weight bits, activation bits) -> MACs"""
        total: dict[tuple[int, int], int] = {}
        for r in self.rows:
            if r.macs:
                pair = r.weight_bits, r.act_bits
                total[pair] = total.get(pair, 0) + r.macs
        return total

    @property
    def bops(self) -> int:
        return sum(macs * w * a for (w, a), macs in self.macs.items() if _FLOAT_BITS not in (w, a))

    @property
    def flops(self) -> int:
        return sum(macs for pair, macs in self.macs.items() if _FLOAT_BITS in pair)

    @property
    def ops(self) -> float:
        return self.bops / 64 + self.flops

    @property
    def packed_bytes(self) -> int:
        return round(sum(r.packed_bytes for r in self.rows))

    def __str__(self) -> str:
        """A table of the layers, then totals."""
        head = ("layer", "type", "w bits", "a bits", "parameters", "MACs", "output", "bytes")
        table = [head, *(_cells(r) for r in self.rows)]
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        left = (0, 1, 6)
        lines = [
            "  ".join(c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))) for line in table
        ]
        pairs = ", ".join(f"{w}x{a} bit: {macs:,}" for (w, a), macs in sorted(self.macs.items()))
        return "\n".join(
            [
                *(line.rstrip() for line in lines),
                f"parameters {self.parameters:,} ({self.coded_weights:,} packed), {self.packed_bytes:,} bytes packed",
                f"MACs by weight x activation bits: {pairs}",
                f"OPs {self.ops:.4g} = BOPs {self.bops:.4g} / 64 + FLOPs {self.flops:.4g}",
            ]
        )


def summary(model_or_graph: nn.Module | Graph, example: Tensor | tuple[int, ...] | None = None) -> Summary:
    """The cost of a PyTorch module (float or quantised) or of an IR graph.

    ``example``: for a module an input (batch first) or the shape of one sample such as (3, 32, 32); a graph needs none. One forward
    runs in evaluation mode; the module is left as it was. ``print`` shows a table. Raises ConfigError.
    """
    if isinstance(model_or_graph, Graph):
        from bitfold.ir.summary import summarize

        return summarize(model_or_graph)
    if example is None:
        raise ConfigError("summary: a module needs example=: an input tensor, or the shape of one sample, for example (3, 32, 32)")
    return _of_module(model_or_graph, example)


def _of_module(model: nn.Module, example: Tensor | tuple[int, ...]) -> Summary:
    owners = list(_owners(model))
    shapes = _output_shapes(model, owners, example)
    counted: set[int] = set()  # a shared parameter counts where it comes first
    rows = []
    for path, module in owners:
        own = [p for p in module.parameters(recurse=isinstance(module, _LAYERS)) if id(p) not in counted]
        counted.update(id(p) for p in own)
        rows.append(_row(path, module, sum(p.numel() for p in own), shapes.get(path, [])))
    return Summary(tuple(rows))


def _owners(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Convs, linears, and other modules with parameters of their own; what a layer holds (quantisers) belongs to the layer."""
    inside: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if inside and path.startswith(inside):
            continue
        if isinstance(module, _UNCOUNTED) and not isinstance(module, _LAYERS):
            raise ConfigError(f"summary: {path!r} is a {type(module).__name__}, whose cost is not known; known: Conv2d, Linear")
        if isinstance(module, _LAYERS):
            inside += (f"{path}." if path else "",)
        if isinstance(module, _LAYERS) or next(module.parameters(recurse=False), None) is not None:
            yield path, module


def _output_shapes(
    model: nn.Module, owners: list[tuple[str, nn.Module]], example: Tensor | tuple[int, ...]
) -> dict[str, list[tuple[int, ...]]]:
    """path -> the output's shape per sample, once for every call in a forward of ``example``."""
    shapes: dict[str, list[tuple[int, ...]]] = {}

    def record(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                shapes.setdefault(path, []).append(tuple(output.shape[1:]))

        return hook

    handles = [module.register_forward_hook(record(path)) for path, module in owners]
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            model(example if isinstance(example, Tensor) else _zeros(model, example))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return shapes


def _zeros(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    parameter = next(model.parameters(), torch.empty(0))
    return torch.zeros((1, *shape), dtype=parameter.dtype, device=parameter.device)


def _row(path: str, module: nn.Module, parameters: int, shapes: list[tuple[int, ...]]) -> Row:
    out_shape = shapes[-1] if shapes else ()
    if not isinstance(module, _LAYERS):
        return Row(path, type(module).__name__, 0, 0, parameters, 0, 0, out_shape)
    weight_bits = act_bits = _FLOAT_BITS
    if isinstance(module, QuantConv2d | QuantLinear):
        weight_bits, act_bits = _bits(module.weight_quant.encoding(module.weight)), _bits(module.act_quant.encoding())
    channels = module.weight.shape[0]
    outputs = sum(math.prod(shape) for shape in shapes)
    coded = module.weight.numel() if weight_bits != _FLOAT_BITS else 0
    macs = outputs // channels * module.weight.numel()
    return Row(path, type(module).__name__, weight_bits, act_bits, parameters, coded, macs, out_shape)


def _cells(r: Row) -> tuple[str, ...]:
    bits = [str(b) if b else "" for b in (r.weight_bits, r.act_bits)]
    return (
        r.path,
        r.type,
        *bits,
        f"{r.parameters:,}",
        f"{r.macs:,}" if r.macs else "",
        "x".join(map(str, r.out_shape)),
        f"{r.packed_bytes:,.0f}",
    )


def _bits(encoding: Encoding) -> int:
    return _FLOAT_BITS if isinstance(encoding, Float) else encoding.planes
