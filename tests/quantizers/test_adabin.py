"""AdaBin's sets: adabin.md section 8, tests 1-8."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bitfold.errors import ConfigError
from bitfold.quantizers.adabin import AdaBinActivation, AdaBinWeight
from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.ede import EDE

W = [0.6, -0.2, 0.1, -0.9, 0.4, 0.3]


def activation(alpha: float, beta: float, mode: str, dtype: torch.dtype = torch.float32) -> AdaBinActivation:
    quantizer = AdaBinActivation(mode).to(dtype)  # type: ignore[arg-type]
    with torch.no_grad():
        quantizer.alpha.fill_(alpha)
        quantizer.beta.fill_(beta)
    return quantizer


def test_weights() -> None:
    w = torch.tensor([W])
    quantizer = AdaBinWeight(EDE())
    low, high = -0.442443, 0.542443
    assert quantizer(w)[0].tolist() == pytest.approx([high, low, high, low, high, high], abs=1e-6)
    assert quantizer.codes(w)[0].tolist() == [1, -1, 1, -1, 1, 1]
    assert quantizer.encoding(w).offset == pytest.approx((0.05,))
    assert quantizer.encoding(w).scale == pytest.approx((0.49244289,))


def test_weight_gradient(rng) -> None:  # type: ignore[no-untyped-def]
    w = torch.tensor([W], dtype=torch.float64, requires_grad=True)
    g = torch.tensor([[1, 2, -1, 0.5, 0, 3]], dtype=torch.float64)
    quantizer = AdaBinWeight(EDE(0.5)).double()
    (quantizer(w) * g).sum().backward()
    expected = [0.83170568, 2.04023820, -0.86186013, 0.45106680, 0.10736971, 2.93147974]
    assert w.grad[0].tolist() == pytest.approx(expected, abs=1e-8)
    for _ in range(5):  # sum dL/dw = sum g, whatever g
        g = torch.tensor(rng.normal(size=(1, 6)))
        (gradient,) = torch.autograd.grad((quantizer(w) * g).sum(), w)
        assert gradient.sum().item() == pytest.approx(g.sum().item(), abs=1e-12)


@pytest.mark.parametrize(("mode", "values", "dalpha", "dbeta"), [("code", (-0.56, 1.04), 1.8, 0.8), ("paper", (-0.5, 1.1), 0.0, 2.0)])
def test_activations(mode: str, values: tuple[float, float], dalpha: float, dbeta: float) -> None:
    quantizer = activation(0.8, 0.3, mode)
    a = torch.tensor([-2, -0.3, 0.1, 0.5, 0.9, 3], requires_grad=True)
    y = quantizer(a)
    y.sum().backward()
    assert y.tolist() == pytest.approx([values[0]] * 3 + [values[1]] * 3, abs=1e-6)
    assert a.grad.tolist() == pytest.approx([0, 0.5, 1.5, 1.5, 0.5, 0], abs=1e-6)
    assert quantizer.alpha.grad.item() == pytest.approx(dalpha, abs=1e-5)
    assert quantizer.beta.grad.item() == pytest.approx(dbeta, abs=1e-5)


def test_initial_activations_are_bi_real_signs(rng) -> None:  # type: ignore[no-untyped-def]
    a = torch.tensor(rng.normal(size=100), dtype=torch.float32)
    for mode in ("code", "paper"):
        assert torch.equal(AdaBinActivation(mode)(a), ApproxSign()(a))


@pytest.mark.parametrize(("mode", "centre", "y"), [("paper", 0.25, 0.25181677), ("code", 0.125, 0.19318064)])
def test_dot_decomposition(mode: str, centre: float, y: float) -> None:
    a, w = torch.tensor([0.9, -0.4, 0.6, 1.5, 0.1]), torch.tensor([[0.3, -0.1, 0.2, -0.3, 0.15]])
    qa, qw = activation(0.5, 0.25, mode), AdaBinWeight(EDE())
    assert qa.codes(a).tolist() == [1, -1, 1, 1, -1]
    assert qw.codes(w)[0].tolist() == [1, -1, 1, -1, 1]
    assert qa.encoding().offset == pytest.approx(centre) and qa.encoding().scale == pytest.approx(0.5)
    assert qw.encoding(w).scale == pytest.approx((0.21908902,)) and qw.encoding(w).offset == pytest.approx((0.05,))
    assert F.linear(qa(a), qw(w)).item() == pytest.approx(y, abs=1e-7)


def packed_formula(qa: AdaBinActivation, qw: AdaBinWeight, x: Tensor, w: Tensor, border: bool) -> Tensor:
    """adabin.md section 5 with codes; ``border=False`` uses the interior's constants everywhere (the classic bug)."""
    ca, cw = qa.codes(x).double(), qw.codes(w).double()
    ones_x, ones_w = torch.ones_like(ca), torch.ones_like(cw)
    ea = qa.encoding()
    beta, alpha = qw.binary_set(w)
    s_w = F.conv2d(ones_x, cw, padding=1) if border else cw.sum((1, 2, 3)).view(1, -1, 1, 1)
    v = F.conv2d(ones_x, ones_w, padding=1) if border else torch.tensor(float(w[0].numel()))
    product = F.conv2d(ca, cw, padding=1)
    s_a = F.conv2d(ca, ones_w, padding=1)
    alpha, beta = alpha.view(1, -1, 1, 1), beta.view(1, -1, 1, 1)
    return ea.scale * (alpha * product + beta * s_a) + ea.offset * (alpha * s_w + beta * v)


