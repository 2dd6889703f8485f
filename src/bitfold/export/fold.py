"""Folds a layer's scales, offsets, bias and following affines into one epilogue, in float64.

With activations o_a + s_a c_a and weights o_w + s_w c_w over the valid taps a layer gives

    s_a s_w D + s_a o_w S_a + o_a s_w S_w + o_a o_w V + bias

and an affine m y + t behind it multiplies every term by m and adds t.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitfold.errors import ExportError
from bitfold.export.builder import Builder
from bitfold.export.modules import stated_encoding
from bitfold.export.steps import Call, Step
from bitfold.export.thresholds import check_forward
from bitfold.ir.encoding import Binary, Coded, Encoding, Float, Uniform
from bitfold.ir.ops import DISTANCE, Epilogue, Linear
from bitfold.layers.quant import QuantConv2d, QuantLinear


@dataclass(frozen=True, eq=False)
class Weight:
    """A layer's weight as the IR holds it: float values, or codes with scale and offset per output channel (float64)."""

    data: np.ndarray
    encoding: Encoding  # of the stored codes: scale 1, offset 0, for both live in the epilogue
    scale: np.ndarray
    offset: np.ndarray

    @property
    def coded(self) -> bool:
        return not isinstance(self.encoding, Float)


@dataclass(frozen=True, eq=False)
class Terms:
    """The coefficients of D, 1, S_a, S_w and V, each (out_channels,), float64; ``x_offset`` (channels of x,) is added to the codes."""

    mul: np.ndarray
    bias: np.ndarray
    patch_mul: np.ndarray
    weight_mul: np.ndarray
    tap_mul: np.ndarray
    x_offset: np.ndarray | None = None

    def then(self, m: np.ndarray, t: np.ndarray) -> "Terms":
        """Followed by m y + t."""
        return Terms(m * self.mul, m * self.bias + t, m * self.patch_mul, m * self.weight_mul, m * self.tap_mul, self.x_offset)

    def without_patch(self) -> "Terms":
        return replace(self, patch_mul=np.zeros_like(self.mul))

    @property
    def same_everywhere(self) -> bool:
        """Nothing but D depends on the position."""
        return not (self.patch_mul.any() or self.weight_mul.any() or self.tap_mul.any())

    def epilogue(self, builder: Builder, name: str) -> Epilogue:
        """Only the parts that say something."""

        def stored(field: str, neutral: float) -> str | None:
            value = getattr(self, field)
            return None if value is None or (value == neutral).all() else builder.array(f"{name}.{field}", value)

        neutral = {"mul": 1.0, "bias": 0.0, "patch_mul": 0.0, "weight_mul": 0.0, "tap_mul": 0.0, "x_offset": 0.0}
        return Epilogue(**{field: stored(field, value) for field, value in neutral.items()})


def refusal(step: Step, reason: str) -> ExportError:
    return _call(step).refuse(reason)


def _call(step: Step) -> Call:
    return Call(step.path, type(step.module).__name__, step.shape, torch.clone)


def weight_of(step: Step) -> Weight:
    """Asks the weight quantiser; refuses an encoding that the layer cannot use."""
    layer: Any = step.module
    raw: Tensor = layer.weight.detach()
    channels = len(raw)
    one, zero = np.ones(channels), np.zeros(channels)
    shape = (*raw.shape, 1, 1)[: 2 if step.op is Linear else 4]  # a Linear of tokens is a 1x1 convolution
    if not isinstance(layer, QuantConv2d | QuantLinear):
        return Weight(raw.numpy().reshape(shape), Float(), one, zero)
    encoding = stated_encoding(_call(step), layer.weight_quant, raw)
    if isinstance(encoding, Float):
        return Weight(layer.weight_quant(raw).detach().numpy().reshape(shape), Float(), one, zero)
    if problem := check_forward(layer.weight_quant, _refuse_scale(step, encoding, channels), raw, 0):
        raise refusal(step, f"weight quantiser {type(layer.weight_quant).__name__}: {problem}")
    codes = layer.weight_quant.codes(raw).numpy().astype(np.int16)
    return Weight(codes.reshape(shape), plain(encoding), _spread(encoding.scale, channels), _spread(encoding.offset, channels))


