"""LCR-BNN: spectral norms, both losses, what reaches what (lcr-bnn.md 10; rows 5 and 6 stand in tests/quantizers)."""

import copy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.methods import get
from bitfold.methods._taps import Taps
from bitfold.methods.base import Features, Forward, Method
from bitfold.methods.lcr_bnn import GAMMA, code_loss, paper_loss, spectral_norm

A = torch.tensor([[[1.0, 2], [3, 4]]], dtype=torch.float64)
B = torch.tensor([[[1.0, 0], [0, 1], [1, 1]]], dtype=torch.float64)


def test_retention_matrix_row() -> None:
    """10.1."""
    r = A[0] @ B[0].T / 2
    assert r.tolist() == [[0.5, 1, 1.5], [1.5, 2, 3.5]] and (r @ r.T).tolist() == [[3.5, 8], [8, 18.5]]
    assert spectral_norm(A, B).item() == pytest.approx(5.3747, abs=1e-4)
    assert spectral_norm(A, B).item() == pytest.approx((r @ r.T @ torch.ones(2, dtype=torch.float64)).norm().sqrt().item())
    assert spectral_norm(A, B, 30).item() == pytest.approx(4.6868, abs=1e-4)
    assert spectral_norm(A, B, 30).item() == pytest.approx(torch.linalg.matrix_norm(r, 2).item(), abs=1e-9)


def test_power_iteration_row() -> None:
    """10.2: K = diag(2, 1)."""
    a, b = torch.diag(torch.tensor([2.0, 1]).sqrt())[None], 2 * torch.eye(2)[None]  # R = A B^T / 2 = diag(sqrt 2, 1)
    assert spectral_norm(a, b, 1).item() == pytest.approx(1.49535, abs=1e-5)
    assert spectral_norm(a, b, 20).item() == pytest.approx(1.414214, abs=1e-5)


def test_spectral_norm_is_differentiable_also_at_zero() -> None:
    a = A.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a: spectral_norm(a, B, 2), (a,))
    zero = torch.zeros_like(A).requires_grad_()
    spectral_norm(zero, B).sum().backward()
    assert zero.grad is not None and zero.grad.isfinite().all()


def test_loss_weights_row() -> None:
    """10.3: 0.875, and 5.469e-6 with alpha 8 and 128 samples."""
    own, target = [torch.full((128,), 3.0)] * 3, [torch.full((128,), 2.0)] * 3
    assert code_loss(own, target).item() == pytest.approx(0.875)
    assert code_loss(own, target).item() * 8 / 128 / 1e4 == pytest.approx(5.469e-6, rel=1e-4)
    assert paper_loss(target, own, 2.0).item() == pytest.approx((0.5 * 0.25) ** 2 + (0.5 * 0.5) ** 2 + 0.5**2)


def setting(method: Method) -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = bitfold.apply(bitfold.models.create("digits_cnn", width=8), method)
    return model, bitfold.models.create("digits_cnn", width=8).eval(), torch.randn(6, 1, 8, 8), torch.randint(0, 10, (6,))


