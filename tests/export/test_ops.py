"""Every operation alone, in each way of writing it, against PyTorch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.export.nets import Lambda, compare, inputs, kinds
from torch import Tensor, nn

from bitfold.layers.activations import RPReLU, TwoSlope

CHANNELS = 5


def slopes(module: nn.Module) -> nn.Module:
    """Random slopes and shifts, negative ones too."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return module


def call(function: Callable[[Tensor], Tensor]) -> nn.Module:
    return Lambda(lambda self, x: function(x))


VECTOR = torch.linspace(-1, 2, CHANNELS)
COLUMN = VECTOR.view(1, -1, 1, 1)

NORM = ["Mean", "Affine", "Add", "Mul", "Mean", "Affine", "Unary", "Mul"]
NORM_GROUPS = ["Mean", "Conv", "Conv", "Affine", "Add", "Mul", "Mean", "Conv", "Conv", "Affine", "Unary", "Mul"]
NORM_VECTOR = [kind for kind in NORM_GROUPS if kind != "Mean"]
IMAGES: dict[str, tuple[nn.Module, list[str]]] = {
    "relu": (nn.ReLU(), ["Clamp"]),
    "relu_function": (call(F.relu), ["Clamp"]),
    "relu_method": (call(lambda x: x.relu()), ["Clamp"]),
    "relu_torch": (call(torch.relu), ["Clamp"]),
    "relu_in_place": (nn.ReLU(inplace=True), ["Clamp"]),
    "relu6": (nn.ReLU6(), ["Clamp"]),
    "relu6_function": (call(F.relu6), ["Clamp"]),
    "hardtanh": (nn.Hardtanh(-0.5, 0.75), ["Clamp"]),
    "hardtanh_function": (call(lambda x: F.hardtanh(x, -2, 1)), ["Clamp"]),
    "clamp": (call(lambda x: torch.clamp(x, -0.3, 0.4)), ["Clamp"]),
    "clamp_one_sided": (call(lambda x: x.clamp(max=0.4)), ["Clamp"]),
    "clamp_min": (call(lambda x: x.clamp_min(0.1)), ["Clamp"]),
    "leaky_relu": (nn.LeakyReLU(0.2), ["TwoSlope"]),
    "leaky_relu_function": (call(lambda x: F.leaky_relu(x, 0.3)), ["TwoSlope"]),
    "prelu": (slopes(nn.PReLU(CHANNELS)), ["TwoSlope"]),
    "prelu_one_slope": (slopes(nn.PReLU()), ["TwoSlope"]),
    "prelu_function": (call(lambda x: F.prelu(x, VECTOR)), ["TwoSlope"]),
    "rprelu": (slopes(RPReLU(CHANNELS)), ["TwoSlope"]),
    "two_slope": (slopes(TwoSlope(CHANNELS)), ["TwoSlope"]),
    "slice_channels": (call(lambda x: x[:, 1:-1]), ["Slice"]),
    "chunk": (call(lambda x: x.chunk(2, 1)[1]), ["Slice"]),
    "group_norm": (slopes(nn.GroupNorm(1, CHANNELS)), [*NORM_GROUPS, "Affine"]),
    "group_norm_function": (call(lambda x: F.group_norm(x[:, :4], 2)), ["Slice", *NORM_GROUPS]),
    "instance_norm": (nn.InstanceNorm2d(CHANNELS), NORM),
    "split": (call(lambda x: torch.cat([x.split([1, 3, 1], dim=1)[i] for i in (2, 0, 1)], 1)), ["Slice"] * 3 + ["Concat"]),
    "sigmoid": (nn.Sigmoid(), ["Unary"]),
    "sigmoid_function": (call(F.sigmoid), ["Unary"]),
    "sigmoid_torch": (call(torch.sigmoid), ["Unary"]),
    "sigmoid_method": (call(lambda x: x.sigmoid()), ["Unary"]),
    "tanh": (nn.Tanh(), ["Unary"]),
    "tanh_method": (call(lambda x: x.tanh()), ["Unary"]),
    "silu": (nn.SiLU(), ["Unary"]),
    "silu_function": (call(F.silu), ["Unary"]),
    "gelu": (nn.GELU(), ["Unary"]),
    "gelu_tanh": (nn.GELU("tanh"), ["Unary"]),
    "gelu_function": (call(lambda x: F.gelu(x, approximate="tanh")), ["Unary"]),
    "hardsigmoid": (nn.Hardsigmoid(), ["Unary"]),
    "hardsigmoid_function": (call(F.hardsigmoid), ["Unary"]),
    "hardswish": (nn.Hardswish(), ["Unary"]),
    "hardswish_function": (call(F.hardswish), ["Unary"]),
    "abs": (call(torch.abs), ["Abs"]),
    "abs_builtin": (call(abs), ["Abs"]),
    "abs_method": (call(lambda x: x.abs()), ["Abs"]),
    "negative": (call(lambda x: -x), ["Affine"]),
    "add_number": (call(lambda x: x + 0.5), ["Affine"]),
    "add_vector": (call(lambda x: COLUMN + x), ["Affine"]),
    "subtract": (call(lambda x: x - COLUMN), ["Affine"]),
    "subtract_from": (call(lambda x: 1 - x), ["Affine"]),
    "multiply": (call(lambda x: x * COLUMN), ["Affine"]),
    "divide": (call(lambda x: x / 3), ["Affine"]),
    "add_itself": (call(lambda x: x + x), ["Add"]),
    "add_method": (call(lambda x: x.add(x.abs())), ["Abs", "Add"]),
    "subtract_data": (call(lambda x: x - x.abs()), ["Abs", "Affine", "Add"]),
    "multiply_data": (call(lambda x: x * x.abs()), ["Abs", "Mul"]),
    "gate_channels": (call(lambda x: x * x.mean((2, 3), keepdim=True)), ["Mean", "Mul"]),
    "gate_pixels": (call(lambda x: x.mean(1, keepdim=True) * x), ["Mean", "Mul"]),
    "max_pool": (nn.MaxPool2d(2), ["MaxPool"]),
    "max_pool_padded": (nn.MaxPool2d(3, 2, padding=1), ["MaxPool"]),
    "max_pool_ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), ["MaxPool"]),
    "max_pool_padded_ceil": (nn.MaxPool2d((2, 3), (3, 2), padding=(1, 1), ceil_mode=True), ["MaxPool"]),
    "max_pool_dilated": (nn.MaxPool2d(2, 1, dilation=2), ["MaxPool"]),
    "max_pool_function": (call(lambda x: F.max_pool2d(x, 2, stride=1)), ["MaxPool"]),
    "avg_pool": (nn.AvgPool2d(2), ["AvgPool"]),
    "avg_pool_ceil": (nn.AvgPool2d(2, ceil_mode=True), ["AvgPool"]),
    "avg_pool_counts_padding": (nn.AvgPool2d(3, 1, padding=1), ["AvgPool"]),
    "avg_pool_counts_image": (nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), ["AvgPool"]),
    "avg_pool_ceil_image": (nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False), ["AvgPool"]),
    "avg_pool_function": (call(lambda x: F.avg_pool2d(x, (3, 1), 1)), ["AvgPool"]),
    "global_mean": (nn.AdaptiveAvgPool2d(1), ["Mean"]),
    "global_mean_function": (call(lambda x: F.adaptive_avg_pool2d(x, (1, 1))), ["Mean"]),
    "global_mean_method": (call(lambda x: x.mean([-1, -2])), ["Mean", "Flatten"]),
    "channel_mean": (call(lambda x: torch.mean(x, 1, keepdim=True)), ["Mean"]),
    "adaptive_avg": (nn.AdaptiveAvgPool2d((7, 1)), ["AvgPool"]),
    "adaptive_max": (nn.AdaptiveMaxPool2d((1, 3)), ["MaxPool"]),
    "adaptive_max_function": (call(lambda x: F.adaptive_max_pool2d(x, 1)), ["MaxPool"]),
    "concat": (call(lambda x: torch.cat([x, x.abs(), x], dim=1)), ["Abs", "Concat"]),
    "pad_channels": (call(lambda x: F.pad(x, (0, 0, 0, 0, 1, 2))), ["PadChannels"]),
    "subsample": (call(lambda x: x[:, :, ::2, ::3]), ["MaxPool"]),
    "subsample_rows": (call(lambda x: x[:, :, ::2]), ["MaxPool"]),
    "flatten": (nn.Flatten(), ["Flatten"]),
    "flatten_function": (call(lambda x: torch.flatten(x, 1)), ["Flatten"]),
    "view": (call(lambda x: x.view(x.size(0), -1)), ["Flatten"]),
    "reshape": (call(lambda x: x.reshape(x.shape[0], -1)), ["Flatten"]),
    "squeeze": (call(lambda x: x.mean((2, 3), keepdim=True).squeeze((2, 3)).abs()), ["Mean", "Flatten", "Abs"]),
    "softmax": (nn.Softmax(dim=1), ["Softmax"]),
    "softmax_function": (call(lambda x: F.softmax(x, dim=-3)), ["Softmax"]),
    "dropped": (nn.Sequential(nn.Dropout(), nn.Identity(), nn.Dropout2d(), nn.ReLU()), ["Clamp"]),
    "dropped_function": (Lambda(lambda self, x: F.relu(F.dropout(x, 0.5, self.training))), ["Clamp"]),
    "conv": (nn.Conv2d(CHANNELS, 4, 3, padding=1), ["Conv"]),
    "conv_same": (nn.Conv2d(CHANNELS, 4, (3, 1), padding="same", dilation=2, bias=False), ["Conv"]),
    "conv_grouped": (nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, stride=(2, 1), groups=CHANNELS, padding="valid"), ["Conv"]),
}


