"""Converters of modules: layers, normalisation, activations, pooling, quantisers. ``_HANDLERS`` at the end is the whole list."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitfold.export import calls, cells, norms, resize
from bitfold.export.steps import Call, Step
from bitfold.ir import ops
from bitfold.ir.encoding import Encoding, Float
from bitfold.layers.activations import RPReLU, TwoSlope
from bitfold.layers.adder import AdderConv2d
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.layers.scale_map import ScaleMap
from bitfold.layers.shift_norm import ShiftNorm
from bitfold.quantizers.base import Identity, Quantizer

Handler = Callable[..., Any]


def handler(module: nn.Module) -> Handler | None:
    """The converter of a module; None if its class, or a forward of its own, is not known."""
    for known, convert in _HANDLERS.items():
        if isinstance(module, known) and (known is Quantizer or type(module).forward is known.forward):
            return convert
    return None


def names() -> list[str]:
    return sorted(known.__name__ for known in _HANDLERS)


def stated_encoding(call: Call, quantizer: Quantizer, weight: Tensor | None = None) -> Encoding:
    """What the quantiser says of itself; a quantiser that changes values but states Float is refused."""
    try:
        encoding = quantizer.encoding(weight)
    except NotImplementedError as error:
        raise call.refuse(f"quantiser {type(quantizer).__name__} states no encoding") from error
    if isinstance(encoding, Float) and weight is None and not isinstance(quantizer, Identity):
        raise call.refuse(f"quantiser {type(quantizer).__name__} changes its input but states no codes; allowed: Identity, or an encoding")
    return encoding


def _quantised(call: Call, quantizer: Quantizer, x: Step, path: str) -> Step:
    """The input of a layer after its activation quantiser."""
    if isinstance(stated_encoding(call, quantizer), Float):
        return x
    return Step(ops.Quantize, path, (x,), x.shape, module=quantizer)


def _conv(call: Call, module: nn.Conv2d, x: Step) -> Step:
    if module.padding_mode != "zeros":
        raise call.refuse(f"padding_mode={module.padding_mode!r}; allowed: 'zeros'")
    fields: dict[str, Any] = {
        "stride": module.stride,
        "padding": _padding(call, module),
        "dilation": module.dilation,
        "groups": module.groups,
    }
    if isinstance(module, QuantConv2d):
        x = _quantised(call, module.act_quant, x, f"{call.path}.act_quant")
    if isinstance(module, AdderConv2d):
        fields["metric"] = ops.DISTANCE
    return Step(ops.Conv, call.path, (x,), call.shape, fields, module)


def _padding(call: Call, module: nn.Conv2d) -> tuple[int, int]:
    if not isinstance(module.padding, str):
        return calls.pair(module.padding)  # type: ignore[arg-type]
    total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if module.padding == "valid":
        return (0, 0)
    if any(t % 2 for t in total):
        raise call.refuse(f"padding='same' with kernel {module.kernel_size} is one-sided; allowed: odd kernels, or padding in numbers")
    return (total[0] // 2, total[1] // 2)


def _linear(call: Call, module: nn.Linear, x: Step) -> Step:
    if len(x.shape) != 1:
        raise call.refuse(f"the input has shape {x.shape} per sample; allowed: (features,), so flatten first")
    if isinstance(module, QuantLinear):
        x = _quantised(call, module.act_quant, x, f"{call.path}.act_quant")
    return Step(ops.Linear, call.path, (x,), call.shape, {}, module)


def _quantizer(call: Call, module: Quantizer, x: Step) -> Step:
    return _quantised(call, module, x, call.path)


def _batch_norm(call: Call, module: nn.BatchNorm1d | nn.BatchNorm2d, x: Step) -> Step:
    if module.running_mean is None or module.running_var is None:
        raise call.refuse("track_running_stats=False; allowed: running statistics, which deployment needs")
    # slope and shift as PyTorch itself makes them, in float32: the folded layer then stays as close to it as rounding allows
    slope = 1 / torch.sqrt(module.running_var + module.eps)
    if module.weight is not None:
        slope = slope * module.weight
    shift = -module.running_mean * slope
    if module.bias is not None:
        shift = module.bias + shift
    return calls.affine(call, x, call.float_tensor(slope, "slope"), call.float_tensor(shift, "shift"))


def _shift_norm(call: Call, module: ShiftNorm, x: Step) -> Step:
    slope, shift = module.slope_and_shift()
    return calls.affine(call, x, call.float_tensor(slope, "slope"), call.float_tensor(shift, "shift"))


def _max_pool(call: Call, m: nn.MaxPool2d, x: Step) -> Step:
    return calls.max_pool2d(call, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices)  # type: ignore[arg-type]


def _avg_pool(call: Call, m: nn.AvgPool2d, x: Step) -> Step:
    return calls.avg_pool2d(call, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override)  # type: ignore[arg-type]


def _two_slope(call: Call, m: TwoSlope, x: Step) -> Step:
    return call.elementwise(ops.TwoSlope, x, neg=call.float_tensor(m.neg, "neg"), pos=call.float_tensor(m.pos, "pos"))


def _rprelu(call: Call, m: RPReLU, x: Step) -> Step:
    arrays = {name: call.float_tensor(getattr(m, name), name) for name in ("neg", "shift_in", "shift_out")}
    return call.elementwise(ops.TwoSlope, x, **arrays)


def _scale_map(call: Call, m: ScaleMap, x: Step) -> Step:
    """x times a constant image. The IR has constants per channel only, so convs spread a single 1, made from the data, over rows and then
    over columns: each output sees exactly one tap, and its product is the one that PyTorch rounds."""
    row, column = call.float_tensor(m.row, "row"), call.float_tensor(m.column, "column")
    (h, w), path = (len(row), len(column)), call.path
    zeros = np.zeros((1, x.shape[0], 1, 1))
    zero = Step(ops.Conv, f"{path}.zero", (x,), (1, 1, 1), {"weight": zeros, "stride": (h, w)})
    one = Step(ops.Affine, f"{path}.one", (zero,), (1, 1, 1), {"mul": np.ones(1), "bias": np.ones(1)})
    rows = Step(ops.Conv, f"{path}.rows", (one,), (1, h, 1), {"weight": row[::-1].reshape(1, 1, h, 1), "padding": (h - 1, 0)})
    image = Step(ops.Conv, f"{path}.image", (rows,), (1, h, w), {"weight": column[::-1].reshape(1, 1, 1, w), "padding": (0, w - 1)})
    return call.step(ops.Mul, x, image)


def _same(call: Call, module: nn.Module, x: Step) -> Step:
    return x


def _refused(call: Call, module: nn.Module, x: Step) -> Step:
    raise call.refuse(calls.REFUSED["log_softmax"])


_HANDLERS: dict[Any, Handler] = {
    Quantizer: _quantizer,
    AdderConv2d: _conv,
    QuantConv2d: _conv,
    QuantLinear: _linear,
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: lambda call, m, x: norms.layer_norm(call, x, m.normalized_shape, m.weight, m.bias, m.eps),
    nn.GroupNorm: lambda call, m, x: norms.group_norm(call, x, m.num_groups, m.weight, m.bias, m.eps),
    nn.InstanceNorm2d: norms.instance_norm,
    ShiftNorm: _shift_norm,
    nn.ReLU: lambda call, m, x: calls.relu(call, x),
    nn.ReLU6: lambda call, m, x: calls.relu6(call, x),
    nn.Hardtanh: lambda call, m, x: calls.hardtanh(call, x, m.min_val, m.max_val),
    nn.LeakyReLU: lambda call, m, x: calls.leaky_relu(call, x, m.negative_slope),
    nn.PReLU: lambda call, m, x: calls.prelu(call, x, m.weight),
    nn.Sigmoid: lambda call, m, x: calls.unary("sigmoid")(call, x),
    nn.Tanh: lambda call, m, x: calls.unary("tanh")(call, x),
    nn.SiLU: lambda call, m, x: calls.unary("silu")(call, x),
    nn.GELU: lambda call, m, x: calls.gelu(call, x, approximate=m.approximate),
    nn.Hardsigmoid: lambda call, m, x: calls.unary("hardsigmoid")(call, x),
    nn.Hardswish: lambda call, m, x: calls.unary("hardswish")(call, x),
    TwoSlope: _two_slope,
    RPReLU: _rprelu,
    ScaleMap: _scale_map,
    nn.LSTMCell: cells.lstm,
    nn.GRUCell: cells.gru,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: lambda call, m, x: calls.adaptive_avg_pool2d(call, x, m.output_size),
    nn.AdaptiveMaxPool2d: lambda call, m, x: calls.adaptive_max_pool2d(call, x, m.output_size, m.return_indices),
    nn.Upsample: lambda call, m, x: resize.interpolate(call, x, m.size, m.scale_factor, m.mode, m.align_corners, m.recompute_scale_factor),
    nn.PixelShuffle: lambda call, m, x: resize.pixel_shuffle(call, x, m.upscale_factor),
    nn.ConvTranspose2d: resize.conv_transpose,
    nn.Flatten: lambda call, m, x: calls.reshape(call, x),
    nn.Softmax: lambda call, m, x: calls.softmax(call, x, m.dim),
    nn.LogSoftmax: _refused,
    nn.Identity: _same,
    nn.Dropout: _same,
    nn.Dropout1d: _same,
    nn.Dropout2d: _same,
    nn.AlphaDropout: _same,
}
