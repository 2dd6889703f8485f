"""What methods do beyond their quantisers: schedules, clamps, losses, optimiser groups (rows of the specifications)."""

import math
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.layers.activations import RPReLU, TwoSlope
from bitfold.layers.input_scale import InputScale
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.methods import get
from bitfold.methods._losses import distribution_loss
from bitfold.methods.base import Forward
from bitfold.methods.qnn import squared_hinge
from bitfold.quantizers.ede import EDE
from bitfold.quantizers.gradient import GradientQuant
from bitfold.quantizers.linear import LinearQuant
from bitfold.quantizers.log import LogQuant
from bitfold.quantizers.sign import Sign


def small() -> nn.Module:
    stem = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardtanh()]
    body = [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def test_adabin_schedule_and_activation() -> None:
    method = get("adabin")
    model = bitfold.apply(small(), method)
    ede = [m for m in model.modules() if isinstance(m, EDE)]
    for progress, t in [(0.0, 1e-3), (0.5, 0.1), (0.75, 1.0), (1.0, 10.0)]:
        method.before_step(model, progress)
        assert [m.t.item() for m in ede] == pytest.approx([t])
    assert isinstance(model[2], TwoSlope) and isinstance(model[5], TwoSlope)
    plain = bitfold.apply(small(), get("adabin", maxout=False))
    assert isinstance(plain[2], nn.Hardtanh)
    (group,) = method.param_groups(model, 1e-4)  # weight decay on all
    assert len(group["params"]) == len(list(model.parameters())) and group["weight_decay"] == 1e-4
    with pytest.raises(ConfigError, match="one weight per filter"):
        bitfold.apply(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1, groups=2), nn.Linear(2, 2)), method)


def test_bireal_takes_activations_out() -> None:
    assert isinstance(bitfold.apply(small(), "bireal")[2], nn.Identity)
    assert isinstance(bitfold.apply(small(), get("bireal", activation="keep"))[2], nn.Hardtanh)


def test_xnor_recentres_then_clamps_before_a_step() -> None:
    method = get("xnor_net")
    model = bitfold.apply(small(), method)
    weight = model[3].weight
    nn.init.normal_(weight, std=2.0)
    before = weight.detach().clone()
    method.after_step(model, 0.5)
    assert torch.equal(weight, before)  # the last update's weights are deployed as they are
    method.before_step(model, 0.5)
    assert torch.equal(weight, (before - before.mean(1, keepdim=True)).clamp(-1, 1))
    stem = model[0].weight.detach().clone()
    method.before_step(model, 0.6)
    assert torch.equal(model[0].weight, stem)  # float layers are left alone


def test_xnor_input_scale_row() -> None:
    """xnor-net.md 11.4."""
    layer = QuantConv2d(1, 1, 3, padding=1, bias=False, act_quant=Sign(), weight_quant=Sign())
    nn.init.ones_(layer.weight)
    image = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    k = torch.tensor([[12.0, 21, 16], [27, 45, 33], [24, 39, 28]]) / 9
    valid = torch.tensor([[4.0, 6, 4], [6, 9, 6], [4, 6, 4]])
    assert torch.allclose(InputScale(layer)(image[None, None])[0, 0], k * valid)
    assert torch.allclose(InputScale(layer)(-image[None, None])[0, 0], -k * valid)


def test_xnor_input_scale_in_a_model() -> None:
    model = bitfold.apply(small(), get("xnor_net", input_scale="K"))
    assert isinstance(model[3], InputScale) and isinstance(model[3].layer, QuantConv2d)
    x = torch.randn(2, 8, 5, 5)
    k = F.conv2d(x.abs().mean(1, keepdim=True), torch.full((1, 1, 3, 3), 1 / 9), padding=1)
    assert torch.allclose(model[3](x), model[3].layer(x) * k, atol=1e-5)
    linear = InputScale(QuantLinear(4, 2, bias=False))
    v = torch.randn(3, 4)
    assert torch.allclose(linear(v), linear.layer(v) * v.abs().mean(1, keepdim=True))
    for bad in (QuantConv2d(2, 2, 3), QuantConv2d(2, 2, 3, dilation=2, bias=False), QuantConv2d(2, 2, 1, padding=1, bias=False)):
        with pytest.raises(ConfigError, match="InputScale: QuantConv2d"):
            InputScale(bad)


