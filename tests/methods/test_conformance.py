"""What every method promises, for every method found by itself, its choices switched one at a time, on small awkward networks."""

import copy
import io
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitfold
from bitfold import methods
from bitfold.errors import ConfigError
from bitfold.ir.encoding import Float, values
from bitfold.layers.quant import QuantConv2d, QuantLayer, QuantLinear
from bitfold.methods._taps import Taps
from bitfold.methods.base import Features, Forward, Method
from bitfold.quantizers.base import Quantizer

CLASSES = 4


def awkward() -> nn.Module:
    """Groups, dilation, stride, bias, odd sizes, odd channel counts, linear layers."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1, dilation=2, groups=2),
        nn.BatchNorm2d(8),
        nn.Hardtanh(),
        nn.Conv2d(8, 5, (1, 3), bias=False),
        nn.BatchNorm2d(5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 7),
        nn.BatchNorm1d(7),
        nn.PReLU(),
        nn.Linear(7, CLASSES),
    )


class Residual(nn.Module):
    """A user's module: plain convs, a shortcut conv, an activation after the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(5)
        self.conv = nn.Conv2d(5, 7, 3, padding=1, bias=False)
        self.conv_bn = nn.BatchNorm2d(7)
        self.skip = nn.Conv2d(5, 7, 1, bias=False)
        self.act = nn.ReLU()
        self.head = nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x))
        x = self.act(self.conv_bn(self.conv(x)) + self.skip(x))
        y: Tensor = self.head(x.mean((2, 3)))
        return y


def mlp() -> nn.Module:
    hidden = [nn.Linear(33, 13, bias=False), nn.BatchNorm1d(13), nn.Hardtanh()]
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 7 * 9, 33), nn.BatchNorm1d(33), nn.Hardtanh(), *hidden, nn.Linear(13, CLASSES))


def tiny() -> nn.Module:
    """The least that compiles every kind of part."""
    inner = [nn.Conv2d(4, 5, 3, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), *inner, nn.Linear(5, CLASSES))


NETS: dict[str, Callable[[], nn.Module]] = {"awkward": awkward, "residual": Residual, "mlp": mlp}
FEW = ("awkward", "residual")  # for the variants, to save time


def variants(name: str) -> list[dict[str, Any]]:
    """No fields; then every other choice of every bool and Literal field, one at a time, where the method allows it alone."""
    cls = type(methods.get(name))
    found: list[dict[str, Any]] = [{}]
    for field in fields(cls):
        hint = get_type_hints(cls)[field.name]
        choices = [not field.default] if hint is bool else get_args(hint) if get_origin(hint) is Literal else []
        for choice in choices:
            if choice == field.default:
                continue
            try:
                methods.get(name, **{field.name: choice})
            except ConfigError:
                continue
            found.append({field.name: choice})
    return found


MORE = {  # numbers that change the encoding, and choices that go together
    "binarize_by_classification": [
        {"classifier": "linear", "decision": "argmax"},
        {"classifier": "linear", "decision": "argmax", "activation_binarizer": "classifier"},
    ],
    "qnn": [
        {"weight_bits": 4, "act_bits": 3},
        {"weight_bits": 8, "act_bits": 8, "act_signed": True, "grad_bits": 6},
        {"weight_bits": 3, "act_bits": 5, "kind": "log", "grad_bits": 4, "grad_kind": "linear"},
    ],
    "dorefa": [{"weight_bits": 2, "act_bits": 3, "grad_bits": 6}, {"weight_bits": 1, "act_bits": 2}],
    "repair_methods": [
        {"weight_bases": 2, "act_bases": 2},
        {"scale": "gamma", "image_size": (7, 9)},
        {"feature": "rsign", "feature_norm": "before", "activation": "rprelu", "weight": "ede", "weight_norm": "recu"},
        {"feature": "adabin", "feature_norm": "both", "squeeze": True, "regularizer": "r2", "scale": "learned"},
    ],
    "s3": [{"bits": 2}, {"bits": 4}],
    "xnor_net": [{"act_bits": 3}],
    "xnor_plus_plus": [{"scale": "outer", "image_size": (7, 9)}],
}
CASES = [(name, v) for name in methods.names() for v in variants(name) + MORE.get(name, [])]
cases = pytest.mark.parametrize(("name", "values_of"), CASES, ids=[f"{n}-{'-'.join(f'{k}={x}' for k, x in v.items())}" for n, v in CASES])