def step(method: Method, model: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    method.before_step(model, 0.3)
    taps = [Taps(m, method.taps(model), "test") for m in (model, teacher)]
    outputs, target = model(x), teacher(x)
    features = Features(taps[0].values, {path: f.detach() for path, f in taps[1].values.items()})
    for t in taps:
        t.remove()
    return method.loss(model, Forward((x, y), outputs, target.detach(), F.cross_entropy(outputs, y), features))


def test_alpha_0_is_the_base() -> None:
    """10.4."""
    method, base = get("lcr_bnn", alpha=0.0), get("ir_net")
    model, teacher, x, y = setting(method)
    twin, _, _, _ = setting(base)
    step(method, model, teacher, x, y).backward()
    step(base, twin, teacher, x, y).backward()
    gradients = {n: p.grad for n, p in twin.named_parameters()}
    assert all(torch.equal(p.grad, gradients[n]) for n, p in model.named_parameters() if n != GAMMA)
    assert model.get_parameter(GAMMA).grad.tolist() == [[0.0] * 5]


@pytest.mark.parametrize("mode", ["code", "paper"])
def test_gradient_reaches_gamma_and_the_binary_stages_only(mode: str) -> None:
    """10.7."""
    method = get("lcr_bnn", mode=mode)
    model, teacher, x, y = setting(method)
    plain = copy.deepcopy(model)
    step(method, model, teacher, x, y).backward()
    step(get("ir_net"), plain, teacher, x, y).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert (model.get_parameter(GAMMA).grad != 0).all() and plain.get_parameter(GAMMA).grad is None
    other = dict(plain.named_parameters())
    for i in range(5):
        name = f"blocks.{i}.conv.weight"
        assert not torch.equal(model.get_parameter(name).grad, other[name].grad)


@pytest.mark.parametrize("mode", ["code", "paper"])
def test_equal_features_cost_nothing(mode: str) -> None:
    """10.8."""
    method = get("lcr_bnn", mode=mode, n_iter=3)
    model, _, x, y = setting(method)
    paths = method.taps(model)
    features = {p: torch.randn(6, 8 if i < 2 else 16, 8 if i < 2 else 4, 4) for i, p in enumerate(paths)}
    forward = Forward((x, y), torch.zeros(6, 10), torch.zeros(6, 10), torch.tensor(1.5), Features(features, features))
    assert method.loss(model, forward).item() == 1.5
    other = {p: f * 2 for p, f in features.items()}
    assert method.loss(model, forward._replace(features=Features(features, other))).item() > 1.5


def test_loss_is_that_of_features_times_gamma() -> None:
    method = get("lcr_bnn", alpha=1e4, n_iter=2)
    model, _, _, _ = setting(method)
    gamma = torch.tensor([[0.5, -2.0, 1.5, 0.7, 3.0]])
    with torch.no_grad():
        model.get_parameter(GAMMA).copy_(gamma)
    paths = method.taps(model)
    own = {p: torch.randn(6, 4, 3, 3) for p in paths}
    follow = {p: torch.randn(6, 4, 3, 3) for p in paths}
    loss = method.loss(model, Forward(None, torch.zeros(6, 10), torch.zeros(6, 10), torch.tensor(0.0), Features(own, follow)))
    scaled = [own[p].flatten(2) * gamma[0, i] for i, p in enumerate(paths)]
    plain = [follow[p].flatten(2) for p in paths]
    norms = [[spectral_norm(a, b, 2) for a, b in pairwise(f)] for f in (scaled, plain)]
    assert loss.item() == pytest.approx(code_loss(*norms).item() / 6, rel=1e-5)


def test_gamma_belongs_to_the_model_and_not_to_the_file(tmp_path: Path) -> None:
    method = get("lcr_bnn", base="adabin")
    model, _, x, _ = setting(method)
    assert model.get_parameter(GAMMA).tolist() == [[1.0] * 5] and GAMMA in model.state_dict()
    assert any(p is model.get_parameter(GAMMA) for g in method.param_groups(model, 1e-4) for p in g["params"])
    twin, _, _, _ = setting(get("adabin"))
    files = [tmp_path / name for name in ("with.bitfold", "without.bitfold")]
    sizes = [bitfold.export(m.eval(), x[:1]).save(f) for m, f in zip((model, twin), files, strict=True)]
    assert sizes[0] == sizes[1]


def test_default_stages() -> None:
    for name, options, paths in [
        ("resnet20", {}, ("layer1", "layer2", "layer3")),
        ("resnet18", {}, ("layer1", "layer2", "layer3", "layer4")),
        ("digits_cnn", {}, tuple(f"blocks.{i}" for i in range(5))),
        ("vgg_small", {}, tuple(f"features.{i}" for i in (6, 9, 13, 16, 20))),  # the activations
    ]:
        with torch.device("meta"):
            model = bitfold.apply(bitfold.models.create(name, **options), "ir_net")
        assert get("lcr_bnn").taps(model) == paths, name


def test_what_is_refused() -> None:
    method = get("lcr_bnn")
    with pytest.raises(ConfigError, match="there is none; give a trained float network"):
        method.loss(nn.Identity(), Forward(None, torch.zeros(1, 10), None, torch.tensor(1.0)))
    with pytest.raises(ConfigError, match=r"places of lcr_bnn 'layer9'.*known: .*layer2.0.conv1"):
        bitfold.apply(bitfold.models.create("resnet20"), get("lcr_bnn", places=["layer1", "layer9"]))
    lone = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    with pytest.raises(ConfigError, match="1 stage found, 2 are needed; name them in places; allowed: 0, 1, 2, 3"):
        bitfold.apply(lone, get("lcr_bnn", base={"method": "ir_net", "first": True}))
    for fields in ({"n_iter": 0}, {"alpha": -1.0}, {"beta": 0.0}):
        with pytest.raises(ConfigError, match="allowed: n_iter >= 1"):
            get("lcr_bnn", **fields)
