"""Rows of repair-methods.md, and what each switch does."""

import itertools
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitfold
from bitfold import methods, models
from bitfold.errors import ConfigError
from bitfold.ir import ops
from bitfold.ir.embedded import EmbeddedCost, embedded_cost
from bitfold.ir.graph import Graph
from bitfold.layers.activations import RPReLU, TwoSlope
from bitfold.layers.bases import Bases
from bitfold.layers.input_scale import InputScale
from bitfold.layers.quant import QuantConv2d
from bitfold.layers.squeeze import SqueezeExcite
from bitfold.methods._losses import distribution_loss
from bitfold.methods._repairs import Activation, FeatureNorm, estimator, kurtosis_loss, magnitude_loss
from bitfold.methods.base import Features, Forward
from bitfold.quantizers.ede import EDE
from bitfold.quantizers.normalized import Normalized
from bitfold.quantizers.quantile_clamp import QuantileClamp
from bitfold.quantizers.weight_sign import WeightSign
from bitfold.training.bop import Bop

X = torch.tensor([-1.5, -1, -0.6, -0.2, 0, 0.2, 0.6, 1, 1.5])
MIRROR = [0, 1, 2, 3, 4, 3, 2, 1, 0]


def chain(bias: bool = False) -> nn.Sequential:
    """No shortcut, so that all between two binary convs can become thresholds. ``bias``: without one, and without a norm behind the
    layer, PyTorch's float32 sum for D = 0 is a little above or below the threshold by chance."""
    parts: list[nn.Module] = [nn.Conv2d(3, 5, 3, padding=1, bias=bias), nn.BatchNorm2d(5), nn.Hardtanh()]
    for a, b, stride in [(5, 6, 1), (6, 7, 2)]:
        parts += [nn.Conv2d(a, b, 3, stride, padding=1, bias=bias), nn.BatchNorm2d(b), nn.Hardtanh()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 4))


class Skips(nn.Module):
    """Shortcuts: one around both convs ("normal"), or one around each ("double")."""

    def __init__(self, double: bool) -> None:
        super().__init__()
        self.double = double
        self.stem, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv1, self.bn1, self.act1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardtanh()
        self.conv2, self.bn2, self.act2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardtanh()
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x))
        u = self.bn1(self.conv1(x))
        u = self.act1(u + x if self.double else u)
        u = self.act2(self.bn2(self.conv2(u)) + (u if self.double else x))
        y: Tensor = self.head(u.mean((2, 3)))
        return y


