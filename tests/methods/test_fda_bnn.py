"""fda-bnn.md, section 8: rows 5 to 8, and what the method does beyond its quantisers."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.methods import get
from bitfold.methods.fda_bnn import WithPReLU
from bitfold.quantizers.fda import FDASign, NoiseAdaptation


def net() -> nn.Module:
    stem = [nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()]
    body = [nn.Conv2d(6, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*stem, *body, nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Hardtanh(), nn.Linear(7, 4))


def applied(**fields: object) -> nn.Module:
    torch.manual_seed(0)
    return bitfold.apply(net(), get("fda_bnn", **fields))


def signs(model: nn.Module) -> list[FDASign]:
    return [m for m in model.modules() if isinstance(m, FDASign)]


def test_row_5_anneal() -> None:
    """``alpha_at`` where an epoch ends is what the third party trains the epoch with."""
    ours, theirs = get("fda_bnn"), get("fda_bnn", schedule="bibench")
    assert [ours.alpha_at((e + 1) / 400) for e in (0, 199, 399)] == pytest.approx([0.09999846, 0.05, 0], abs=1e-8)
    assert ours.alpha_at(0.0) == 0.1 and ours.alpha_at(1.0) == 0.0
    assert [theirs.terms_at(e / 400) for e in (0, 399)] == [9, 17]
    assert [ours.terms_at(e / 400) for e in (0, 39, 40, 200, 399, 400)] == [9, 9, 10, 14, 18, 18]
    counts = np.bincount([ours.terms_at(e / 400) for e in range(400)], minlength=19)[9:]
    assert set(counts.tolist()) == {40}
    assert get("fda_bnn", terms_end=9).terms_at(0.7) == 9


def test_a_step_moves_every_schedule() -> None:
    model = applied()
    get("fda_bnn").before_step(model, 0.5)
    assert len(signs(model)) == 4  # weights and activations of two layers
    for quantizer in signs(model):
        assert quantizer.terms.item() == 14 and quantizer.alpha.item() == pytest.approx(0.05)


def test_row_6_without_alpha_the_modules_are_not_there() -> None:
    with_noise, without = applied(), applied(noise=False)
    assert not without.load_state_dict(with_noise.state_dict(), strict=False).missing_keys
    x, outputs = torch.randn(6, 3, 5, 5), []
    for model in (with_noise, without):
        get("fda_bnn", alpha=0.0).before_step(model, 0.3)
        outputs.append(model(x))
        outputs[-1].square().sum().backward()
    assert torch.equal(*outputs)
    for name, p in without.named_parameters():
        assert torch.equal(p.grad, with_noise.get_parameter(name).grad), name  # type: ignore[arg-type]
    modules = [m for m in with_noise.modules() if isinstance(m, NoiseAdaptation)]
    assert len(modules) == 4
    for module in modules:
        assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


def test_trap_6_modules_exist_before_the_first_forward() -> None:
    model = applied()
    before = [id(p) for p in model.parameters()]
    model(torch.randn(3, 3, 5, 5))
    assert [id(p) for p in model.parameters()] == before
    (group,) = get("fda_bnn").param_groups(model, 0.0)
    assert {id(p) for m in model.modules() if isinstance(m, NoiseAdaptation) for p in m.parameters()} <= {id(p) for p in group["params"]}


def test_trap_9_evaluation_is_binary() -> None:
    model = applied().eval()
    x = torch.randn(3, 6, 5, 5)
    assert set(model[3].act_quant(x).unique().tolist()) == {-1, 1}
    weight = model[3].weight_quant(model[3].weight)
    scale = model[3].weight.abs().mean()
    assert weight.abs().unique().tolist() == pytest.approx([scale.item()])  # one per layer
    assert not torch.equal(model[3].train().act_quant(x), model[3].eval().act_quant(x))
    assert len(applied(scale="filter")[3].weight_quant.encoding(model[3].weight).scale) == 5


def test_gradients_pass_the_scale_as_they_come() -> None:
    """Released code (section 1.1): identity back-propagation through the scaled sign; "product" is the third party's."""
    w = torch.tensor([[0.3, -0.1], [0.2, 0.2]], requires_grad=True)
    for rule, factor in [("identity", 1.0), ("product", 0.2)]:
        quantizer = get("fda_bnn", noise=False, scale_gradient=rule).weight_quantizer(QuantLinear(2, 2))
        (grad,) = torch.autograd.grad(quantizer(w).sum(), w)
        (slope,) = torch.autograd.grad(FDASign()(w).sum(), w)
        torch.testing.assert_close(grad, factor * slope)
        torch.testing.assert_close(quantizer(w), 0.2 * torch.tensor([[1.0, -1.0], [1.0, 1.0]]))


def test_clips() -> None:
    both = applied(clip_weights=True, clip_activations=False)
    assert [q.clip for q in (both[3].weight_quant.estimator, both[3].act_quant)] == [1.0, math.inf]
    default = applied()
    assert [q.clip for q in (default[3].weight_quant.estimator, default[3].act_quant)] == [math.inf, 1.0]


