"""fda-bnn.md, section 8: rows 1 to 4, and 7 for the quantiser."""

import math

import pytest
import torch
from torch import Tensor

from bitfold.errors import ConfigError
from bitfold.quantizers.fda import FDASign, NoiseAdaptation
from bitfold.quantizers.weight_sign import WeightSign


def slopes(terms: int, t: list[float], clip: float = math.inf) -> Tensor:
    x = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    FDASign(0.1, clip, terms).double()(x).sum().backward()
    assert x.grad is not None
    return x.grad


def series(terms: int, t: Tensor, w: float = 0.1) -> Tensor:
    odd = 2 * torch.arange(terms + 1, dtype=torch.float64) + 1
    return 4 / math.pi * (torch.sin(odd * w * t[..., None]) / odd).sum(-1)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (9, [1.273240, 1.264789, 1.071841, 0.579843, 0.060118, -0.242511]),
        (18, [2.419155, 2.361392, 1.205369, -0.390171, -0.234597, 0.310162]),
    ],
)
def test_row_1_derivative_values(terms: int, expected: list[float]) -> None:
    t = [0, 0.1, 0.5, 1, 1.5, 2]
    assert slopes(terms, t).tolist() == pytest.approx(expected, abs=1e-6)
    assert slopes(0, [0.0]).item() == pytest.approx(0.127324, abs=1e-6)
    assert slopes(terms, t, clip=1.0).tolist() == pytest.approx([*expected[:4], 0, 0], abs=1e-6)


@pytest.mark.parametrize("terms", [0, 1, 9, 18])
def test_row_1_closed_form_is_the_sum_and_its_limit(terms: int) -> None:
    t = torch.linspace(-30, 30, 601, dtype=torch.float64)
    odd = 2 * torch.arange(terms + 1, dtype=torch.float64) + 1
    total = 0.4 / math.pi * torch.cos(odd * 0.1 * t[:, None]).sum(1)
    torch.testing.assert_close(slopes(terms, t.tolist()), total, rtol=0, atol=1e-12)
    assert slopes(terms, [0.0, -0.0]).tolist() == pytest.approx([0.4 * (terms + 1) / math.pi] * 2)


def test_row_2_the_gradient_belongs_to_the_series() -> None:
    t = torch.tensor([0.5, 1.0], dtype=torch.float64)
    assert series(9, t).tolist() == pytest.approx([0.602375, 1.022500], abs=1e-6)
    assert series(18, t).tolist() == pytest.approx([0.991825, 1.141884], abs=1e-6)
    fine = torch.linspace(0, 3, 30_001, dtype=torch.float64)
    values = series(9, fine)
    assert values.max().item() == pytest.approx(1.1798, abs=1e-4)  # Gibbs
    assert fine[values.argmax()].item() == pytest.approx(1.5708, abs=1e-4)
    assert torch.equal(series(9, -fine), -values)
    difference = (values[2:] - values[:-2]) / (fine[2:] - fine[:-2])
    torch.testing.assert_close(slopes(9, fine[1:-1].tolist()), difference, rtol=0, atol=1e-6)


def test_row_3_mean_square_error_falls_with_terms() -> None:
    errors = []
    t = (torch.arange(200_000, dtype=torch.float64) + 0.5) * (20 * math.pi / 200_000)  # one period, w = 0.1
    square = FDASign().codes(torch.sin(0.1 * t)).double()
    for terms, expected in [(0, 0.189431), (1, 0.099367), (9, 0.020247), (18, 0.010663)]:
        errors.append((series(terms, t) - square).square().mean().item())
        assert errors[-1] == pytest.approx(expected, abs=2e-6)
    assert errors == sorted(errors, reverse=True)