def settled(model: nn.Module, seed: int = 0) -> nn.Module:
    """In evaluation mode, with parameters and statistics as after some training: norms' slopes of both signs, shifts, spreads."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim <= 1 and not name.startswith("head"):
                p.add_(torch.randn(p.shape, generator=rng) * 0.6)
        for module in model.modules():
            slopes = {nn.PReLU: ("weight",), RPReLU: ("neg",), TwoSlope: ("neg", "pos")}.get(type(module), ())
            for slope in slopes:  # with one of them below zero the activation turns round, and no threshold can say it
                getattr(module, slope).abs_()
        for name, b in model.named_buffers():
            if name.endswith("running_mean") or name.endswith(".mean"):
                b.add_(torch.randn(b.shape, generator=rng))
            elif name.endswith("running_var"):
                b.mul_(torch.rand(b.shape, generator=rng) * 20 + 0.5)
    return model.eval()


def exported(model: nn.Module, **fields: Any) -> tuple[nn.Module, Graph]:
    torch.manual_seed(0)
    model = settled(bitfold.apply(model, methods.get("repair_methods", **fields)))
    return model, bitfold.export(model, torch.zeros(1, 3, 6, 5))


@cache
def baseline(double: bool = False) -> Graph:
    return exported(Skips(double))[1]


# ---- row 1 to 5


@pytest.mark.parametrize(
    ("kind", "t", "expected"),
    [
        ("ste_clip", None, [0, 1, 1, 1, 1]),
        ("poly", None, [0, 0, 0.8, 1.6, 2]),
        ("ede", 2.0, [0.019732, 0.141302, 0.610040, 1.711278, 2]),
        ("swish", None, [-0.030340, -0.194992, -0.323214, 3.023661, 5]),
        ("rbnn", 1.0, [0, 0.414214, 0.814214, 1.214214, 1.414214]),
    ],
)
def test_row_1_surrogates(kind: str, t: float | None, expected: list[float]) -> None:
    sign = estimator(kind)
    if isinstance(sign, EDE):
        sign.set_t(t)
    x = X.double().requires_grad_()
    y = sign(x)
    y.sum().backward()
    assert y.tolist() == [-1] * 4 + [1] * 5
    assert x.grad is not None and x.grad.tolist() == pytest.approx([expected[i] for i in MIRROR], abs=2e-6)


@pytest.mark.parametrize(
    ("kind", "t", "area"),
    [("ste_clip", None, 2.0), ("poly", None, 2.0), ("swish", None, 2.0), ("ede", 2.0, 2.0), ("ede", 0.1, 20.0)],
)
def test_row_2_area(kind: str, t: float | None, area: float) -> None:
    sign = estimator(kind)
    if isinstance(sign, EDE):
        sign.set_t(t)
    x = torch.linspace(-100, 100, 400_001, dtype=torch.float64).requires_grad_()
    sign(x).sum().backward()
    assert x.grad is not None and torch.trapezoid(x.grad, x.detach()).item() == pytest.approx(area, rel=1e-3)


def test_row_3_regularizers() -> None:
    w = torch.tensor([0.6, -0.2, 0.1, -0.9])
    assert [magnitude_loss(w, torch.tensor(0.45), p).item() for p in (1, 2)] == pytest.approx([1.2, 0.41])
    a = torch.tensor(0.45, requires_grad=True)
    magnitude_loss(w, a, 2).backward()
    assert a.grad is not None and a.grad.item() == pytest.approx(0, abs=1e-6)
    for value, error in [(0.45, 0.41), (0.3, 0.5), (0.6, 0.5)]:
        assert magnitude_loss(w, torch.tensor(value), 2).item() == pytest.approx(error)
        assert (w - value * w.sign()).square().sum().item() == pytest.approx(error)


def test_row_4_distillation() -> None:
    student, teacher = torch.tensor([[1.0, 0, -1]], requires_grad=True), torch.tensor([[0.5, 0.5, 0]])
    method = methods.get("repair_methods", distill="soft_ce")
    assert method.needs_teacher
    loss = method.loss(nn.Identity(), Forward(None, student, teacher, torch.tensor(9.0)))
    loss.backward()
    p = teacher.softmax(1)
    entropy = -(p * p.log()).sum().item()
    assert (loss.item(), entropy, loss.item() - entropy) == pytest.approx((1.256651, 1.074368, 0.182282), abs=1e-6)
    assert student.grad is not None and student.grad[0].tolist() == pytest.approx([0.281589, -0.138923, -0.142666], abs=1e-6)
    assert loss.item() == distribution_loss(student, teacher).item()


def test_row_5_bop() -> None:
    """T8: Bop is an optimiser that a recipe names."""
    for start, end in [([1.0, -1.0], [-1.0, 1.0]), ([-1.0, 1.0], [-1.0, 1.0])]:
        w = nn.Parameter(torch.tensor(start))
        bop = Bop([w], lr=0.1, threshold=0.2)
        bop.state[w]["average"] = torch.tensor([0.2, -0.3])
        w.grad = torch.tensor([0.5, 0.1])
        bop.step()
        assert bop.state[w]["average"].tolist() == pytest.approx([0.23, -0.26]) and w.tolist() == end


# ---- row 6: the deployed network decides as the trained one


NORMS, ACTIVATIONS = get_args(FeatureNorm), get_args(Activation)


@pytest.mark.native
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", ["none", "analytic", "learned"])
def test_row_6_every_bit_behind_integer_thresholds(norm: str, scale: str, rng: np.random.Generator) -> None:
    x = torch.tensor(np.random.default_rng(5).normal(size=(8, 3, 6, 5)), dtype=torch.float32)
    for i, activation in enumerate(ACTIVATIONS):
        torch.manual_seed(0)
        method = methods.get("repair_methods", feature_norm=norm, scale=scale, activation=activation)
        model = settled(bitfold.apply(chain(bias=True), method), i)
        graph = bitfold.export(model, x)
        report = bitfold.verify(model, graph, x)
        assert (report.accumulators_differ, report.flipped) == (0, 0), activation
        cost = embedded_cost(graph)
        assert (cost.coded_layers, cost.threshold_layers) == (2, 1), activation  # the last one's sums go to a pooling
        assert report.max_difference <= 1e-4 * max(report.max_output, 1), activation


@pytest.mark.native
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", ["none", "analytic", pytest.param("learned", marks=pytest.mark.slow)])
def test_row_6_double_residual(norm: str, scale: str) -> None:
    x = torch.tensor(np.random.default_rng(5).normal(size=(8, 3, 6, 5)), dtype=torch.float32)
    for i, activation in enumerate(ACTIVATIONS):
        torch.manual_seed(0)
        method = methods.get("repair_methods", feature_norm=norm, scale=scale, activation=activation)
        model = settled(bitfold.apply(Skips(double=True), method), i)
        report = bitfold.verify(model, bitfold.export(model, x), x)
        assert report.accumulators_differ == 0 and report.max_difference <= 1e-4 * max(report.max_output, 1), activation


def test_section_5_threshold_example() -> None:
    """gamma -0.8, scale 0.05, mu 0.4, var 2.25, eps 1e-5, beta 0.3: bit 1 for D <= 19."""
    parts = [nn.Conv2d(1, 1, 1), nn.Conv2d(32, 1, 1, bias=False), nn.BatchNorm2d(1), nn.Hardtanh(), nn.Conv2d(1, 1, 1, bias=False)]
    parts[0] = nn.Conv2d(3, 32, 1)
    model = bitfold.apply(nn.Sequential(*parts, nn.Flatten(), nn.Linear(30, 2)), methods.get("repair_methods", scale="learned"))
    bn = model[2]
    with torch.no_grad():
        model[1].weight_quant.scale.fill_(0.05)
        for tensor, value in [(bn.weight, -0.8), (bn.bias, 0.3), (bn.running_mean, 0.4), (bn.running_var, 2.25)]:
            tensor.fill_(value)
    graph = bitfold.export(model.eval(), torch.zeros(1, 3, 6, 5))
    (quantize,) = [n for n in graph.nodes if isinstance(n, ops.Quantize) and n.name.startswith("4.")]
    flipped = quantize.descending is not None and graph.constants[quantize.descending].codes.item() == -1
    assert flipped and graph.constants[quantize.thresholds].data.item() == 20  # the -1 code from 20 on, +1 for D <= 19


# ---- row 7: what a switch leaves in the deployed network

TRAINING: list[dict[str, Any]] = [
    *[{"feature": k} for k in ("ste", "poly", "swish", "ede", "rbnn", "fda", "rsign")],
    *[{"weight": k} for k in ("ste", "poly", "swish", "ede", "rbnn", "fda", "scaled_sign", "classifier")],
    *[{"weight_norm": k} for k in ("mean", "standard", "recu")],
    *[{"feature_norm": k} for k in ("both", "mean", "std")],
    *[{"distill": k} for k in ("soft_ce", "attention")],
    *[{"regularizer": k} for k in ("r1", "r2", "kurtosis")],
    *({"decay_binary": True}, {"clip_latent": True}),
    *[{"scale": k} for k in ("analytic", "learned")],
]


def columns(cost: EmbeddedCost) -> dict[str, int]:
    """The cost columns without the constants of thresholds."""
    return {k: v for k, v in cost.to_dict().items() if k != "threshold_bytes"}


def operations(graph: Graph) -> list[tuple[object, ...]]:
    """Each node's kind, inputs and shape, without its constants."""
    return [(type(n).__name__, ops.input_names(n), graph.types[n.output].shape) for n in graph.nodes]