@pytest.mark.native
@pytest.mark.parametrize("name", IMAGES)
def test_image_operation(name: str, rng: np.random.Generator) -> None:
    module, expected = IMAGES[name]
    graph = compare(module.train(), inputs(rng, 2, CHANNELS, 7, 9))
    assert kinds(graph) == expected


VECTORS: dict[str, tuple[nn.Module, list[str]]] = {
    "linear": (nn.Linear(CHANNELS, 3), ["Linear"]),
    "batch_norm": (nn.BatchNorm1d(CHANNELS), ["Affine"]),
    "layer_norm": (slopes(nn.LayerNorm(CHANNELS)), [*(kind.replace("Conv", "Linear") for kind in NORM_VECTOR), "Affine"]),
    "layer_norm_function": (call(lambda x: F.layer_norm(x, (CHANNELS,))), [kind.replace("Conv", "Linear") for kind in NORM_VECTOR]),
    "relu": (nn.ReLU(), ["Clamp"]),
    "prelu": (slopes(nn.PReLU(CHANNELS)), ["TwoSlope"]),
    "two_slope": (slopes(TwoSlope(CHANNELS, -1)), ["TwoSlope"]),
    "constant": (call(lambda x: x * VECTOR - 1), ["Affine", "Affine"]),
    "flatten_nothing": (nn.Sequential(nn.Flatten(), nn.ReLU()), ["Clamp"]),
    "softmax": (nn.Softmax(-1), ["Softmax"]),
    "concat": (call(lambda x: torch.cat((x, -x), 1)), ["Affine", "Concat"]),
    "scaled_by_mean": (call(lambda x: x * x.abs().mean(-1, keepdim=True)), ["Abs", "Linear", "Linear", "Mul"]),
}