def zeros_to(value: float, x: Tensor) -> Tensor:
    return torch.where(x > 0, 1.0, torch.where(x < 0, -1.0, value))


@pytest.mark.native
def test_row_7_the_engine_takes_zero_as_minus_one(rng: np.random.Generator) -> None:
    """Exact zeros in the input and the weights, behind a ReLU (float thresholds), and in accumulators (integer thresholds)."""
    layers = [nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(6, 6, 3, bias=False), nn.Conv2d(6, 4, 1, bias=False)]
    model = bitfold.apply(nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3, bias=False)), get("fda_bnn", first=True)).eval()
    values = [-1.0, -0.0, 0.0, 1.0]
    with torch.no_grad():
        for i in (0, 2, 3):
            model[i].weight.copy_(torch.tensor(rng.choice(values, model[i].weight.shape), dtype=torch.float32))
    x = torch.tensor(rng.choice([*values, 1e-30, -1e-30], (7, 4, 4, 4)), dtype=torch.float32)

    def expected(zero: float) -> Tensor:
        y = x
        for i, padding in ((0, 1), (2, 0), (3, 0)):
            w = model[i].weight.detach()
            y = nn.functional.conv2d(zeros_to(zero, y), w.abs().mean() * zeros_to(zero, w), padding=padding)
            y = y.relu() if i == 0 else y
        return model[5](y.flatten(1)).detach()

    graph = bitfold.export(model, x[:1])
    assert bitfold.verify(model, graph, x).accumulators_differ == 0
    for got in (bitfold.interpret(graph, x.numpy()), bitfold.load(graph)(x.numpy()), model(x).detach().numpy()):
        np.testing.assert_allclose(got, expected(-1.0).numpy(), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected(-1.0), expected(1.0), atol=0.1)  # the rule matters here


@pytest.mark.native
def test_row_8_two_slope_fold_of_prelu_before_batch_norm(rng: np.random.Generator) -> None:
    """N = 144: every D from -144 to 144 that parity allows, slopes of BatchNorm of both signs."""
    model = bitfold.apply(
        nn.Sequential(nn.Conv2d(16, 9, 3, bias=False), nn.BatchNorm2d(9)), get("fda_bnn", first=True, block="released")
    ).eval()
    layer, prelu, bn = model[0][0], model[0][1], model[1]
    bits = torch.tensor(rng.choice([-1.0, 1.0], (16, 3, 3)), dtype=torch.float32)
    with torch.no_grad():
        layer.weight.copy_(0.03 * bits)
        for name, low, high in [("weight", -1, 1), ("bias", -1, 1), ("running_mean", -1, 1), ("running_var", 0.5, 2)]:
            getattr(bn, name).copy_(torch.tensor(rng.uniform(low, high, 9)))
    x = bits.repeat(145, 1, 1, 1).flatten(1)
    for k in range(145):
        x[k, :k] *= -1
    x = x.reshape(145, 16, 3, 3)
    d = 144 - 2 * np.arange(145.0)
    sigma = (bn.running_var.double() + bn.eps).sqrt()
    plus = (bn.weight * layer.weight.abs().mean() / sigma).detach().numpy()
    shift = (bn.bias - bn.weight * bn.running_mean / sigma).detach().numpy()
    fold = np.where(d[:, None] > 0, plus, prelu.weight.item() * plus) * d[:, None] + shift
    graph = bitfold.export(model, x[:1])
    for got in (model(x).detach().numpy(), bitfold.interpret(graph, x.numpy()), bitfold.load(graph)(x.numpy())):
        np.testing.assert_allclose(got[:, :, 0, 0], fold, rtol=1e-6, atol=1e-6)


def test_the_released_block() -> None:
    """PReLU with one slope between conv and BatchNorm; no activation but a ReLU in the last one's place."""
    model = applied(block="released")
    assert isinstance(model[3], WithPReLU) and isinstance(model[3][0], QuantConv2d) and isinstance(model[3][1], nn.PReLU)
    assert model[3][1].weight.tolist() == [0.25]
    assert [type(model[i]) for i in (2, 5, 8, 10)] == [nn.Identity, nn.Identity, WithPReLU, nn.ReLU]
    assert isinstance(model[8][0], QuantLinear)
    resnet = bitfold.apply(bitfold.models.create("resnet20", num_classes=10, block="normal", act="relu"), get("fda_bnn", block="released"))
    kinds = [type(m) for m in resnet.modules() if isinstance(m, nn.ReLU | nn.PReLU | nn.Hardtanh)]
    assert kinds.count(nn.PReLU) == 18 and kinds.count(nn.ReLU) == 1 and len(kinds) == 19
    assert isinstance(resnet.layer3[2].act2, nn.ReLU) and isinstance(resnet.act1, nn.Identity)


def test_refusals() -> None:
    for bad in ({"omega": 0.0}, {"terms_start": 19}, {"alpha": -0.1}):
        with pytest.raises(ConfigError, match="allowed: omega > 0"):
            get("fda_bnn", **bad)
