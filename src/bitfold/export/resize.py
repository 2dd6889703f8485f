"""Converters of what makes images larger: interpolation, PixelShuffle and transposed convolutions; and what moves behind it."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitfold.export import modules
from bitfold.export.calls import pair
from bitfold.export.steps import Call, Step
from bitfold.ir import ops

NEAREST, BILINEAR = ("nearest", "nearest-exact"), "bilinear"
CLOSE = 1e-6  # of the image's length, between PyTorch's interpolation of positions and the tables'


# ---- interpolation


def interpolate(
    call: Call,
    x: Step,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Step:
    """Tables of the rows and columns that are read, checked against what PyTorch makes of an image of its own positions."""
    if len(x.shape) != 3 or mode not in (*NEAREST, BILINEAR) or antialias:
        raise call.refuse(
            f"mode={mode!r}, antialias={antialias} of {x.shape}; allowed: images and lines, whose axes PyTorch interpolates one "
            "by one (its antialias goes wrong where one is a pixel wide)"
        )
    positions = [_positions_of_torch(call, x, axis) for axis in (1, 2)]
    if mode in NEAREST:
        rows, columns = (p.astype(np.int32) for p in positions)
        return call.step(ops.Upsample, x, rows=rows, columns=columns)
    factors = (None, None) if scale_factor is None or recompute_scale_factor else _factors(scale_factor)
    tables = [_between(x.shape[i + 1], call.shape[i + 1], bool(align_corners), factors[i]) for i in (0, 1)]
    for found, (at, weight), length in zip(positions, tables, x.shape[1:], strict=True):
        if np.abs(np.minimum(at + weight, length - 1) - found).max() > CLOSE * length:
            raise call.refuse("PyTorch interpolates at other positions than its documentation says")
    (rows, row_weights), (columns, column_weights) = tables
    return call.step(ops.Upsample, x, rows=rows, columns=columns, row_weights=row_weights, column_weights=column_weights)


def _factors(scale_factor: Any) -> tuple[float, float]:
    return (float(scale_factor[0]), float(scale_factor[1])) if isinstance(scale_factor, tuple | list) else (float(scale_factor),) * 2


def _positions_of_torch(call: Call, x: Step, axis: int) -> np.ndarray:
    """Where each output position of an axis lies in the input, as PyTorch itself places it."""
    ramp = torch.arange(x.shape[axis], dtype=torch.float32).view((1, 1, -1, 1) if axis == 1 else (1, 1, 1, -1))
    made = call.torch(ramp.expand(1, 1, *x.shape[1:]).contiguous())[0, 0]
    return (made[:, 0] if axis == 1 else made[0]).double().numpy()


def _between(size: int, out: int, align_corners: bool, factor: float | None) -> tuple[np.ndarray, np.ndarray]:
    """The position before each output position, int32, and how far towards the next one it lies; in float32, as PyTorch computes."""
    at = np.arange(out, dtype=np.float32)
    if out == size:  # whatever the factor says, PyTorch then copies
        where = at
    elif align_corners:
        where = at * (np.float32(size - 1) / np.float32(out - 1) if out > 1 else np.float32(0))
    else:
        step = np.float32(1 / factor) if factor else np.float32(size) / np.float32(out)
        where = np.maximum(step * (at + np.float32(0.5)) - np.float32(0.5), np.float32(0))
    before = np.minimum(where.astype(np.int32), size - 1)
    return before, np.clip(where - before.astype(np.float32), 0, 1).astype(np.float64)


# ---- channels that become pixels


def pixel_shuffle(call: Call, x: Step, upscale_factor: int) -> Step:
    return call.step(ops.DepthToSpace, x, factor=(upscale_factor, upscale_factor), groups=call.shape[0])


class Phases(nn.Conv2d):
    """The convolution that a transposed one becomes; no layer of the model."""


def conv_transpose(call: Call, module: nn.ConvTranspose2d, x: Step, output_size: Any = None) -> Step:
    """One Conv whose output channels are the phases of the stride, then DepthToSpace, which also crops the padding.

    Output position o = s q + phase - padding sums w[k] x[q - m] over the taps k with dilation * k = s m + phase. So the taps of a phase
    are an ordinary kernel, read backwards; all phases get kernels of one size, with zeros where a phase has no tap.
    """
    stride, cut, dilation = (pair(v) for v in (module.stride, module.padding, module.dilation))  # type: ignore[arg-type]
    weight = _phases(module.weight.detach().double().numpy(), module.groups, stride, dilation)
    reach = [n - 1 for n in weight.shape[2:]]
    # output rows q = 0 .. (padding + size - 1) // stride are needed; row j of a Conv with padding p gives q = j - p + reach
    last = [(cut[i] + call.shape[i + 1] - 1) // stride[i] for i in (0, 1)]
    padding = tuple(max(0, reach[i] - cut[i] // stride[i], last[i] - x.shape[i + 1] + 1) for i in (0, 1))
    rows = [x.shape[i + 1] + 2 * padding[i] - reach[i] for i in (0, 1)]
    before = [cut[i] + (padding[i] - reach[i]) * stride[i] for i in (0, 1)]
    after = [rows[i] * stride[i] - before[i] - call.shape[i + 1] for i in (0, 1)]
    conv = Phases(x.shape[0], len(weight), (*weight.shape[2:],), padding=padding, groups=module.groups, bias=module.bias is not None)
    conv.weight.copy_(torch.from_numpy(weight))
    if conv.bias is not None:
        conv.bias.copy_(torch.from_numpy(_spread(call.float_tensor(module.bias, "the bias"), module.groups, stride[0] * stride[1])))
    fields = {"padding": padding, "groups": module.groups}
    parts = Step(ops.Conv, f"{call.path}.phases", (x,), (len(weight), *rows), fields, conv)
    return call.step(ops.DepthToSpace, parts, factor=stride, groups=module.groups, crop=(*before, *after))


def conv_transpose_function(
    call: Call,
    x: Step,
    weight: object,
    bias: object = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Step:
    """F.conv_transpose2d with a constant weight."""
    weight, bias = modules.constants(call, weight, bias)
    channels, kernel = (len(weight), weight.shape[1] * groups), weight.shape[2:]
    module = nn.ConvTranspose2d(*channels, kernel, stride, padding, output_padding, groups, bias is not None, dilation)  # type: ignore[arg-type]
    return conv_transpose(call, modules.holding(module, weight, bias), x)


def _phases(weight: np.ndarray, groups: int, stride: tuple[int, int], dilation: tuple[int, int]) -> np.ndarray:
    """(I, O / groups, KH, KW) of a transposed convolution -> (groups * phases * O / groups, I / groups, taps of a phase ...)."""
    inputs, outputs, *kernel = weight.shape
    taps = [-(-(dilation[i] * (kernel[i] - 1) + 1) // stride[i]) for i in (0, 1)]
    whole = np.zeros((inputs, outputs, taps[0] * stride[0], taps[1] * stride[1]))
    whole[:, :, : dilation[0] * kernel[0] : dilation[0], : dilation[1] * kernel[1] : dilation[1]] = weight
    split = whole.reshape(groups, inputs // groups, outputs, taps[0], stride[0], taps[1], stride[1])[:, :, :, ::-1, :, ::-1]
    return np.ascontiguousarray(split.transpose(0, 4, 6, 2, 1, 3, 5).reshape(-1, inputs // groups, *taps))


def _spread(constant: np.ndarray, groups: int, phases: int) -> np.ndarray:
    """A constant of each channel behind a DepthToSpace, for the channels in front of it."""
    return constant.reshape(groups, 1, -1).repeat(phases, axis=1).reshape(-1)


# ---- what moves in front


_POINTWISE = (ops.Affine, ops.Clamp, ops.TwoSlope, ops.Abs, ops.Unary, ops.Quantize)
_BEFORE_DEPTH_TO_SPACE = (ops.Affine, ops.Clamp, ops.TwoSlope, ops.Abs, ops.Unary)


def behind(steps: list[Step], outputs: list[Step]) -> tuple[list[Step], list[Step]]:
    """The same steps, with pixels repeated or moved as late as possible: functions of one value are then computed once for all copies of a
    pixel, join the layer in front, and quantisers make codes before there are more of them."""
    readers: dict[Step, list[Step]] = {}
    for step in steps:
        for read in step.inputs:
            readers.setdefault(read, []).append(step)
    made: dict[Step, Step] = {}
    result: list[Step] = []
    for step in steps:
        source = step.inputs[0] if step.inputs else None
        alone = source is not None and source not in outputs and _serves(readers[source])
        now = step
        if source is not None and alone and (moved := _moved(step, made[source])) is not None:
            result.append(moved)
            now = replace(made[source], inputs=(moved,), torch=None)
        elif any(made[s] is not s for s in step.inputs):
            now = replace(step, inputs=tuple(made[s] for s in step.inputs))
        made[step] = now
        result.append(now)
    ends = [made[s] for s in outputs]
    return _live(result, ends), ends


def _serves(readers: list[Step]) -> bool:
    """Whether all that read a value may come before it: one function, or nothing but quantisers."""
    return len(readers) == 1 or all(r.op is ops.Quantize for r in readers)


def _moved(step: Step, source: Step) -> Step | None:
    """``step`` in front of ``source``, if both orders give the same."""
    small = source.inputs[0] if source.inputs else source
    if source.op is ops.Upsample and repeats(source) and step.op in _POINTWISE:
        return replace(step, inputs=(small,), shape=small.shape)
    if source.op is ops.DepthToSpace and step.op in _BEFORE_DEPTH_TO_SPACE:
        groups, phases = source.attrs["groups"], small.shape[0] // source.shape[0]
        attrs = {
            name: _spread(value, groups, phases) if isinstance(value, np.ndarray) and value.size > 1 else value
            for name, value in step.attrs.items()
        }
        return replace(step, inputs=(small,), shape=small.shape, attrs=attrs, torch=_by_phase(step, groups, phases))
    return None


def repeats(step: Step) -> bool:
    """Whether an Upsample gives every pixel of its input, some of them more than once, and nothing else."""
    if "row_weights" in step.attrs:
        return False
    sizes = step.inputs[0].shape[1:]
    return all(np.array_equal(np.unique(step.attrs[name]), np.arange(n)) for name, n in zip(("rows", "columns"), sizes, strict=True))


def _by_phase(step: Step, groups: int, phases: int) -> Any:
    """PyTorch's function of the channels behind, for the channels in front."""
    if step.torch is None:
        return None
    function = step.torch

    def run(x: Tensor) -> Tensor:
        n, c, *size = x.shape
        apart = x.view(n, groups, phases, c // groups // phases, -1).transpose(1, 2).reshape(n * phases, c // phases, *size)
        y = function(apart)
        return y.view(n, phases, groups, c // groups // phases, -1).transpose(1, 2).reshape(x.shape)

    return run


def _live(steps: list[Step], outputs: list[Step]) -> list[Step]:
    """Without what nothing reads any more."""
    needed = set(outputs)
    for step in reversed(steps):
        if step in needed:
            needed.update(step.inputs)
    return [step for step in steps if step in needed or step.op not in (ops.Upsample, ops.DepthToSpace)]