def layers(model: nn.Module) -> dict[str, QuantLayer]:
    return {n: m for n, m in model.named_modules() if isinstance(m, QuantConv2d | QuantLinear)}


def batch(rng: np.random.Generator, n: int = 12) -> tuple[Tensor, Tensor]:
    return torch.tensor(rng.normal(size=(n, 3, 7, 9)), dtype=torch.float32), torch.tensor(rng.integers(0, CLASSES, n))


def applied(net: str, method: Method) -> nn.Module | None:
    """None where the method refuses the network, which its message must explain; the networks are seeded."""
    torch.manual_seed(0)
    try:
        return bitfold.apply(NETS[net](), method)
    except ConfigError as error:
        assert "allowed" in str(error) or "keep_float" in str(error)
        return None


def tapped(model: nn.Module, paths: tuple[str, ...], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The outputs of ``model`` and of its modules at ``paths``."""
    taps = Taps(model, paths, "taps")
    outputs = model(x)
    taps.remove()
    return outputs, taps.values


def float_twin(net: str) -> nn.Module:
    torch.manual_seed(7)
    return NETS[net]().eval()


def train_step(model: nn.Module, method: Method, data: tuple[Tensor, Tensor], progress: float, teacher: nn.Module | None = None) -> Tensor:
    groups = method.param_groups(model, 1e-4)
    grouped = [id(p) for g in groups for p in g["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())  # every parameter, once
    groups = [{k: g[k] for k in ("params", "weight_decay")} for g in groups]
    optimizer = torch.optim.SGD([g for g in groups if g["params"]], lr=1e-2)
    method.before_step(model, progress)
    paths = method.taps(model)
    outputs, student = tapped(model, paths, data[0])
    with torch.no_grad():
        target, follow = tapped(teacher, paths, data[0]) if teacher is not None else (None, {})
    loss = method.loss(model, Forward(data, outputs, target, F.cross_entropy(outputs, data[1]), Features(student, follow)))
    optimizer.zero_grad()
    loss.backward()
    method.after_backward(model, progress)
    optimizer.step()
    method.after_step(model, progress)
    return loss.detach()


@cases
def test_training_step(name: str, values_of: dict[str, Any], rng: np.random.Generator) -> None:
    method = methods.get(name, **values_of)
    accepted = 0
    for net in FEW if values_of else NETS:
        model = applied(net, method)
        if model is None:
            continue
        accepted += 1
        before = {n: (id(p), p.shape) for n, p in model.named_parameters()}
        data = batch(rng)
        twin = float_twin(net)
        reached: set[str] = set()  # in any step: late in a schedule a narrow window may be empty in so small a network
        for progress, teacher in [(0.0, None), (0.5, twin), (1.0, None)]:
            assert train_step(model, method, data, progress, twin if method.needs_teacher else teacher).isfinite(), net
            reached |= {n for n, m in layers(model).items() if m.weight.grad is not None and bool((m.weight.grad != 0).any())}
        assert {n: (id(p), p.shape) for n, p in model.named_parameters()} == before
        for n, p in model.named_parameters():
            assert p.grad is not None and bool(p.grad.isfinite().all()), (net, n)
        assert reached == set(layers(model)), net
    assert accepted == len(NETS) if not values_of else accepted > 0


@cases
def test_evaluation(name: str, values_of: dict[str, Any], rng: np.random.Generator) -> None:
    """Deterministic, copied and restored without a change; in every slot codes, encoding and forward agree."""
    method = methods.get(name, **values_of)
    for net in FEW if values_of else NETS:
        model = applied(net, method)
        if model is None:
            continue
        data = batch(rng)
        train_step(model, method, data, 0.5, float_twin(net) if method.needs_teacher else None)
        model.eval()
        y = model(data[0])
        assert torch.equal(model(data[0]), y) and torch.equal(copy.deepcopy(model)(data[0]), y)
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        torch.manual_seed(1)
        restored = bitfold.apply(NETS[net](), method).eval()
        restored.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(restored(data[0]), y)
        check_slots(model, data[0])


def check_slots(model: nn.Module, x: Tensor) -> None:
    seen: list[tuple[QuantLayer, Tensor]] = []
    hooks = [m.register_forward_pre_hook(lambda m, args: seen.append((m, args[0]))) for m in layers(model).values()]
    model(x)
    for hook in hooks:
        hook.remove()
    for layer, value in seen:
        check_codes(layer.act_quant, value, None, axis=1)
        check_codes(layer.weight_quant, layer.weight, layer.weight, axis=0)


def check_codes(quantizer: Quantizer, x: Tensor, weight: Tensor | None, axis: int) -> None:
    encoding = quantizer.encoding(weight)
    if isinstance(encoding, Float):
        assert torch.equal(quantizer(x), x)
        return
    codes = quantizer.codes(x).numpy()
    assert set(np.unique(codes).tolist()) <= set(encoding.alphabet())
    np.testing.assert_allclose(quantizer(x).detach().numpy(), values(encoding, codes, axis), rtol=1e-6, atol=1e-6)


@pytest.mark.native
@cases
def test_export_and_engine(name: str, values_of: dict[str, Any], rng: np.random.Generator) -> None:
    """Trained network -> graph -> NumPy interpreter -> engine: no integer differs, the outputs agree."""
    method = methods.get(name, **values_of)
    for net in FEW[1:] if values_of else NETS:
        model = applied(net, method)
        assert model is not None
        data = batch(rng)
        for progress in (0.0, 0.5):
            train_step(model, method, data, progress, float_twin(net) if method.needs_teacher else None)
        model.eval()
        graph = bitfold.export(model, data[0][:1])
        report = bitfold.verify(model, graph, data[0])
        assert report.accumulators_differ == 0, net
        expected = bitfold.interpret(graph, data[0].numpy())
        np.testing.assert_allclose(bitfold.load(graph)(data[0].numpy()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("role", ["first", "last", "shortcut"])
@pytest.mark.parametrize("name", methods.names())
def test_roles_are_honoured_or_refused(name: str, role: str) -> None:
    for wanted in (True, False):
        try:
            method = methods.get(name, **{role: wanted})
        except ConfigError:
            continue
        model = applied("residual", method)
        assert model is not None
        swapped = any(layer.role == role for layer in layers(model).values())
        assert swapped == wanted


@pytest.mark.parametrize("name", methods.names())
def test_groups_dilation_and_bias_are_honoured(name: str, rng: np.random.Generator) -> None:
    """Each layer is its plain twin on the quantised input and weight."""
    model = applied("awkward", methods.get(name))
    assert model is not None
    for layer in layers(model).values():
        shape = (2, layer.in_channels, 6, 7) if isinstance(layer, QuantConv2d) else (2, layer.in_features)
        x = torch.tensor(rng.normal(size=shape), dtype=torch.float32)
        layer.eval()
        a, w = layer.act_quant(x), layer.weight_quant(layer.weight)
        if isinstance(layer, QuantConv2d):
            expected = F.conv2d(a, w, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)  # type: ignore[arg-type]
        else:
            expected = F.linear(a, w, layer.bias)
        assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("name", methods.names())
def test_compiles_into_one_graph_once(name: str, rng: np.random.Generator) -> None:
    """No graph break, no recompilation when a schedule moves; the compiled step gives the eager gradient."""
    method = methods.get(name)
    model = bitfold.apply(tiny(), method)
    x, labels = batch(rng)
    twin = copy.deepcopy(model)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for i, progress in enumerate([0.1, 0.4]):
        for m in (model, twin):
            m.zero_grad()
            method.before_step(m, progress)
        with torch._dynamo.config.patch(error_on_recompile=i > 0):
            F.cross_entropy(compiled(x), labels).backward()
        F.cross_entropy(twin(x), labels).backward()
        for (n, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None), n
            assert p.grad is None or torch.allclose(p.grad, q.grad, rtol=1e-4, atol=1e-5), n  # type: ignore[arg-type]