@pytest.mark.parametrize("mode", ["code", "paper"])
def test_zero_padding_needs_border_constants(mode: str, rng) -> None:  # type: ignore[no-untyped-def]
    x, w = torch.tensor(rng.normal(size=(1, 5, 6, 7))), torch.tensor(rng.normal(size=(4, 5, 3, 3)))
    qa, qw = activation(0.7, 0.4, mode, torch.float64), AdaBinWeight(EDE()).double()
    y = F.conv2d(qa(x), qw(w), padding=1)
    assert y.shape[2:].numel() == 42
    assert (packed_formula(qa, qw, x, w, border=True) - y).abs().max() < 1e-12
    wrong = (packed_formula(qa, qw, x, w, border=False) - y).abs()
    assert wrong[..., 1:-1, 1:-1].max() < 1e-12 and wrong.max() > 1e-3


def test_affine_equivariance_of_the_paper_form(rng) -> None:  # type: ignore[no-untyped-def]
    a = torch.tensor(rng.normal(size=200))
    r, m = 2.5, -0.3
    before, after = activation(0.8, 0.3, "paper", torch.float64), activation(0.8 * r, 0.3 * r + m, "paper", torch.float64)
    assert torch.equal(before.codes(a), after.codes(r * a + m))
    assert torch.allclose(after(r * a + m), r * before(a) + m, atol=1e-12)


def test_scale_equivariance_of_weights(rng) -> None:  # type: ignore[no-untyped-def]
    w = torch.tensor(rng.normal(size=(3, 4, 2, 2)))
    quantizer = AdaBinWeight(EDE())
    assert torch.equal(quantizer.codes(w), quantizer.codes(7 * w))
    assert torch.allclose(quantizer(7 * w), 7 * quantizer(w), atol=1e-12)


@pytest.mark.parametrize("mode", ["code", "paper"])
def test_negative_distance(mode: str) -> None:
    quantizer = activation(-0.5, 0.25, mode)
    a = torch.tensor([-1.0, 0.25, 0.2499, 2.0])
    assert quantizer.codes(a).tolist() == [-1, 1, -1, 1]  # the decision stays a >= beta
    centre = -0.125 if mode == "code" else 0.25
    assert quantizer.encoding().scale == 0.5 and quantizer.encoding().offset == centre
    assert quantizer(a).tolist() == pytest.approx([centre - 0.5, centre + 0.5, centre - 0.5, centre + 0.5])


def test_unknown_center_mode() -> None:
    with pytest.raises(ConfigError, match="did you mean 'code'"):
        AdaBinActivation("cod")  # type: ignore[arg-type]