@pytest.mark.parametrize("switch", TRAINING, ids=lambda v: "-".join(f"{k}={x}" for k, x in v.items()))
@pytest.mark.parametrize("double", [False, True], ids=["normal", "double"])
def test_row_7_training_repairs_leave_no_trace(switch: dict[str, Any], double: bool) -> None:
    before, (_, after) = baseline(double), exported(Skips(double), **switch)
    assert operations(after) == operations(before)
    assert columns(embedded_cost(after)) == columns(embedded_cost(before))


@pytest.mark.parametrize("norm", ["before", "none"])
def test_row_7_without_a_norm_behind_its_two_constants_are_saved(norm: str) -> None:
    before, (_, after) = baseline(), exported(Skips(False), feature_norm=norm)
    assert operations(after) == operations(before)
    a, b = columns(embedded_cost(after)), columns(embedded_cost(before))
    assert b.pop("float_parameter_bytes") - a.pop("float_parameter_bytes") == 2 * 8 * 4  # slope and shift of conv2, conv1's are thresholds
    assert a == b


def test_row_7_adabin_centres_are_no_thresholds() -> None:
    """Zero padding makes the centre's part of the sum depend on the position, so the layer keeps its float epilogue."""
    before, (_, after) = baseline(), exported(Skips(False), feature="adabin")
    assert embedded_cost(before).threshold_layers == 1 and embedded_cost(after).threshold_layers == 0