def plain(encoding: Coded) -> Coded:
    """The alphabet alone: scale 1 and offset 0."""
    if isinstance(encoding, Binary):
        return Binary()
    return replace(encoding, scale=1.0, zero_point=0) if isinstance(encoding, Uniform) else replace(encoding, scale=1.0)


def _spread(scale: float | tuple[float, ...], channels: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(scale, dtype=np.float64).reshape(-1), channels)


def _refuse_scale(step: Step, encoding: Coded, channels: int) -> Coded:
    for part in ("scale", "offset"):
        value = np.asarray(getattr(encoding, part), dtype=np.float64)
        if value.size not in (1, channels) or not np.isfinite(value).all():
            raise refusal(step, f"the weights' {part} has {value.size} entries or is not finite; allowed: 1 or {channels} finite numbers")
    return encoding


def act_encoding(step: Step) -> Coded:
    """The encoding that an activation quantiser states for inference: one finite scale and offset."""
    call = _call(step)
    encoding = stated_encoding(call, step.module)  # type: ignore[arg-type]
    assert not isinstance(encoding, Float)
    for part in ("scale", "offset"):
        value = np.asarray(getattr(encoding, part), dtype=np.float64)
        if value.size != 1 or not np.isfinite(value).all():
            raise call.refuse(f"{part} of the activations is {value.tolist()!r:.80}; allowed: one finite number for all channels")
    if isinstance(encoding.scale, tuple):
        return replace(encoding, scale=float(encoding.scale[0]))
    return encoding


def terms(step: Step, weight: Weight, act: Coded | None) -> Terms:
    """The layer alone, without what follows. ``act`` is None for float32 activations."""
    s_a, o_a = (float(act.scale), float(act.offset)) if act is not None else (1.0, 0.0)  # type: ignore[arg-type]
    layer: Any = step.module
    bias = layer.bias.detach().double().numpy() if layer.bias is not None else np.zeros(len(weight.data))
    made = Terms(s_a * weight.scale, bias, s_a * weight.offset, o_a * weight.scale, o_a * weight.offset)
    if act is None or any(step.attrs.get("padding", (0, 0))):
        return made
    # every tap is valid at every position: S_w and V are constants of the channel
    taps = tuple(range(1, weight.data.ndim))
    fixed = made.weight_mul * weight.data.sum(axis=taps, dtype=np.int64) + made.tap_mul * np.prod(weight.data.shape[1:])
    return replace(made, bias=bias + fixed, weight_mul=0 * bias, tap_mul=0 * bias)


def distance_terms(step: Step, weight: Weight, act: Coded | None) -> Terms:
    """The same for distances: one scale of activations and weights comes out of all of them."""
    if act is None or not (isinstance(act, Uniform) and isinstance(weight.encoding, Uniform)):
        raise refusal(step, "distances need Uniform codes of activations and weights")
    if act.offset != 0 or weight.offset.any() or (weight.scale != act.scale).any():
        got = f"scale {act.scale} and offset {act.offset}, weights up to {weight.scale.max()} and {np.abs(weight.offset).max()}"
        raise refusal(step, f"activations have {got}; allowed: one scale for both, no offset")
    layer: Any = step.module
    zero = np.zeros(len(weight.data))
    return Terms(weight.scale, zero if layer.bias is None else layer.bias.detach().double().numpy(), zero, zero, zero)


def sum_range(step: Step, weight: Weight, act: Coded) -> tuple[int, int]:
    """The smallest and largest D that any channel can reach at any position."""
    if step.attrs.get("metric") == DISTANCE:
        far = np.maximum(np.abs(weight.data.astype(np.int64) - act.min_code), np.abs(weight.data.astype(np.int64) - act.max_code))
        return -int(far.reshape(len(far), -1).sum(axis=1).max()), 0
    codes, taps = weight.data.astype(np.int64), tuple(range(1, weight.data.ndim))
    up, down = codes.clip(min=0).sum(axis=taps), codes.clip(max=0).sum(axis=taps)
    low, high = min(act.min_code, 0), max(act.max_code, 0)  # a padded tap adds 0
    return int((up * low + down * high).min()), int((up * high + down * low).max())