@pytest.mark.native
@pytest.mark.parametrize("name", VECTORS)
def test_vector_operation(name: str, rng: np.random.Generator) -> None:
    module, expected = VECTORS[name]
    graph = compare(module, inputs(rng, 3, CHANNELS))
    assert kinds(graph) == expected


@pytest.mark.native
def test_batch_norm_folds_into_the_layer_in_front(rng: np.random.Generator) -> None:
    bn = nn.BatchNorm2d(4)
    bn.running_mean.copy_(inputs(rng, 4))
    bn.weight.data = inputs(rng, 4)
    model = Lambda(lambda self, x: self.bn(self.conv(x) * 2) + 1, conv=nn.Conv2d(CHANNELS, 4, 3), bn=bn)
    graph = compare(model, inputs(rng, 2, CHANNELS, 6, 6))
    assert kinds(graph) == ["Conv"]
    weight: Any = model.conv.weight
    assert np.array_equal(graph.constants["conv.weight"].data, weight.detach().numpy()), "weights are not rewritten"


@pytest.mark.native
def test_several_inputs_and_outputs(rng: np.random.Generator) -> None:
    import bitfold

    class Two(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
            return left + right, left.relu()

    a, b = inputs(rng, 2, 3, 4, 4), inputs(rng, 2, 3, 4, 4)
    graph = bitfold.export(Two(), (a, b))
    assert list(graph.inputs) == ["left", "right"]
    for got in (bitfold.interpret(graph, a.numpy(), b.numpy()), bitfold.load(graph)(a.numpy(), b.numpy())):
        np.testing.assert_array_equal(got[0], (a + b).numpy())
        np.testing.assert_array_equal(got[1], a.relu().numpy())


def test_in_place_operations_change_what_later_lines_read(rng: np.random.Generator) -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        h = x + 1
        y = F.relu(h, inplace=True)
        return h - 2 * y  # h is y by now

    assert kinds(compare(Lambda(forward), inputs(rng, 2, 3, 4, 4))) == ["Affine", "Clamp", "Affine", "Affine", "Add"]


def test_arguments_with_defaults_are_constants(rng: np.random.Generator) -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor, scale: float = 3.0) -> Tensor:
            return x * scale

    assert kinds(compare(Scaled(), inputs(rng, 2, 3, 4, 4))) == ["Affine"]
