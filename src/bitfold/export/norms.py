"""Converters of normalisations by the input's own mean and deviation, made of means, sums, products and 1 / sqrt.

An average is spread over what it normalises by broadcasting ((C, 1, 1) beside an image) or by a layer of ones.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitfold.export.steps import Call, Step
from bitfold.ir import ops

Average = Callable[[Step, str], Step]  # (value, its name) -> the averages, in a shape that broadcasts to the value's


def layer_norm(call: Call, x: Step, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Step:
    """Over the features of a vector, or the channels of each pixel."""
    return _normalise(call, x, _of_last_axis(call, x, normalized_shape), weight, bias, eps)


def rms_norm(call: Call, x: Step, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Step:
    """The same without a mean."""
    return _divided(call, x, _of_last_axis(call, x, normalized_shape), weight, None, torch.finfo(torch.float32).eps if eps is None else eps)


def unit_length(call: Call, x: Step, eps: float) -> Step:
    """x / max(||x||, eps), here x / sqrt(||x||^2 + eps^2)."""
    n = x.shape[0]
    return _divided(call, x, _of_last_axis(call, x, (n,)), torch.full((n,), n**-0.5), None, eps * eps / n)


def _of_last_axis(call: Call, x: Step, normalized_shape: Any) -> Average:
    n = x.shape[0]
    if tuple(normalized_shape) != (n,):
        raise call.refuse(f"normalises {tuple(normalized_shape)}, several axes; allowed: the last axis alone")

    def over_channels(value: Step, name: str) -> Step:
        return Step(ops.Mean, f"{call.path}.{name}", (value,), (1, *x.shape[1:]), {"over": "channels"})

    def over_features(value: Step, name: str) -> Step:
        total = Step(ops.Linear, f"{call.path}.{name}", (value,), (1,), {"weight": np.full((1, n), 1 / n)})
        return Step(ops.Linear, f"{call.path}.{name}.spread", (total,), (n,), {"weight": np.ones((n, 1))})

    return over_features if len(x.shape) == 1 else over_channels


def group_norm(call: Call, x: Step, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Step:
    """Of an image, over the pixels and channels of each group."""
    channels = _channels(call, x)

    def average(value: Step, name: str) -> Step:
        space = Step(ops.Mean, f"{call.path}.{name}.space", (value,), (channels, 1, 1), {"over": "space"})
        if num_groups == channels:
            return space
        size = channels // num_groups
        mean = {"weight": np.full((num_groups, size, 1, 1), 1 / size), "groups": num_groups}
        groups = Step(ops.Conv, f"{call.path}.{name}", (space,), (num_groups, 1, 1), mean)
        ones = {"weight": np.ones((channels, 1, 1, 1)), "groups": num_groups}
        return Step(ops.Conv, f"{call.path}.{name}.spread", (groups,), (channels, 1, 1), ones)

    return _normalise(call, x, average, weight, bias, eps)


def instance_norm(call: Call, m: nn.InstanceNorm2d, x: Step) -> Step:
    if m.track_running_stats:
        raise call.refuse("track_running_stats=True; allowed: False, or BatchNorm2d")
    return group_norm(call, x, _channels(call, x), m.weight, m.bias, m.eps)


def _channels(call: Call, x: Step) -> int:
    if len(x.shape) != 3:
        raise call.refuse(f"the input has shape {x.shape} per sample; allowed: (channels, height, width)")
    return x.shape[0]


def _normalise(call: Call, x: Step, average: Average, weight: Any, bias: Any, eps: float) -> Step:
    """(x - mean) / sqrt(variance + eps), then the trained slope and shift of each channel."""
    mean = average(x, "mean")
    away = Step(ops.Add, f"{call.path}.away", (x, _affine(call, "minus", mean, -1.0, 0.0)), x.shape)
    return _divided(call, away, average, weight, bias, eps)


def _divided(call: Call, x: Step, average: Average, weight: Any, bias: Any, eps: float) -> Step:
    """x / sqrt(mean of its squares + eps), then slope and shift."""
    variance = average(Step(ops.Mul, f"{call.path}.square", (x, x), x.shape), "variance")
    safe = _affine(call, "eps", variance, 1.0, eps)
    scale = Step(ops.Unary, f"{call.path}.rsqrt", (safe,), safe.shape, {"kind": "rsqrt"})
    y = Step(ops.Mul, call.path, (x, scale), x.shape)
    if weight is None and bias is None:
        return y
    slope = np.ones(x.shape[0]) if weight is None else call.float_tensor(weight, "the weight")
    shift = np.zeros(x.shape[0]) if bias is None else call.float_tensor(bias, "the bias")
    a, b = (torch.from_numpy(v).float().view(-1, *[1] * (len(x.shape) - 1)) for v in (slope, shift))

    def by_torch(value: Tensor) -> Tensor:
        return value * a + b

    return Step(ops.Affine, f"{call.path}.affine", (y,), x.shape, {"mul": slope, "bias": shift}, torch=by_torch)


def _affine(call: Call, name: str, x: Step, mul: float, bias: float) -> Step:
    return Step(ops.Affine, f"{call.path}.{name}", (x,), x.shape, {"mul": np.full(x.shape[0], mul), "bias": np.full(x.shape[0], bias)})
