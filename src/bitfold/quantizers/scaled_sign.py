"""Binary weights with one scale per filter, mean|w|, and the five gradients that papers give it."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from bitfold.errors import unknown
from bitfold.ir.encoding import Binary
from bitfold.quantizers.base import Quantizer, per_filter, scale_tuple, sign, straight_through, weight_of
from bitfold.quantizers.sign import Sign

GradRule = Literal["swap", "detach", "exact", "paper", "code"]
Per = Literal["filter", "layer"]


class ScaledSign(Quantizer):
    """alpha sign(w), alpha = mean|w| over each filter (n weights, c input channels) or, with ``per="layer"``, over the whole tensor.

    Forward:  q(w) = alpha * (+1 if w >= 0 else -1)
    Backward, with G = dL/dq, e' the derivative of ``estimator`` (default 1{|w| <= 1}):
        swap    G e'(w)                                   alpha only in the value: Bi-Real, ReActNet (baselines section 2)
        detach  alpha G e'(w)                             alpha is a constant: IR-Net's convention
        exact   alpha G e'(w) + sign(w)/n sum(G sign(w))  plain autograd
        paper   G (1/n + alpha e'(w))                     XNOR-Net as printed: keeps one term of the sum
        code    G (1/n + alpha 1{|w| < 1}) (1 - 1/c) n    XNOR-Net as released, with the factor n of its SGD runs

    alpha is recomputed at every forward. A layer's alpha goes with the first three rules alone.

    Shape: (out, in/groups, ...); kept.
    Reference: Rastegari et al. 2016 (XNOR-Net), arXiv 1603.05279, Eq. 2-6.
    """

    def __init__(self, grad_rule: GradRule = "swap", estimator: Sign | None = None, per: Per = "filter") -> None:
        super().__init__()
        allowed = get_args(GradRule)[: None if per == "filter" else 3]
        if grad_rule not in allowed:
            raise unknown(f"grad_rule of ScaledSign per {per}", grad_rule, allowed)
        self.grad_rule = grad_rule
        self.per = per
        self.estimator = estimator if estimator is not None else Sign()

    def scale(self, w: Tensor) -> Tensor:
        return w.abs().mean(per_filter(w) if self.per == "filter" else tuple(range(w.ndim)), keepdim=True)

    def forward(self, w: Tensor) -> Tensor:
        alpha = self.scale(w)
        if self.grad_rule == "exact":
            return alpha * straight_through(sign(w), self.estimator.surrogate(w))
        alpha = alpha.detach()
        return straight_through(alpha * sign(w), self._surrogate(w, alpha))

    def _surrogate(self, w: Tensor, alpha: Tensor) -> Tensor:
        if self.grad_rule == "swap":
            return self.estimator.surrogate(w)
        if self.grad_rule == "detach":
            return alpha * self.estimator.surrogate(w)
        n = math.prod(w.shape[1:])
        if self.grad_rule == "paper":
            return w / n + alpha * self.estimator.surrogate(w)
        inside = (w.detach().abs() < 1).to(w.dtype)  # strict, as released
        return w * ((1 + n * alpha * inside) * (1 - 1 / w.shape[1]))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return sign(x).to(torch.int32)

    def encoding(self, x: Tensor | None = None) -> Binary:
        scale = self.scale(weight_of(x, self))
        return Binary(scale=scale_tuple(scale) if self.per == "filter" else scale.item())
