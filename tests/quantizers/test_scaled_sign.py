"""Scaled signs: xnor-net.md section 11, tests 1-2, and baselines.md 10.4."""

import pytest
import torch

from bitfold.errors import ConfigError
from bitfold.quantizers.scaled_sign import ScaledSign

W, G = [0.5, -1.5, 0.25, -0.75], [0.1, 0.2, -0.3, 0.4]


def gradient(rule: str, w: list[float], g: list[float]) -> list[float]:
    x = torch.tensor([w], dtype=torch.float64, requires_grad=True)
    (ScaledSign(rule)(x) * torch.tensor([g], dtype=torch.float64)).sum().backward()  # type: ignore[arg-type]
    return x.grad[0].tolist()


def test_forward() -> None:
    w = torch.tensor([W])
    quantizer = ScaledSign()
    assert quantizer.scale(w).item() == 0.75
    assert quantizer.codes(w)[0].tolist() == [1, -1, 1, -1]
    assert quantizer.encoding(w).scale == (0.75,)
    assert ((w - quantizer(w)) ** 2).sum().item() == pytest.approx(0.875)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("paper", [0.1, 0.05, -0.3, 0.4]),
        ("exact", [-0.125, 0.2, -0.425, 0.5]),
        ("swap", [0.1, 0, -0.3, 0.4]),
        ("detach", [0.075, 0, -0.225, 0.3]),
        ("code", [0.3, 0.15, -0.9, 1.2]),  # (1/n + alpha 1{|w|<1}) (1 - 1/c) n with n = c = 4
    ],
)
def test_gradient_rules(rule: str, expected: list[float]) -> None:
    assert gradient(rule, W, G) == pytest.approx(expected, abs=1e-12)


def test_exact_rule_of_baselines() -> None:
    assert gradient("exact", [0.5, -1.2, 0.3], [1, 2, -1]) == pytest.approx([0, 0.666667, -1.333333], abs=1e-6)


def test_code_rule_is_strict_inside_and_counts_channels() -> None:
    w = torch.tensor([[[[1.0, 0.5]], [[-1.0, -0.5]]]], dtype=torch.float64, requires_grad=True)  # c = 2, n = 4, alpha = 0.75
    ScaledSign("code")(w).sum().backward()
    assert w.grad.flatten().tolist() == pytest.approx([0.5, 2.0, 0.5, 2.0])


def test_one_scale_per_layer() -> None:
    w = torch.tensor([[0.5, -1.5], [0.25, -0.75]], requires_grad=True)
    quantizer = ScaledSign("swap", per="layer")
    y = quantizer(w)
    (y * torch.tensor([[1.0, 2], [3, 4]])).sum().backward()
    assert y.tolist() == [[0.75, -0.75], [0.75, -0.75]]
    assert w.grad.tolist() == [[1, 0], [3, 4]]
    assert quantizer.encoding(w).scale == 0.75
    with pytest.raises(ConfigError, match="per layer"):
        ScaledSign("paper", per="layer")


def test_unknown_rule() -> None:
    with pytest.raises(ConfigError, match="did you mean 'exact'"):
        ScaledSign("exactly")  # type: ignore[arg-type]


def test_encoding_needs_the_weight() -> None:
    with pytest.raises(TypeError, match=r"ScaledSign\.encoding"):
        ScaledSign().encoding()
