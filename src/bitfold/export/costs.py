"""What a PyTorch network costs, with the conventions of the binary-network papers.

OPs = BOPs / 64 + FLOPs; 1 MAC = 1 FLOP; conv and linear layers only (BatchNorm, activations, additions and pooling are not counted).
BOPs are the MACs of layers where weight and activation both have codes, times the product of their bits: what bit planes and popcount
do. Sizes: coded weights at their bits, every other parameter 4 bytes (BatchNorm has 2 a channel).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from bitfold.errors import ConfigError
from bitfold.ir.encoding import Encoding, Float
from bitfold.ir.summary import Row, Summary
from bitfold.layers.adder import AdderConv2d
from bitfold.layers.probe import probing
from bitfold.layers.quant import QuantConv2d, QuantLinear

_FLOAT_BITS = 32
_LAYERS = (nn.Conv2d, nn.Linear)
_UNCOUNTED = (_ConvNd, nn.Bilinear, nn.RNNBase, nn.MultiheadAttention)  # they multiply, and we cannot say how much


def summarize_module(model: nn.Module, example: Tensor | tuple[int, ...] | None) -> Summary:
    """The cost of a PyTorch module; see ``bitfold.summary``."""
    if example is None:
        raise ConfigError("summary: a module needs example=: an input tensor, or the shape of one sample, for example (3, 32, 32)")
    owners = list(_owners(model))
    shapes = _output_shapes(model, owners, example)
    counted: set[int] = set()  # a shared parameter counts where it comes first
    rows = []
    for path, module in owners:
        own = [p for p in module.parameters(recurse=isinstance(module, _LAYERS)) if id(p) not in counted]
        counted.update(id(p) for p in own)
        rows.append(_row(path, module, own, shapes.get(path, [])))
    return Summary(type(model).__name__, tuple(rows), header_bytes=0)


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

    with probing(model, ((module, record(path)) for path, module in owners)):
        model(example if isinstance(example, Tensor) else _zeros(model, example))
    return shapes


def _zeros(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    parameter = next(model.parameters(), torch.empty(0))
    return torch.zeros((1, *shape), dtype=parameter.dtype, device=parameter.device)


def _row(path: str, module: nn.Module, own: list[nn.Parameter], shapes: list[tuple[int, ...]]) -> Row:
    parameters = sum(p.numel() for p in own)
    out_shape = shapes[-1] if shapes else ()
    if not isinstance(module, _LAYERS):
        return Row(path, type(module).__name__, out_shape, None, None, parameters, 0, 4 * parameters)
    weight_bits = act_bits = _FLOAT_BITS
    if isinstance(module, QuantConv2d | QuantLinear):
        weight_bits, act_bits = _bits(module.weight_quant.encoding(module.weight)), _bits(module.act_quant.encoding())
    outputs = sum(math.prod(shape) for shape in shapes)
    macs = outputs * module.weight[0].numel()
    weights = sum(p.numel() for p in own if p is module.weight)
    size_bytes = math.ceil(weights * weight_bits / 8) + 4 * (parameters - weights)
    additions = 2 * macs if isinstance(module, AdderConv2d) else 0
    return Row(path, type(module).__name__, out_shape, act_bits, weight_bits, parameters, 0 if additions else macs, size_bytes, additions)


def _bits(encoding: Encoding) -> int:
    return _FLOAT_BITS if isinstance(encoding, Float) else encoding.planes