def test_row_4_module() -> None:
    noise = NoiseAdaptation(4, "features")
    noise.down = torch.nn.Parameter(torch.tensor([[1, 0.5, 1, 0.25], [-1, 2, 0, 1]], dtype=torch.float64))  # W1 transposed
    noise.up = torch.nn.Parameter(torch.tensor([[0.1, 0.05], [-0.2, 0.1], [0.3, -0.1], [0, 0.2]], dtype=torch.float64))
    quantizer = FDASign(0.1, terms=9, noise=noise, alpha=0.1).double()
    t = torch.tensor([[0.2, -0.5, 1, 0.4]], dtype=torch.float64, requires_grad=True)
    assert noise(t)[0].tolist() == pytest.approx([0.124867, -0.257943, 0.399147, 0.038942], abs=1e-6)
    z = quantizer(t)
    assert z[0].tolist() == pytest.approx([1.012487, -1.025794, 1.039915, 1.003894], abs=1e-6)
    z.backward(torch.tensor([[1, -1, 0.5, 2]], dtype=torch.float64))
    assert t.grad is not None and noise.down.grad is not None and noise.up.grad is not None
    assert t.grad[0].tolist() == pytest.approx([1.294440, -1.058117, 0.337623, 2.313696], abs=1e-6)
    assert noise.down.grad.T.flatten().tolist() == pytest.approx([0.009, 0, -0.0225, 0, 0.045, 0, 0.018, 0], abs=1e-7)
    assert noise.up.grad.T.flatten().tolist() == pytest.approx([0.105, -0.105, 0.0525, 0.21, 0, 0, 0, 0], abs=1e-7)


def test_module_takes_pixels_rows_and_filters_alike() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, 4)
    image, features = NoiseAdaptation(5, "image"), NoiseAdaptation(5, "features")
    features.load_state_dict(image.state_dict())
    torch.testing.assert_close(image(x).movedim(1, -1), features(x.movedim(1, -1)))
    filters, rows = NoiseAdaptation(60, "filters"), NoiseAdaptation(60, "features")
    rows.load_state_dict(filters.state_dict())
    assert torch.equal(filters(x).flatten(1), rows(x.flatten(1)))
    widths = {d: NoiseAdaptation(d, "features").down.shape[0] for d in (1, 16, 64, 65, 4608)}
    assert widths == {1: 1, 16: 1, 64: 1, 65: 2, 4608: 72}  # trap 5: never 0; trap 7


def test_shortcut_of_the_module() -> None:
    t = torch.tensor([[0.5, -2.0]])
    for kind, eta in [("sin", 0.1 * t.sin()), ("linear", 0.1 * t), ("none", 0 * t)]:
        noise = NoiseAdaptation(2, "features", kind)  # type: ignore[arg-type]
        torch.nn.init.zeros_(noise.up)
        assert torch.equal(noise(t), eta)


@pytest.mark.parametrize("scale", ["layer", "filter"])
def test_row_7_zero_is_minus_one(scale: str) -> None:
    t = torch.tensor([[-1.0, -1e-45, -0.0, 0.0, 1e-45, 2.0]])
    expected = [-1, -1, -1, -1, 1, 1]
    quantizer = FDASign()
    assert quantizer(t)[0].tolist() == quantizer.codes(t)[0].tolist() == expected
    weight = WeightSign(quantizer, scale)  # type: ignore[arg-type]
    assert weight(t)[0].sign().tolist() == weight.codes(t)[0].tolist() == expected


def test_noise_is_silent_in_evaluation_and_schedules_are_not_saved() -> None:
    quantizer = FDASign(noise=NoiseAdaptation(3, "features"), alpha=0.5)
    x = torch.randn(4, 3)
    assert not torch.equal(quantizer(x), quantizer.codes(x).float())
    assert torch.equal(quantizer.eval()(x), quantizer.codes(x).float())
    assert set(quantizer.state_dict()) == {"noise.down", "noise.up"}


def test_bad_arguments_are_refused() -> None:
    for bad in ({"omega": 0.0}, {"terms": -1}, {"clip": 0.0}):
        with pytest.raises(ConfigError, match="must be > 0"):
            FDASign(**bad)  # type: ignore[arg-type]