def changed(double: bool = False, **fields: Any) -> dict[str, int]:
    """The columns that differ from those of the baseline, as differences."""
    before, (_, after) = baseline(), exported(Skips(double), **fields)
    a, b = columns(embedded_cost(before)), columns(embedded_cost(after))
    return {k: b[k] - a[k] for k in a if a[k] != b[k]}


def test_row_7_topology_repairs_change_the_columns_listed() -> None:
    size = 8 * 6 * 5
    # N3: only the activation behind the sum remains, the other is part of the thresholds; Hardtanh counts 2
    assert changed(activation="none") == {"float_elementwise": -2 * size}
    assert changed(activation="relu") == {"float_elementwise": -size}
    assert changed(activation="prelu") == {"float_elementwise": -size, "float_parameter_bytes": 32}
    assert changed(activation="rprelu") == {"float_elementwise": size, "float_parameter_bytes": 96}
    assert changed(activation="maxout") == {"float_elementwise": -size, "float_parameter_bytes": 64}
    # N4: conv1 now has an epilogue, an add and a Hardtanh in float; its two constants; its bits come from the stream
    double = changed(double=True)
    assert double["float_elementwise"] == 4 * size and double["float_parameter_bytes"] == 64 and double["threshold_layers"] == -1
    assert set(double) <= {"float_elementwise", "float_parameter_bytes", "threshold_layers", *(k for k in double if k.startswith("peak"))}
    # N5: two matrices (hidden 1) with biases, mean and gate; no thresholds any more
    gate = changed(squeeze=True)
    assert gate["float_macs"] == 2 * (8 + 8) and gate["threshold_layers"] == -1
    assert "binary_macs" not in gate and "packed_weight_bytes" not in gate
    # N1, K: a box filter of the mean, one factor per position
    k = changed(scale="K")
    assert k["threshold_layers"] == -1 and "packed_weight_bytes" not in k and "binary_macs" not in k
    # N1, gamma: one factor per position, a row and a column of factors for each layer, which export multiplies out
    gamma = changed(scale="gamma", image_size=(6, 5))
    assert gamma["float_elementwise"] >= 2 * size and gamma["threshold_layers"] == -1
    assert "packed_weight_bytes" not in gamma and "binary_macs" not in gamma
    # N2: M N times the operations, M times the weights
    bases = changed(weight_bases=2, act_bases=3)
    cost = embedded_cost(baseline())
    assert bases["binary_macs"] == 5 * cost.binary_macs and bases["packed_weight_bytes"] == cost.packed_weight_bytes


# ---- row 8


