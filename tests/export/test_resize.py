"""Interpolation, PixelShuffle and transposed convolutions against PyTorch, and what moves in front of them."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.export.nets import Lambda, compare, inputs, kinds, sign_conv
from torch import nn

import bitfold
from bitfold.ir import ops
from bitfold.ir.encoding import Binary

pytestmark = pytest.mark.native

ROWS: dict[str, tuple[Any, list[str]]] = {
    "nearest": (nn.Upsample(scale_factor=2), ["Upsample"]),
    "nearest_pair": (nn.UpsamplingNearest2d(scale_factor=(2, 3)), ["Upsample"]),
    "nearest_fraction": (nn.Upsample(scale_factor=1.7), ["Upsample"]),
    "nearest_smaller": (nn.Upsample(scale_factor=0.4, mode="nearest-exact"), ["Upsample"]),
    "nearest_size": (nn.Upsample(size=(11, 4)), ["Upsample"]),
    "nearest_function": (Lambda(lambda self, x: F.interpolate(x, scale_factor=2)), ["Upsample"]),
    "like_another": (Lambda(lambda self, x: F.interpolate(x[:, :, ::2, ::2], x.shape[2:])), ["MaxPool", "Upsample"]),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), ["Upsample"]),
    "bilinear_corners": (nn.UpsamplingBilinear2d(scale_factor=3), ["Upsample"]),
    "bilinear_one_row": (nn.Upsample(size=(1, 20), mode="bilinear", align_corners=True), ["Upsample"]),
    "bilinear_factor": (nn.Upsample(scale_factor=1.3, mode="bilinear"), ["Upsample"]),
    "bilinear_recomputed": (Lambda(lambda self, x: F.interpolate(x, None, 1.3, "bilinear", recompute_scale_factor=True)), ["Upsample"]),
    "bilinear_smaller": (nn.Upsample(size=(3, 2), mode="bilinear"), ["Upsample"]),
    "bicubic": (nn.Upsample(scale_factor=2, mode="bicubic"), ["Rearrange", "Conv", "Rearrange", "Conv", "Rearrange"]),
    "linear": (nn.Sequential(nn.Flatten(2), nn.Upsample(scale_factor=1.5, mode="linear")), ["Rearrange", "Conv", "Rearrange"]),
    "pixel_shuffle": (nn.PixelShuffle(2), ["DepthToSpace"]),
    "pixel_shuffle_function": (Lambda(lambda self, x: F.pixel_shuffle(x, 2)), ["DepthToSpace"]),
    "transposed": (nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1), ["Conv", "DepthToSpace"]),
    "transposed_depthwise": (nn.ConvTranspose2d(8, 8, 3, stride=3, groups=8, bias=False), ["Conv", "DepthToSpace"]),
}


@pytest.mark.parametrize("name", ROWS)
def test_operation(name: str, rng: np.random.Generator) -> None:
    module, expected = ROWS[name]
    graph = compare(module, inputs(rng, 2, 8, 7, 9))
    assert kinds(graph) == expected


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    target=st.one_of(st.tuples(st.integers(1, 20), st.integers(1, 20)), st.floats(0.3, 4)),
    mode=st.sampled_from(
        [
            *[("nearest", None, False), ("nearest-exact", None, False), ("bilinear", True, False), ("bilinear", False, False)],
            *[
                ("bicubic", False, False),
                ("bicubic", True, False),
                ("bicubic", False, True),
                ("bilinear", False, True),
                ("area", None, False),
            ],
        ]
    ),
)
@settings(max_examples=60, deadline=None)
def test_interpolation(size: tuple[int, int], target: Any, mode: tuple[str, bool | None, bool]) -> None:
    kind, corners, antialias = mode
    goal = {"scale_factor": target} if isinstance(target, float) else {"size": target}
    assume(not isinstance(target, float) or min(int(n * target) for n in size) >= 1)
    ends = target if isinstance(target, tuple) else [int(n * target) for n in size]
    assume(not antialias or min(*size, *ends) > 1)  # PyTorch itself goes wrong there
    goal |= {"mode": kind, "align_corners": corners, "antialias": antialias}
    compare(Lambda(lambda self, x: F.interpolate(x, **goal)), inputs(np.random.default_rng(0), 2, 3, *size))


@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    more=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    channels=st.sampled_from([(1, 1, 1), (4, 6, 2), (3, 3, 3), (5, 17, 1)]),
)
@settings(max_examples=40, deadline=None)
def test_transposed_convolution(size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, more: Any, channels: Any) -> None:
    assume(all(m < max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)))
    pixels = [
        (n - 1) * s - 2 * p + d * (k - 1) + m + 1 for n, k, s, p, d, m in zip(size, kernel, stride, padding, dilation, more, strict=True)
    ]
    assume(min(pixels) >= 1)
    in_channels, out_channels, groups = channels
    layer = nn.ConvTranspose2d(in_channels, out_channels, kernel, stride, padding, more, groups, True, dilation)
    compare(layer, inputs(np.random.default_rng(0), 2, in_channels, *size))


def test_constants_and_activations_join_the_convolution_in_front(rng: np.random.Generator) -> None:
    """Two groups, so that constants of channels must be put in the order of the phases."""
    bn = nn.BatchNorm2d(6)
    bn.running_mean.copy_(inputs(rng, 6))
    bn.weight.data = inputs(rng, 6)
    act = nn.PReLU(6)
    act.weight.data = inputs(rng, 6)
    graph = compare(nn.Sequential(nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2), bn, act), inputs(rng, 2, 4, 5, 6))
    assert kinds(graph) == ["Conv", "TwoSlope", "DepthToSpace"]
    assert [row.op for row in bitfold.load(graph).kernels] == ["Conv+TwoSlope", "DepthToSpace"]


def test_thresholds_behind_a_transposed_convolution(rng: np.random.Generator) -> None:
    bn = nn.BatchNorm2d(6)
    bn.weight.data = inputs(rng, 6)
    graph = compare(nn.Sequential(nn.ConvTranspose2d(3, 6, 2, 2), bn, sign_conv(6, 4)), inputs(rng, 2, 3, 5, 6))
    assert kinds(graph) == ["Conv", "DepthToSpace", "Quantize", "Conv"]


def test_codes_are_upsampled_in_bits(rng: np.random.Generator) -> None:
    """The quantiser behind joins the layer in front; packed codes are repeated."""
    model = nn.Sequential(sign_conv(3, 33), nn.BatchNorm2d(33), nn.Upsample(scale_factor=2), nn.Hardtanh(), sign_conv(33, 4))
    graph = compare(model, inputs(rng, 2, 3, 6, 5))
    assert kinds(graph) == ["Quantize", "Conv", "Quantize", "Upsample", "Conv"]
    upsample = next(node for node in graph.nodes if isinstance(node, ops.Upsample))
    assert graph.types[upsample.output].element == Binary()
    assert [row.op for row in bitfold.load(graph).kernels][-2:] == ["Upsample", "Conv"]


def test_what_someone_else_reads_stays_behind(rng: np.random.Generator) -> None:
    model = Lambda(lambda self, x: (up := self.up(x)) * torch.relu(up), up=nn.Upsample(scale_factor=2))
    assert kinds(compare(model, inputs(rng, 2, 3, 4, 5))) == ["Upsample", "Clamp", "Mul"]
