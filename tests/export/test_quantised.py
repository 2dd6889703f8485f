"""Quantised layers: borders, offsets, groups; which folds are taken; what stays in float."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.export.nets import Lambda, Steps, adabin_activation, adabin_weight, batch_norm, compare, inputs, kinds, sign_conv, sign_linear
from torch import nn

import bitfold
from bitfold.ir import ops
from bitfold.ir.encoding import Accumulator, Binary, Float, PowerOfTwo, Ternary
from bitfold.layers.activations import RPReLU, TwoSlope
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.quantizers.base import Quantizer, sign
from bitfold.quantizers.rsign import RSign
from bitfold.quantizers.scaled_sign import ScaledSign
from bitfold.quantizers.sign import Sign

pytestmark = pytest.mark.native


def shape_case(rng: np.random.Generator) -> dict[str, Any]:
    """A random convolution: odd channel counts, groups, strides, paddings, dilations, images."""
    groups = int(rng.choice([1, 1, 2, 3]))
    kernel = tuple(int(k) for k in rng.integers(1, 4, 2))
    return {
        "in_channels": groups * int(rng.integers(1, 7)),
        "out_channels": groups * int(rng.integers(1, 5)),
        "kernel_size": kernel,
        "stride": tuple(int(s) for s in rng.integers(1, 3, 2)),
        "padding": tuple(int(rng.integers(0, k + 1)) for k in kernel),
        "dilation": tuple(int(d) for d in rng.integers(1, 3, 2)),
        "groups": groups,
        "bias": bool(rng.integers(2)),
    }


def test_random_convolutions_with_offsets_are_exact_at_borders(rng: np.random.Generator) -> None:
    """Both sides AdaBin sets: y must be the float64 convolution of the values, padded with zeros after quantisation."""
    for _ in range(24):
        case = shape_case(rng)
        if np.prod(case["kernel_size"]) * case["in_channels"] // case["groups"] < 2:
            continue  # AdaBin's distance of a single weight is 0
        layer = QuantConv2d(**case, act_quant=adabin_activation(rng), weight_quant=adabin_weight())
        x = inputs(rng, 2, case["in_channels"], *(int(n) for n in rng.integers(5, 9, 2)))
        graph = compare(layer, x)
        bias = None if layer.bias is None else layer.bias.double()
        with torch.no_grad():
            q, w = layer.act_quant(x).double(), layer.weight_quant(layer.weight).double()
            expected = F.conv2d(q, w, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        got = bitfold.interpret(graph, x.numpy())
        np.testing.assert_allclose(got, expected, rtol=0, atol=3e-6 * max(1.0, float(expected.abs().max())), err_msg=str(case))


def test_linear_with_offsets(rng: np.random.Generator) -> None:
    layer = QuantLinear(37, 5, act_quant=adabin_activation(rng), weight_quant=adabin_weight())
    graph = compare(layer, inputs(rng, 4, 37))
    epilogue = graph.nodes[-1].epilogue
    assert epilogue.patch_mul is not None
    assert epilogue.weight_mul is None and epilogue.tap_mul is None, "without borders they are part of the bias"


def test_only_the_parts_that_say_something_are_stored(rng: np.random.Generator) -> None:
    plain = sign_conv(3, 4, 1)
    plain.weight.data = sign(plain.weight.data)
    graph = compare(plain, inputs(rng, 2, 3, 5, 5))
    assert graph.nodes[-1].epilogue == ops.Epilogue()
    assert graph.constants["0.weight"].type.element == Binary(), "scales live in the epilogue"
    one_sided = QuantConv2d(3, 4, 3, padding=1, bias=False, act_quant=adabin_activation(rng), weight_quant=ScaledSign("swap"))
    epilogue = compare(one_sided, inputs(rng, 2, 3, 5, 5)).nodes[-1].epilogue
    assert epilogue.patch_mul is None and epilogue.tap_mul is None and epilogue.weight_mul is not None


# ---- integer thresholds


def two_convs(between: nn.Module, rng: np.random.Generator, channels: int = 6, act: Quantizer | None = None) -> nn.Module:
    return nn.Sequential(sign_conv(4, channels, padding=1, bias=True), between, sign_conv(channels, 3, act=act))


def int_thresholds(graph: bitfold.Graph) -> list[str]:
    """The quantisers that compare accumulators."""
    return [n.name for n in graph.nodes if isinstance(n, ops.Quantize) and isinstance(graph.types[n.x].element, Accumulator)]


@pytest.mark.parametrize("between", ["nothing", "bn", "bn_hardtanh", "relu_bn", "prelu", "rprelu"])
@pytest.mark.parametrize("quantizer", ["sign", "rsign", "two_bits"])
def test_a_layer_that_feeds_only_a_quantiser_keeps_integers(between: str, quantizer: str, rng: np.random.Generator) -> None:
    bn = batch_norm(6, rng, 3.0)
    module: nn.Module = {
        "nothing": nn.Identity(),
        "bn": bn,
        "bn_hardtanh": nn.Sequential(bn, nn.Hardtanh()),
        "relu_bn": nn.Sequential(nn.ReLU(), bn),
        "prelu": nn.Sequential(bn, nn.PReLU(6)),
        "rprelu": nn.Sequential(RPReLU(6), bn, nn.Dropout()),
    }[between]
    rsign = RSign(6)
    rsign.shift.data = inputs(rng, 6) / 3
    act: Quantizer = {"sign": Sign(), "rsign": rsign, "two_bits": Steps([-0.5, 0.1, 0.6], signed=True)}[quantizer]
    graph = compare(two_convs(module, rng, act=act), inputs(rng, 3, 4, 8, 8))
    assert kinds(graph) == ["Quantize", "Conv", "Quantize", "Conv"]
    assert int_thresholds(graph) == ["2.act_quant"]
    assert graph.nodes[1].epilogue is None


def test_falling_channels_are_marked(rng: np.random.Generator) -> None:
    bn = nn.BatchNorm2d(6)
    bn.weight.data = torch.tensor([1.0, -1.0, 0.0, -0.5, 2.0, -3.0])
    graph = compare(two_convs(bn, rng), inputs(rng, 2, 4, 6, 6))
    quantize: Any = graph.nodes[2]
    assert graph.constants[quantize.descending].codes.tolist() == [1, -1, 1, -1, 1, -1]


def test_non_monotone_slopes_take_integers_where_codes_still_step_once(rng: np.random.Generator) -> None:
    """Two slopes of different signs: y >= 0 everywhere, or on one side only."""
    act = TwoSlope(6)
    act.pos.data = torch.tensor([1.0, -1.0, 1.0, -0.5, 0.3, 2.0])
    act.neg.data = torch.tensor([0.2, -0.3, -0.4, 0.4, 0.1, 0.0])
    graph = compare(two_convs(nn.Sequential(batch_norm(6, rng), act), rng), inputs(rng, 2, 4, 6, 6))
    assert int_thresholds(graph) == ["2.act_quant"], "a kink at 0 moves no sign change away from 0"
    shifted = nn.Sequential(nn.BatchNorm2d(6), act, Lambda(lambda self, x: x - 0.4))
    graph = compare(two_convs(shifted, rng), inputs(rng, 2, 4, 6, 6))
    assert int_thresholds(graph) == [] and "TwoSlope" in kinds(graph)


def test_max_pool_in_front_of_batch_norm_runs_on_integers(rng: np.random.Generator) -> None:
    """BinaryNet's order. Slopes of both signs: only the accumulator's own maximum is right."""
    between = nn.Sequential(nn.MaxPool2d(2), batch_norm(6, rng, 3.0), nn.Hardtanh())
    graph = compare(two_convs(between, rng), inputs(rng, 2, 4, 8, 8))
    assert kinds(graph) == ["Quantize", "Conv", "MaxPool", "Quantize", "Conv"]
    assert int_thresholds(graph) == ["2.act_quant"]


def test_max_pool_behind_batch_norm_runs_on_codes(rng: np.random.Generator) -> None:
    between = nn.Sequential(batch_norm(6, rng, 3.0), nn.MaxPool2d(3, 2, 1), nn.ReLU())
    graph = compare(two_convs(between, rng, act=Steps([0.5])), inputs(rng, 2, 4, 8, 8))
    assert kinds(graph) == ["Quantize", "Conv", "Quantize", "MaxPool", "Conv"]
    assert int_thresholds(graph) == ["2.act_quant"]


def test_max_pool_between_two_falling_functions_stays_in_float(rng: np.random.Generator) -> None:
    between = nn.Sequential(batch_norm(6, rng, 3.0), nn.MaxPool2d(2), batch_norm(6, rng))
    graph = compare(two_convs(between, rng), inputs(rng, 2, 4, 8, 8))
    assert kinds(graph) == ["Quantize", "Conv", "MaxPool", "Quantize", "Conv"]
    assert int_thresholds(graph) == []


def test_flatten_moves_behind_the_quantiser(rng: np.random.Generator) -> None:
    model = nn.Sequential(sign_conv(3, 5), batch_norm(5, rng, 2.0), nn.MaxPool2d(2), nn.Hardtanh(), nn.Flatten(), sign_linear(20, 4))
    graph = compare(model, inputs(rng, 2, 3, 6, 6))
    assert kinds(graph) == ["Quantize", "Conv", "Quantize", "MaxPool", "Flatten", "Linear"]
    features = RSign(20, channel_axis=-1)
    features.shift.data = inputs(rng, 20)
    model[-1] = sign_linear(20, 4, features)
    graph = compare(model, inputs(rng, 2, 3, 6, 6))
    assert kinds(graph) == ["Quantize", "Conv", "MaxPool", "Clamp", "Flatten", "Quantize", "Linear"], "thresholds per feature"


def test_vectors_fold_too(rng: np.random.Generator) -> None:
    bn = nn.BatchNorm1d(9)
    bn.weight.data, bn.bias.data = inputs(rng, 9), inputs(rng, 9)
    graph = compare(nn.Sequential(sign_linear(20, 9), bn, nn.Hardtanh(), sign_linear(9, 4)), inputs(rng, 5, 20))
    assert kinds(graph) == ["Quantize", "Linear", "Quantize", "Linear"] and len(int_thresholds(graph)) == 1


def test_position_dependent_terms_keep_the_float_path(rng: np.random.Generator) -> None:
    first = QuantConv2d(4, 6, 3, padding=1, act_quant=adabin_activation(rng), weight_quant=ScaledSign("swap"))
    graph = compare(nn.Sequential(first, batch_norm(6, rng), nn.Hardtanh(), sign_conv(6, 3)), inputs(rng, 2, 4, 6, 6))
    assert int_thresholds(graph) == [] and kinds(graph) == ["Quantize", "Conv", "Quantize", "Conv"]
    first.padding = (0, 0)  # no border: S_w and V are constants of the channel
    graph = compare(nn.Sequential(first, batch_norm(6, rng), nn.Hardtanh(), sign_conv(6, 3)), inputs(rng, 2, 4, 6, 6))
    assert int_thresholds(graph) == ["3.act_quant"]


def test_many_levels_share_one_row_of_float_thresholds(rng: np.random.Generator) -> None:
    act = Steps([0.1 * k for k in range(1, 64)])
    graph = compare(two_convs(batch_norm(6, rng), rng, act=act), inputs(rng, 2, 4, 6, 6))
    assert int_thresholds(graph) == []
    assert graph.constants[graph.nodes[2].thresholds].data.shape == (1, 63)


# ---- float values in front of quantisers


def test_functions_of_a_float_value_join_its_thresholds(rng: np.random.Generator) -> None:
    """XNOR-Net's order, BN - sign - conv, on a stream that others read as well."""
    stem, bn = nn.Conv2d(3, 6, 3, padding=1), batch_norm(6, rng)
    model = Lambda(
        lambda self, x: self.conv(self.act(self.bn(self.stem(x).relu()))), stem=stem, bn=bn, act=nn.Hardtanh(), conv=sign_conv(6, 4)
    )
    assert kinds(compare(model, inputs(rng, 2, 3, 6, 6))) == ["Conv", "Quantize", "Conv"]
    residual = Lambda(lambda self, x: x + self.conv(self.bn(x)), bn=bn, conv=sign_conv(6, 6, padding=1))
    assert kinds(compare(residual, inputs(rng, 2, 6, 6, 6))) == ["Quantize", "Conv", "Add"]