@pytest.mark.parametrize(
    ("name", "options", "weights", "macs", "stem", "shortcuts", "head"),
    [
        ("resnet20", {"block": "normal", "num_classes": 10}, 267_264, "4.011e7", 442_368, 0, 640),
        pytest.param(
            *("resnet18", {"block": "normal", "num_classes": 100, "shortcut": "conv"}, 10_985_472, "5.474e8", 1_769_472, 6_291_456, 51_200),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_row_8_costs(name: str, options: dict[str, Any], weights: int, macs: str, stem: int, shortcuts: int, head: int) -> None:
    model = bitfold.apply(models.create(name, **options), "repair_methods").eval()
    graph = bitfold.export(model, torch.zeros(1, 3, 32, 32))
    cost = embedded_cost(graph)
    assert cost.packed_weight_bytes == weights / 8
    assert f"{cost.binary_macs:.3e}".replace("e+0", "e") == macs
    assert cost.float_macs == stem + shortcuts + head
    assert (cost.threshold_layers, cost.coded_layers) == ((9, 18) if name == "resnet20" else (8, 16))
    assert {f"{v:.2e}".replace("e+0", "e") for v in (stem, shortcuts, head)} >= (
        {"4.42e5"} if name == "resnet20" else {"1.77e6", "6.29e6", "5.12e4"}
    )


# ---- the switches


def applied(**fields: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    method = methods.get("repair_methods", **fields)
    return bitfold.apply(chain(), method), method


def test_schedules_move() -> None:
    model, method = applied(feature="ede", weight="rbnn", weight_norm="recu")
    layer = model[3]
    for progress, t_act, t_weight, tau in [(0.0, 1e-3, 1e-2, 0.85), (1.0, 10.0, 10.0, 0.99)]:
        method.before_step(model, progress)
        assert (layer.act_quant.t.item(), layer.weight_quant.estimator.t.item()) == pytest.approx((t_act, t_weight))
        assert isinstance(layer.weight_quant.normalize, QuantileClamp) and layer.weight_quant.normalize.tau.item() == pytest.approx(tau)
    model, method = applied(feature="fda")
    method.before_step(model, 1.0)
    assert model[3].act_quant.terms.item() == 18


def test_norms_are_where_the_switch_says() -> None:
    for norm, behind, front in [
        ("none", nn.Identity, None), ("after", nn.BatchNorm2d, None), ("before", nn.Identity, nn.BatchNorm2d),
        ("both", nn.BatchNorm2d, nn.BatchNorm2d),
    ]:  # fmt: skip
        model, _ = applied(feature_norm=norm)
        assert isinstance(model[1], nn.BatchNorm2d), "the stem's stays"
        assert isinstance(model[4], behind) and isinstance(model[7], behind)
        act = model[3].act_quant
        assert (type(act.normalize) if isinstance(act, Normalized) else None) is front


def test_scales() -> None:
    w = torch.randn(6, 5, 3, 3)
    mean = w.abs().mean((1, 2, 3))
    for scale, expected in [("none", torch.ones(6)), ("analytic", mean), ("K", mean)]:
        model, _ = applied(scale=scale)
        layer = model[3].layer if scale == "K" else model[3]
        assert isinstance(model[3], InputScale) == (scale == "K")
        with torch.no_grad():
            layer.weight.copy_(w)
        assert torch.allclose(layer.weight_quant(layer.weight).abs().amax((1, 2, 3)), expected)
    model, _ = applied(scale="learned")
    assert torch.allclose(model[3].weight_quant.scale.flatten(), model[3].weight.abs().mean((1, 2, 3)))


def test_two_stages_hand_over_the_weights() -> None:
    first, _ = applied(weights="real")
    second, _ = applied()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first[3].weight_quant(first[3].weight), second[3].weight)
    assert isinstance(second[3].weight_quant, WeightSign)


def test_weight_decay_and_groups() -> None:
    for binary, expected in [(False, 0.0), (True, 1e-4)]:
        model, method = applied(decay_binary=binary)
        decay = {id(p): g["weight_decay"] for g in method.param_groups(model, 1e-4) for p in g["params"]}
        assert decay[id(model[3].weight)] == expected and decay[id(model[0].weight)] == 1e-4 and decay[id(model[4].weight)] == 1e-4
    model, method = applied(weight="classifier")
    (own,) = [g for g in method.param_groups(model, 1e-4) if g.get("optimizer") == "adam"]
    assert len(own["params"]) == 2 and own["lr"] == 1e-3


def test_latent_clipping() -> None:
    model, method = applied(clip_latent=True)
    nn.init.constant_(model[3].weight, -3.0)
    nn.init.constant_(model[0].weight, 3.0)
    method.after_step(model, 0.1)
    assert model[3].weight.max() == -1 and model[0].weight.max() == 3


def test_regularizers_in_the_loss() -> None:
    zero = torch.tensor(0.0)
    model, method = applied(regularizer="r1", strength=2.0)
    layers = [model[3], model[6]]
    expected = 2 * sum((m.weight.abs() - m.weight.abs().mean()).abs().sum() for m in layers)
    assert method.loss(model, Forward(None, torch.zeros(1, 4), None, zero)).item() == pytest.approx(expected.item(), rel=1e-5)
    model, method = applied(regularizer="kurtosis", strength=1.0, kurtosis_target=3.0)
    loss = method.loss(model, Forward(None, torch.zeros(1, 4), None, zero))
    assert loss.item() == pytest.approx(sum(kurtosis_loss(m.weight, 3.0).item() for m in (model[3], model[6])) / 2)
    assert kurtosis_loss(torch.tensor([1.0, -1, 1, -1]), 1.0) == 0  # two points
    assert kurtosis_loss(torch.linspace(-1, 1, 10_001), 1.8).item() == pytest.approx(0, abs=1e-4)  # uniform


def test_attention_is_matched_block_by_block() -> None:
    torch.manual_seed(0)
    method = methods.get("repair_methods", distill="attention", attention_weight=3.0)
    model = bitfold.apply(models.create("resnet20"), method)
    paths = method.taps(model)
    assert paths == tuple(f"layer{s}.{b}" for s, b in itertools.product((1, 2, 3), range(3)))
    own, other = {p: torch.randn(2, 4, 3, 3) for p in paths}, {p: torch.randn(2, 7, 3, 3) for p in paths}

    def attention(f: Tensor) -> Tensor:
        return F.normalize(f.square().sum(1).flatten(1), dim=1)

    expected = 5 + 3 * sum((attention(own[p]) - attention(other[p])).square().sum(1).mean() for p in paths)
    loss = method.loss(model, Forward(None, torch.zeros(2, 4), torch.zeros(2, 4), torch.tensor(5.0), Features(own, other)))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    plain = methods.get("repair_methods")
    assert plain.taps(model) == () and plain.loss(model, Forward(None, torch.zeros(1), None, torch.tensor(5.0))).item() == 5


def test_activations_squeeze_and_bases() -> None:
    for kind, cls in [("none", nn.Identity), ("relu", nn.ReLU), ("prelu", nn.PReLU), ("rprelu", RPReLU), ("maxout", TwoSlope)]:
        model, _ = applied(activation=kind)
        assert {type(model[i]) for i in (2, 5, 8)} == {cls}
    model, _ = applied(squeeze=True, reduction=2)
    assert isinstance(model[3], SqueezeExcite) and isinstance(model[3].layer, QuantConv2d) and model[3].squeeze.out_channels == 2
    model, _ = applied(weight_bases=2, act_bases=2)
    assert isinstance(model[3], Bases) and len(model[3].pairs) == 4 and model[3].pairs[0].weight is model[3].pairs[3].weight


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"feature_norm": "std", "feature": "rsign"}, "signs at zero"),
        ({"weight": "scaled_sign", "scale": "learned"}, "brings its scale"),
        ({"scale": "K", "act_bases": 2}, "one layer"),
        ({"weight_bases": 0}, "allowed: 1 or more"),
        ({"scale": "gamma"}, "height, width"),
        ({"image_size": (6, 5)}, "height, width"),
        ({"strength": -1.0}, "0 or more"),
        ({"feature": "stee"}, "ste"),
    ],
)
def test_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        methods.get("repair_methods", **fields)


def test_a_layer_without_a_spread_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1, groups=2), nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="one weight per filter"):
        bitfold.apply(model, methods.get("repair_methods", weight_norm="standard"))


def test_learned_magnitude_starts_at_the_mean() -> None:
    model, _ = applied(regularizer="r2")
    assert model[3].weight_quant.anchor.item() == pytest.approx(model[3].weight.abs().mean().item())
