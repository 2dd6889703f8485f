"""AdaBin's adaptive binary sets: {centre - distance, centre + distance} for weights and for activations."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from bitfold.errors import unknown
from bitfold.ir.encoding import Binary
from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.base import Quantizer, per_filter, scale_tuple, sign, straight_through, weight_of
from bitfold.quantizers.sign import Sign

CenterMode = Literal["code", "paper"]


class AdaBinWeight(Quantizer):
    """The binary set that fits each filter: its mean and its (biased) standard deviation.

    Forward:  beta = mean(w), alpha = sqrt(mean((w - beta)^2)), q(w) = beta + alpha * (+1 if w >= beta else -1)
    Backward: exact through beta and alpha; the sign through ``estimator`` of z = (w - beta) / alpha

    No epsilon, as published: a filter whose weights are all equal gives NaN.

    Shape: (out, in/groups, ...); kept. Scale and offset per output channel.
    Reference: Tu et al. 2022 (AdaBin), arXiv 2208.08084; official code.
    """

    def __init__(self, estimator: Sign) -> None:
        super().__init__()
        self.estimator = estimator

    @staticmethod
    def binary_set(w: Tensor) -> tuple[Tensor, Tensor]:
        """(centre, distance), each (out, 1, ...)."""
        beta = w.mean(per_filter(w), keepdim=True)
        return beta, (w - beta).square().mean(per_filter(w), keepdim=True).sqrt()

    def forward(self, w: Tensor) -> Tensor:
        beta, alpha = self.binary_set(w)
        centred = w - beta
        return beta + alpha * straight_through(sign(centred), self.estimator.surrogate(centred / alpha))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return sign(x - self.binary_set(x)[0]).to(torch.int32)

    def encoding(self, x: Tensor | None = None) -> Binary:
        beta, alpha = self.binary_set(weight_of(x, self))
        return Binary(scale=scale_tuple(alpha), offset=scale_tuple(beta))


class AdaBinActivation(Quantizer):
    """Two learned scalars: the distance ``alpha`` and the threshold ``beta``.

    Forward:  s = sign((a - beta) / alpha); code form alpha (s + beta), paper form alpha s + beta
    Backward: with u = (a - beta) / alpha and e the ``estimator`` (default Bi-Real's polynomial):
        da = G e'(u);  dalpha = sum G (s - e'(u) u) [+ sum G beta];  dbeta = sum G (1 - e'(u)), code form sum G (alpha - e'(u))

    The decision is a >= beta, for negative alpha too (alpha s = |alpha| sign(a - beta)), so a code is one comparison. The forms
    differ in their centre, alpha beta (code form, which the published weights need) or beta; their bits are the same.

    Shape: any; kept.
    Reference: Tu et al. 2022 (AdaBin), arXiv 2208.08084; official code.
    """

    def __init__(self, center_mode: CenterMode = "code", estimator: Sign | None = None) -> None:
        super().__init__()
        if center_mode not in ("code", "paper"):
            raise unknown("center_mode of AdaBinActivation", center_mode, ("code", "paper"))
        self.center_mode = center_mode
        self.estimator = estimator if estimator is not None else ApproxSign()
        self.alpha = nn.Parameter(torch.ones(()))
        self.beta = nn.Parameter(torch.zeros(()))

    def forward(self, a: Tensor) -> Tensor:
        code = self.center_mode == "code"
        beta = self.beta.detach()
        value = sign(a.detach() - beta).mul_(sign(self.alpha)).add_(beta if code else 0.0)
        value = value.mul_(self.alpha.detach()).add_(0.0 if code else beta)
        if not torch.is_grad_enabled():
            return value
        surrogate = self.estimator.surrogate(_Standardise.apply(a, self.alpha, self.beta))
        return _Place.apply(value, surrogate, self.alpha, self.beta, code)  # type: ignore[no-any-return]

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return sign(x - self.beta).to(torch.int32)

    def encoding(self, x: Tensor | None = None) -> Binary:
        alpha, beta = self.alpha.item(), self.beta.item()
        return Binary(scale=abs(alpha), offset=alpha * beta if self.center_mode == "code" else beta)


class _Standardise(torch.autograd.Function):
    """u = (a - beta) / alpha. Its gradient comes in divided by alpha, see _Place: two passes over the activation are saved."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        u = (a - beta).div_(alpha)
        ctx.save_for_backward(u)
        return u.view_as(u)  # a view: see _TwoSlopes in layers.activations

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        (u,) = ctx.saved_tensors
        return gradient, -(gradient * u).sum(), -gradient.sum()


class _Place(torch.autograd.Function):
    """``value``, which is alpha (s + beta) or alpha s + beta. The surrogate of s gets the gradient without its factor alpha."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, surrogate: Tensor, alpha: Tensor, beta: Tensor, code: bool) -> Tensor:
        ctx.save_for_backward(value, alpha, beta)
        ctx.code = code
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        value, alpha, beta = ctx.saved_tensors
        total, product = gradient.sum(), (gradient * value).sum()
        if ctx.code:
            return None, gradient, product / alpha, alpha * total, None
        return None, gradient, (product - beta * total) / alpha, total, None