def test_two_slopes_of_different_signs_stay(rng: np.random.Generator) -> None:
    act = TwoSlope(3)
    act.neg.data = torch.tensor([-1.0, 0.5, 0.25])
    assert kinds(compare(nn.Sequential(act, sign_conv(3, 2, act=adabin_activation(rng))), inputs(rng, 2, 3, 5, 5)))[:2] == [
        "TwoSlope",
        "Quantize",
    ]


def test_quantisers_that_decide_alike_are_shared(rng: np.random.Generator) -> None:
    class Parallel(nn.Module):
        def __init__(self, other: Quantizer) -> None:
            super().__init__()
            self.bn, self.a, self.b = batch_norm(4, rng), sign_conv(4, 3), sign_conv(4, 3, act=other)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.bn(x)
            return torch.cat([self.a(x), self.b(x)], 1)

    x = inputs(rng, 2, 4, 5, 5)
    assert kinds(compare(Parallel(Sign()), x)) == ["Quantize", "Conv", "Conv", "Concat"]
    rsign = RSign(4)
    rsign.shift.data = inputs(rng, 4)
    assert kinds(compare(Parallel(rsign), x)) == ["Quantize", "Quantize", "Conv", "Conv", "Concat"]


def test_the_affine_of_copies_takes_the_layer_s_own(rng: np.random.Generator) -> None:
    class Copies(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.conv, self.bn, self.act = sign_conv(4, 3, padding=1), batch_norm(6, rng), nn.PReLU(6)
            self.after = batch_norm(3, rng) if scale != 1 else nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.after(self.conv(x))
            return self.act(self.bn(torch.cat([y, y], 1)))  # type: ignore[no-any-return]

    x = inputs(rng, 2, 4, 5, 5)
    for scale in (1, 2):
        graph = compare(Copies(scale), x)
        assert kinds(graph) == ["Quantize", "Conv", "Concat", "Affine", "TwoSlope"]
        (conv,) = (node for node in graph.nodes if isinstance(node, ops.Conv))
        assert conv.epilogue is None


# ---- mixed precision


def test_codes_meet_float_weights(rng: np.random.Generator) -> None:
    layer = QuantConv2d(3, 4, 3, padding=1, act_quant=adabin_activation(rng))
    assert kinds(compare(layer, inputs(rng, 2, 3, 6, 6))) == ["Quantize", "Dequantize", "Conv"]


def test_float_activations_with_coded_weights(rng: np.random.Generator) -> None:
    layer = QuantConv2d(4, 6, 3, padding=1, groups=2, weight_quant=ScaledSign("swap"))
    graph = compare(layer, inputs(rng, 2, 4, 6, 6))
    assert kinds(graph) == ["Conv"] and not isinstance(graph.constants["0.weight"].type.element, Float)


@pytest.mark.parametrize("groups", [1, 2])
def test_float_activations_with_offset_weights_add_the_patch_sum(groups: int, rng: np.random.Generator) -> None:
    conv = QuantConv2d(4, 6, 3, padding=1, groups=groups, weight_quant=adabin_weight())
    graph = compare(nn.Sequential(conv, batch_norm(6, rng)), inputs(rng, 2, 4, 6, 6))
    assert kinds(graph) == ["Conv", "Conv", "Conv", "Add"]
    linear = QuantLinear(12, 5, weight_quant=adabin_weight())
    assert kinds(compare(linear, inputs(rng, 2, 12))) == ["Linear", "Linear", "Linear", "Add"]


class Coarse(Quantizer):
    """Weights of a small alphabet: rounded to the nearest of its codes."""

    def __init__(self, alphabet: Ternary | PowerOfTwo) -> None:
        super().__init__()
        self.alphabet = alphabet

    def codes(self, x: torch.Tensor) -> torch.Tensor:
        codes = torch.tensor(self.alphabet.alphabet())
        return codes[(4 * x.clamp(-100, 100)[..., None] - codes).abs().argmin(-1)].to(torch.int32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.codes(x) * float(self.alphabet.scale)

    def encoding(self, x: torch.Tensor | None = None) -> Ternary | PowerOfTwo:
        return self.alphabet


@pytest.mark.parametrize("alphabet", [Ternary(0.3), PowerOfTwo(3, 0, 0.125), PowerOfTwo(4, 2, 2.0)])
def test_other_alphabets(alphabet: Ternary | PowerOfTwo, rng: np.random.Generator) -> None:
    for act in (Sign(), Coarse(alphabet), Steps([-0.2, 0.0, 0.5], signed=True)):
        layers = [QuantConv2d(5, 4, 3, padding=1, act_quant=act, weight_quant=Coarse(alphabet)), batch_norm(4, rng, 2.0)]
        graph = compare(nn.Sequential(*layers, QuantConv2d(4, 2, 1, act_quant=act, weight_quant=Coarse(alphabet))), inputs(rng, 2, 5, 6, 6))
        assert kinds(graph) == ["Quantize", "Conv", "Quantize", "Conv"]


def test_a_quantiser_of_its_own(rng: np.random.Generator) -> None:
    """Applied once by the model; layers with empty slots read its codes, and moving codes about keeps them codes."""
    model = Lambda(
        lambda self, x: self.conv(F.max_pool2d(self.quant(x), 2)[:, :, ::2, ::2]),
        quant=Steps([-0.5, 0.0, 0.5], signed=True),
        conv=QuantConv2d(3, 2, 1, weight_quant=ScaledSign("swap")),
    )
    graph = compare(model, inputs(rng, 2, 3, 8, 8))
    assert kinds(graph) == ["Quantize", "MaxPool", "MaxPool", "Conv"]
    shown = Lambda(lambda self, x: self.quant(x) * 2 + x, quant=adabin_activation(rng))
    assert kinds(compare(shown, inputs(rng, 2, 3, 4, 4))) == ["Quantize", "Dequantize", "Affine", "Add"]


# ---- whole shapes of networks


def test_residual_stream_with_option_a_shortcut(rng: np.random.Generator) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = sign_conv(4, 8, stride=2, padding=1), batch_norm(8, rng, 4.0)
            self.conv2, self.bn2 = sign_conv(8, 8, padding=1), batch_norm(8, rng, 6.0)
            self.act = nn.Hardtanh()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            u = self.act(self.bn1(self.conv1(x)) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))
            return self.act(self.bn2(self.conv2(u)) + u)

    graph = compare(Block(), inputs(rng, 2, 4, 7, 7))
    expected = ["Quantize", "Conv", "MaxPool", "PadChannels", "Add", "Clamp", "Quantize", "Conv", "Add", "Clamp"]
    assert kinds(graph) == expected


def test_input_scale_map(rng: np.random.Generator) -> None:
    """XNOR-Net's K: box filter of the channel mean of |x|."""
    model = Lambda(lambda self, x: self.conv(x) * F.avg_pool2d(x.abs().mean(1, keepdim=True), 3, 1, 1), conv=sign_conv(5, 6, padding=1))
    assert kinds(compare(model, inputs(rng, 2, 5, 6, 7))) == ["Quantize", "Conv", "Abs", "Mean", "AvgPool", "Mul"]


def test_a_module_called_twice_has_two_nodes(rng: np.random.Generator) -> None:
    conv = sign_conv(4, 4, padding=1)
    graph = compare(Lambda(lambda self, x: self.conv(self.conv(x) + x), conv=conv), inputs(rng, 2, 4, 5, 5))
    convs = [n for n in graph.nodes if isinstance(n, ops.Conv)]
    assert [n.name for n in convs] == ["conv", "conv#2"] and convs[0].weight == convs[1].weight