def test_xnor_modes() -> None:
    bwn = bitfold.apply(small(), get("xnor_net", mode="bwn"))[3]
    assert bwn.act_quant.encoding().__class__.__name__ == "Float"
    assert bitfold.apply(small(), get("xnor_net", grad_rule="paper"))[3].act_quant.strict is False
    assert bitfold.apply(small(), get("xnor_net", act_bits=2))[3].act_quant.bits == 2
    one_bit = bitfold.apply(small(), get("xnor_net", binary_gradient=True))[3].grad_quant
    assert isinstance(one_bit, GradientQuant) and one_bit.bits == 1
    depthwise = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, groups=2), nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="one input channel per filter"):
        bitfold.apply(depthwise, "xnor_net")
    bitfold.apply(depthwise, get("xnor_net", recentre=False, grad_rule="exact"))


@pytest.mark.parametrize(
    ("fields", "weight", "act"),
    [
        ({}, Sign, Sign),
        ({"weight_bits": 4, "act_bits": 2}, LinearQuant, LinearQuant),
        ({"weight_bits": 4, "act_bits": 4, "kind": "log"}, LogQuant, LogQuant),
    ],
)
def test_qnn_slots(fields: dict[str, object], weight: type, act: type) -> None:
    model = bitfold.apply(small(), get("qnn", output_norm=False, **fields))
    assert [type(m) for m in (model[0], model[3], model[8])] == [QuantConv2d, QuantConv2d, QuantLinear]
    assert model[0].act_quant.encoding().__class__.__name__ == "Float"  # real input, few-bit weights
    for layer in (model[3], model[8]):
        assert type(layer.weight_quant) is weight and type(layer.act_quant) is act
    if fields == {}:
        assert model[3].weight_quant.clip == math.inf


def test_qnn_clips_after_a_step() -> None:
    model = bitfold.apply(small(), "qnn")
    nn.init.normal_(model[3].weight, std=2.0)
    get("qnn").after_step(model, 0.1)
    assert model[3].weight.abs().max() == 1


@pytest.mark.parametrize(
    ("layer", "expected"),  # qnn.md section 3
    [
        (nn.Linear(784, 4096), 57.038),
        (nn.Linear(4096, 4096), 73.901),
        (nn.Linear(4096, 10), 52.320),
        (nn.Conv2d(3, 128, 3), 28.036),
        (nn.Conv2d(128, 128, 3), 39.192),
    ],
)
def test_qnn_glorot_factor(layer: nn.Module, expected: float) -> None:
    for rule, want, with_bias in [("glorot", expected, False), ("pow2", 2.0 ** round(math.log2(expected)), True)]:
        method = get("qnn", lr_scale=rule)
        model = bitfold.apply(nn.Sequential(layer), method)
        groups = method.param_groups(model, 0.0)
        (group,) = [g for g in groups if any(p is layer.weight for p in g["params"])]
        assert group["lr_scale"] == pytest.approx(want, abs=1e-3)
        assert any(p is layer.bias for p in group["params"]) == with_bias
        assert sum(len(g["params"]) for g in groups) == 2
    (group,) = get("qnn", lr_scale="none").param_groups(model, 0.0)
    assert group["lr_scale"] == 1.0


def test_qnn_loss() -> None:
    outputs = torch.tensor([[0.5, -2.0, 0.0]], requires_grad=True)
    batch = (torch.zeros(1), torch.tensor([0]))
    loss = get("qnn").loss(nn.Identity(), Forward(batch, outputs, None, torch.tensor(7.0)))
    assert loss.item() == pytest.approx((0.25 + 0 + 1) / 3)
    assert get("qnn", loss_kind="task").loss(nn.Identity(), Forward(batch, outputs, None, torch.tensor(7.0))).item() == 7
    with pytest.raises(ConfigError, match="squared hinge loss wants"):
        squared_hinge(outputs, torch.zeros(1, 3))


def test_qnn_gradient_bits() -> None:
    model = bitfold.apply(small(), get("qnn", grad_bits=6))
    assert isinstance(model[3].grad_quant, GradientQuant)
    out = model[3](torch.randn(2, 8, 4, 4))
    (got,) = torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), model[3].weight)
    assert got.isfinite().all()


