"""Weights from a normalisation, an estimator and a scale."""

import pytest
import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.sign import Sign
from bitfold.quantizers.weight_sign import WeightSign

W = torch.tensor([[0.6, -0.2, 0.1, -0.9], [4.0, 0.1, -0.1, -4.0]])


class Centre(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w - w.mean(1, keepdim=True)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [("none", [1.0, 1.0]), ("layer", [1.25, 1.25]), ("filter", [0.45, 2.05]), ("pow2", [0.5, 2.0])],
)
def test_scales_by_hand(scale: str, expected: list[float]) -> None:
    quantizer = WeightSign(Sign(), scale)  # type: ignore[arg-type]
    q = quantizer(W)
    assert torch.allclose(q.abs(), torch.tensor(expected)[:, None].expand(2, 4))
    assert torch.equal(q > 0, W >= 0)


def test_the_gradient_runs_through_the_normalisation_and_not_the_scale() -> None:
    w = W.clone().requires_grad_()
    g = torch.tensor([[1.0, 2.0, -1.0, 0.5], [0.0, 1.0, 1.0, 2.0]])
    WeightSign(ApproxSign(), "filter", Centre())(w).backward(g)
    z = W - W.mean(1, keepdim=True)
    h = g * z.abs().mean(1, keepdim=True) * (2 - 2 * z.abs()).clamp(min=0)
    assert w.grad is not None and torch.allclose(w.grad, h - h.mean(1, keepdim=True))


def test_swap_leaves_the_scale_out_of_the_gradient_and_not_out_of_the_value() -> None:
    w = W.clone().requires_grad_()
    q = WeightSign(ApproxSign(), "filter", swap=True)(w)
    q.sum().backward()
    assert w.grad is not None and torch.allclose(w.grad, (2 - 2 * W.abs()).clamp(min=0))
    assert torch.equal(q, WeightSign(ApproxSign(), "filter")(W))
    with pytest.raises(TypeError, match="without a gradient"):
        WeightSign(Sign(), "learned", scale_init=torch.ones(2, 1), swap=True)


def test_a_learned_scale_learns_and_may_be_negative() -> None:
    quantizer = WeightSign(Sign(), "learned", scale_init=torch.tensor([[0.5], [-2.0]]))
    q = quantizer(W)
    q.backward(torch.ones(2, 4))
    assert quantizer.scale is not None and quantizer.scale.grad is not None
    assert quantizer.scale.grad.tolist() == [[0.0], [0.0]]  # as many plus as minus signs
    encoding = quantizer.encoding(W)
    assert encoding.scale == (0.5, 2.0)
    assert torch.equal(quantizer.codes(W) * torch.tensor([[0.5], [2.0]]), q)


def test_unknown_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="pow2"):
        WeightSign(Sign(), "channel")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="scale_init"):
        WeightSign(Sign(), "learned")
