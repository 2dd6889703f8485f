"""Sign estimators: rows of (input, output, gradient) from the specifications."""

import math

import pytest
import torch

from bitfold.errors import ConfigError
from bitfold.ir.encoding import Binary
from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.base import sign, straight_through
from bitfold.quantizers.ede import EDE, ede_t
from bitfold.quantizers.rsign import RSign
from bitfold.quantizers.sign import Sign
from bitfold.quantizers.stochastic_sign import StochasticSign


def gradient(module: torch.nn.Module, x: list[float]) -> list[float]:
    t = torch.tensor(x, requires_grad=True)
    module(t).sum().backward()
    return t.grad.tolist()


def test_sign_of_both_zeros_is_plus_one() -> None:
    x = torch.tensor([-2.0, -1e-45, -0.0, 0.0, 1e-45, 3e38, -math.inf])
    assert sign(x).tolist() == [-1, -1, 1, 1, 1, 1, -1]
    assert sign(x.bfloat16()).dtype == torch.bfloat16
    assert Sign()(x).tolist() == Sign().codes(x).tolist() == [-1, -1, 1, 1, 1, 1, -1]
    assert Sign().codes(x).dtype == torch.int32


def test_straight_through_keeps_the_value_bit_for_bit(rng) -> None:  # type: ignore[no-untyped-def]
    value = torch.tensor(rng.normal(size=1000), dtype=torch.float32)
    surrogate = torch.tensor(rng.normal(size=1000), dtype=torch.float32, requires_grad=True)
    y = straight_through(value, 3 * surrogate)
    y.sum().backward()
    assert torch.equal(y, value)
    assert torch.equal(surrogate.grad, torch.full((1000,), 3.0))


@pytest.mark.parametrize(
    ("quantizer", "x", "expected"),
    [
        (Sign(), [-1.2, -1, 0.3, 1, 1.01], [0, 1, 1, 1, 0]),  # qnn.md 11.5
        (Sign(strict=True), [-1.2, -1, 0.3, 1, 1.01], [0, 0, 1, 0, 0]),  # xnor-net.md 4: the released code
        (Sign(clip=1.5), [-1.6, -1.5, 0, 1.5, 1e30], [0, 1, 1, 1, 0]),  # baselines.md 2: BNext
        (Sign(clip=math.inf), [-1e30, -0.0, 0.0, 7], [1, 1, 1, 1]),
        (ApproxSign(), [-1.2, -1, -0.5, 0, 0.25, 0.75, 1], [0, 0, 1, 2, 1.5, 0.5, 0]),  # baselines.md 10.1
        (EDE(0.1), [0, 0.5, 1, 2], [1, 0.997504, 0.990066, 0.961043]),  # baselines.md 10.2
        (EDE(1.0), [0, 0.5, 1, 2], [1, 0.786448, 0.419974, 0.070651]),
        (EDE(10.0), [0, 0.5], [10, 0.001816]),
        (StochasticSign(), [-1.2, -1, 0.3, 1, 1.01], [0, 1, 1, 1, 0]),
    ],
)
def test_gradient_rows(quantizer: Sign, x: list[float], expected: list[float]) -> None:
    assert gradient(quantizer, x) == pytest.approx(expected, abs=1e-6)
    assert quantizer.eval()(torch.tensor(x)).tolist() == sign(torch.tensor(x)).tolist()


def test_ede_schedule_and_buffer() -> None:
    # baselines.md 10.2: T .1 -> 10 over 400 epochs
    assert ede_t(100 / 400, 0.1, 10) == pytest.approx(0.316228, abs=1e-6)
    assert ede_t(200 / 400, 0.1, 10) == pytest.approx(1.0)
    assert (ede_t(0, 1e-3, 10), ede_t(1, 1e-3, 10)) == (1e-3, 10.0)
    ede = EDE(0.5)
    t = ede.t
    ede.set_t(4.0)
    assert ede.t is t and t.item() == 4.0  # a compiled graph reads this tensor
    assert not ede.state_dict()


def test_stochastic_sign_is_random_only_while_training() -> None:
    torch.manual_seed(0)
    quantizer = StochasticSign()
    for x, p in [(-1.5, 0.0), (-1.0, 0.0), (-0.5, 0.25), (0.0, 0.5), (0.25, 0.625), (1.0, 1.0)]:  # qnn.md 11.1
        mean = quantizer(torch.full((1_000_000,), x)).mean().item()
        assert mean == pytest.approx(2 * p - 1, abs=0.003 if 0 < p < 1 else 0)
    quantizer.eval()
    assert quantizer(torch.tensor([-0.5, -0.0, 0.25])).tolist() == [-1, 1, 1]


def test_rsign_threshold_per_channel() -> None:
    for axis, shape in [(1, (2, 3, 4, 5)), (-1, (2, 5, 3))]:
        quantizer = RSign(3, axis)
        with torch.no_grad():
            quantizer.shift.copy_(torch.tensor([0.5, 0.0, -0.5]))
        x = torch.full(shape, 0.25, requires_grad=True)
        y = quantizer(x)
        y.sum().backward()
        assert y.movedim(axis, 0).flatten(1)[:, 0].tolist() == [1, 1, -1]
        per_channel = x.numel() // 3
        assert quantizer.shift.grad.tolist() == pytest.approx([0.5 * per_channel, 1.5 * per_channel, 1.5 * per_channel])
        assert torch.equal(quantizer.codes(x), y.to(torch.int32))
        assert quantizer.encoding() == Binary()


def test_bad_arguments_are_refused() -> None:
    for make in (lambda: Sign(clip=0), lambda: Sign(clip=math.nan), lambda: EDE(0.0), lambda: EDE(1.0).set_t(-1)):
        with pytest.raises(ConfigError, match="must be > 0"):
            make()