def test_qnn_first_layer_by_bit_planes() -> None:
    """qnn.md 11.6."""
    x, w = torch.tensor([200, 17, 255, 0]), torch.tensor([1, -1, -1, 1])
    planes = sum(2**n * int((((x >> n) & 1) * w).sum()) for n in range(8))
    assert planes == int((x * w).sum()) == -72


def test_s3_regulariser() -> None:
    """s3-shift.md 11.1 and 11.8: R = 0.97 of the worked example, gradient -alpha on negative entries only."""
    method = get("s3", reg=0.1)
    model = bitfold.apply(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3), nn.Linear(1, 1)), method)
    sparse = model[1].weight_quant.sparse
    values = torch.tensor([[0.52, -0.81, 0.55], [-0.15, 0.37, 0.42], [0.17, 0.29, -0.01]])
    with torch.no_grad():
        sparse.copy_(values)
    loss = method.loss(model, Forward(None, torch.zeros(1), None, torch.tensor(2.0)))
    loss.backward()
    assert loss.item() == pytest.approx(2 + 0.1 * 0.97)
    assert torch.equal(sparse.grad, torch.where(values < 0, -0.1, 0.0).view_as(sparse))
    assert get("s3", reg=0.0).loss(model, Forward(None, torch.zeros(1), None, torch.tensor(2.0))).item() == 2


def test_s3_weight_count_of_resnet18() -> None:
    """s3-shift.md 11.7 and section 6."""
    with torch.device("meta"):
        model = bitfold.apply(bitfold.models.create("resnet18_imagenet", num_classes=1000), "s3")
    assert sum(m.weight.numel() for m in model.modules() if isinstance(m, QuantConv2d)) == 11_157_504
    assert model.conv1.weight.numel() + model.fc.weight.numel() + model.fc.bias.numel() == 522_408


def test_reactnet_steps_share_names() -> None:
    first = bitfold.apply(small(), get("reactnet", weights="real"))
    second = bitfold.apply(small(), "reactnet")
    second.load_state_dict(first.state_dict())
    assert torch.equal(first[3].weight, second[3].weight)
    assert torch.equal(first[3].weight_quant(first[3].weight), first[3].weight)
    assert second[3].weight_quant(second[3].weight).flatten(1).abs().unique(dim=1).shape == (8, 1)
    assert isinstance(second[2], RPReLU)


def test_reactnet_groups() -> None:
    parts = dict(zip(["conv1", "bn1", "act", "conv2"], small(), strict=False))
    model = nn.Sequential(OrderedDict(parts | {"flat": nn.Flatten(), "fc": nn.Linear(8, 2)}))
    method = get("reactnet")
    bitfold.apply(model, method)
    decayed, free = method.param_groups(model, 1e-5)
    names = {id(p): n for n, p in model.named_parameters()}
    assert decayed["weight_decay"] == 1e-5 and free["weight_decay"] == 0
    assert {names[id(p)] for p in decayed["params"]} == {
        "conv1.weight", "conv2.weight", "conv2.act_quant.shift", "act.shift_in", "act.shift_out",
    }  # fmt: skip
    assert {names[id(p)] for p in free["params"]} == {"bn1.weight", "bn1.bias", "act.neg", "fc.weight", "fc.bias"}


def test_distribution_loss_row() -> None:
    """baselines.md 10.6."""
    teacher, student = torch.tensor([[2.0, 0, -1]]), torch.tensor([[1.0, 1, 0]], requires_grad=True)
    loss = distribution_loss(student, teacher)
    loss.backward()
    p = teacher.softmax(1)
    assert loss.item() == pytest.approx(0.904005, abs=1e-6)
    assert loss.item() + (p * p.log()).sum().item() == pytest.approx(0.379738, abs=1e-6)
    assert student.grad[0].tolist() == pytest.approx([-0.4215, 0.3081, 0.1134], abs=1e-4)
    method = get("reactnet")
    assert method.loss(nn.Identity(), Forward(None, student, teacher, torch.tensor(5.0))).item() == pytest.approx(0.904005, abs=1e-6)
    assert method.loss(nn.Identity(), Forward(None, student, None, torch.tensor(5.0))).item() == 5


def test_float_changes_nothing() -> None:
    model = small()
    before = [type(m) for m in model.modules()]
    assert bitfold.apply(model, "float") is model and [type(m) for m in model.modules()] == before
