"""Converters of modules: layers, normalisation, activations, pooling, quantisers; Steps stand for data, channels first."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitfold.export import calls
from bitfold.export.steps import Call, Step
from bitfold.export.views import Reader, positions, whole
from bitfold.ir import ops
from bitfold.ir.encoding import Encoding, Float
from bitfold.layers.activations import RPReLU, TwoSlope
from bitfold.layers.adder import AdderConv2d
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.layers.scale_map import ScaleMap
from bitfold.layers.shift_norm import ShiftNorm
from bitfold.quantizers.base import Identity, Quantizer


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
    return Step(ops.Quantize, path, (x,), x.shape, module=_FirstAxis(quantizer) if call.channels_last else quantizer)


class _FirstAxis(Quantizer):
    """A quantiser of features along the last axis, for channels along the first one."""

    def __init__(self, inner: Quantizer) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.movedim(1, -1)).movedim(-1, 1)  # type: ignore[no-any-return]

    def codes(self, x: Tensor) -> Tensor:
        return self.inner.codes(x.movedim(1, -1)).movedim(-1, 1)

    def encoding(self, x: Tensor | None = None) -> Encoding:
        return self.inner.encoding(x)


def conv(call: Call, module: nn.Conv1d | nn.Conv2d, x: Step) -> Step:
    """A Conv1d is a convolution of columns (C, L, 1)."""
    stride, dilation, kernel = (_pair(v, 1) for v in (module.stride, module.dilation, module.kernel_size))
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if module.padding == "valid":
        padding = (0, 0)
    elif module.padding == "same":
        padding = (total[0] // 2, total[1] // 2)
    else:
        padding = _pair(module.padding, 0)  # type: ignore[arg-type]
    one_sided = module.padding == "same" and any(t % 2 for t in total)
    if module.padding_mode != "zeros" or one_sided:
        if isinstance(module, QuantConv2d):
            got = f"padding={module.padding!r}, padding_mode={module.padding_mode!r} with kernel {module.kernel_size}"
            raise call.refuse(f"{got}; allowed: zeros, as many on both sides")
        x, padding = _padded(call, module, x), (0, 0)
    fields: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": module.groups}
    if isinstance(module, QuantConv2d):
        x = _quantised(call, module.act_quant, x, f"{call.path}.act_quant")
    if isinstance(module, AdderConv2d):
        fields["metric"] = ops.DISTANCE
    return Step(ops.Conv, call.path, (x,), call.shape, fields, module)


def _pair(value: tuple[int, ...], neutral: int) -> tuple[int, int]:
    """Of rows and columns; a Conv1d has one."""
    return (int(value[0]), int(value[1])) if len(value) == 2 else (int(value[0]), neutral)


def _padded(call: Call, module: nn.Conv1d | nn.Conv2d, x: Step) -> Step:
    """The input with its border, whatever it is made of."""
    amounts: list[int] = module._reversed_padding_repeated_twice
    amounts = amounts if len(amounts) == 4 else [0, 0, *amounts]
    mode = module.padding_mode if module.padding_mode != "zeros" else "constant"
    around = replace(call, name=f"{call.name}'s padding")
    ((index, _, _),) = positions(around, lambda v: F.pad(v, amounts, mode), whole(x), 2)
    return Reader().value(whole(x).moved(index, f"{call.path}.padding"))


def linear(call: Call, module: nn.Linear, x: Step) -> Step:
    """Of tokens it is a 1x1 convolution, each pixel a token."""
    if isinstance(module, QuantLinear):
        x = _quantised(call, module.act_quant, x, f"{call.path}.act_quant")
    shape = (module.out_features, *x.shape[1:])
    return Step(ops.Linear if len(shape) == 1 else ops.Conv, call.path, (x,), shape, {}, module)


def conv_function(
    call: Call, x: Step, weight: object, bias: object = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Step:
    """F.conv2d with a constant weight, whatever the model has made it of."""
    weight, bias = constants(call, weight, bias)
    module = nn.Conv2d(weight.shape[1] * groups, len(weight), weight.shape[2:], stride, padding, dilation, groups, bias is not None)  # type: ignore[arg-type]
    return conv(call, holding(module, weight, bias), x)


def linear_function(call: Call, x: Step, weight: object, bias: object = None) -> Step:
    weight, bias = constants(call, weight, bias)
    return linear(call, holding(nn.Linear(weight.shape[1], len(weight), bias is not None), weight, bias), x)


def constants(call: Call, weight: object, bias: object) -> tuple[Tensor, Tensor | None]:
    if not isinstance(weight, Tensor) or not isinstance(bias, Tensor | None):
        raise call.refuse("its weight or its bias is computed from the model's input; allowed: constants")
    return weight.detach(), bias if bias is None else bias.detach()


def holding(module: Any, weight: Tensor, bias: Tensor | None) -> Any:
    module.weight.data = weight
    if bias is not None:
        module.bias.data = bias
    return module


def quantizer(call: Call, module: Quantizer, x: Step) -> Step:
    return _quantised(call, module, x, call.path)


def batch_norm(call: Call, module: nn.BatchNorm1d | nn.BatchNorm2d, x: Step) -> Step:
    return batch_norm_function(call, x, module.running_mean, module.running_var, module.weight, module.bias, eps=module.eps)


def batch_norm_function(
    call: Call,
    x: Step,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Step:
    if running_mean is None or running_var is None or training:
        raise call.refuse("statistics of the batch (training, or track_running_stats=False); allowed: running statistics, as in deployment")
    # slope and shift as PyTorch itself makes them, in float32: the folded layer then stays as close to it as rounding allows
    slope = 1 / torch.sqrt(running_var + eps)
    if weight is not None:
        slope = slope * weight
    shift = -running_mean * slope
    if bias is not None:
        shift = bias + shift
    return calls.affine(call, x, call.float_tensor(slope, "slope"), call.float_tensor(shift, "shift"))


def shift_norm(call: Call, module: ShiftNorm, x: Step) -> Step:
    slope, shift = module.slope_and_shift()
    return calls.affine(call, x, call.float_tensor(slope, "slope"), call.float_tensor(shift, "shift"))


def max_pool(call: Call, m: nn.MaxPool2d, x: Step) -> Step:
    return calls.max_pool2d(call, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices)  # type: ignore[arg-type]


def max_pool1d(call: Call, m: nn.MaxPool1d, x: Step) -> Step:
    kernel, stride, padding = _column(m.kernel_size, 1), _column(m.stride, 1), _column(m.padding, 0)
    return calls.max_pool2d(call, x, kernel, stride, padding, _column(m.dilation, 1), m.ceil_mode, m.return_indices)


def avg_pool1d(call: Call, m: nn.AvgPool1d, x: Step) -> Step:
    kernel, stride, padding = _column(m.kernel_size, 1), _column(m.stride, 1), _column(m.padding, 0)
    return calls.avg_pool2d(call, x, kernel, stride, padding, m.ceil_mode, m.count_include_pad)


def _column(size: Any, neutral: int) -> tuple[int, int]:
    return (int(size[0] if isinstance(size, tuple) else size), neutral)


def avg_pool(call: Call, m: nn.AvgPool2d, x: Step) -> Step:
    return calls.avg_pool2d(call, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override)  # type: ignore[arg-type]


def two_slope(call: Call, m: TwoSlope, x: Step) -> Step:
    return call.elementwise(ops.TwoSlope, x, neg=call.float_tensor(m.neg, "neg"), pos=call.float_tensor(m.pos, "pos"))


def rprelu(call: Call, m: RPReLU, x: Step) -> Step:
    arrays = {name: call.float_tensor(getattr(m, name), name) for name in ("neg", "shift_in", "shift_out")}
    return call.elementwise(ops.TwoSlope, x, **arrays)


def scale_map(call: Call, m: ScaleMap, x: Step) -> Step:
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
