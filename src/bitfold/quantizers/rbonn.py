"""RBONN's binary weights: learned scales coupled with the latent weights, and recurrent backtracking of sparse channels."""

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from bitfold.ir.encoding import Binary
from bitfold.quantizers.base import Quantizer, per_filter, scale_tuple, sign

Backtrack: TypeAlias = Literal["off", "code", "code_fixed_rank", "paper"]
UNIT = 0.02  # of the learned scales (released code)


class RBONNWeight(Quantizer):
    """0.02 |s| sign(w), one learned s per filter, whose gradient is coupled with w.

    Forward:  alpha = |s|, b = 0.02 sign(v), q = alpha b; v is w, in training moved by the backtracking
    Backward, with G = dL/dq and sums over each filter:
        dv = alpha G + lam (v - alpha b);  ds = sign(s) [sum(G v) - lam sum((v - alpha b) b)]
    The lam terms are the gradient of lam/2 |v - alpha b|^2, which is part of no loss; the loss part of ds has v where the true
    derivative has b (released code).

    Backtracking, u one learned step per filter (start 0.2), K = int(out (1 - tau)):
        code             v = w - u m g, g the last step's gradient of w, m the mask of filters with argsort(alpha) < K (sic)
        code_fixed_rank  the same with the rank of alpha, which is what the released code means: the K smallest alphas
        paper            after each step w += u m w_old and u = |u|, w_old the weights before the step, m the mask of the filters with
                         alpha among the out - int(out tau) smallest and L1 norm not among as many largest; du = sum(dv m w_old)
    g (or m w_old) is the buffer ``memory``, which is saved, so that a resumed run goes on exactly: ``remember`` and ``move`` fill it.
    Zeros there, as at the start, mean no backtracking. In evaluation v = w.

    Shape: (out, in/groups, ...); kept. One scale per output channel.
    Reference: Xu et al. 2022 (RBONN), arXiv 2209.01542; code: SteveTsui/RBONN. "paper": from a textbook's restatement of it, whose
    one-step mask may use the scale before or after the step; here after.
    """

    memory: Tensor
    before: Tensor

    def __init__(self, shape: torch.Size, lam: float = 1e-4, tau: float = 0.6, backtrack: Backtrack = "code_fixed_rank") -> None:
        super().__init__()
        self.lam, self.tau, self.backtrack = lam, tau, backtrack
        column = (shape[0], *[1] * (len(shape) - 1))
        self.s = nn.Parameter(torch.randn(column))
        if backtrack != "off":
            self.u = nn.Parameter(torch.full(column, 0.2))
            self.register_buffer("memory", torch.zeros(shape))
        if backtrack == "paper":
            self.register_buffer("before", torch.zeros(shape), persistent=False)  # from before a step to after it

    def forward(self, w: Tensor) -> Tensor:
        alpha = self.s.abs()
        return torch.ops.bitfold.bilinear_sign(self._moved(w, alpha), alpha, self.lam)  # type: ignore[no-any-return]

    def _moved(self, w: Tensor, alpha: Tensor) -> Tensor:
        if self.backtrack == "off" or not self.training:
            return w
        if self.backtrack == "paper":  # w has been moved already; the gradient of u is still to come
            return w + (self.u - self.u.detach()) * self.memory
        return w - self.u * (self.small(alpha.detach()) * self.memory)

    def small(self, alpha: Tensor) -> Tensor:
        """The mask of ``code`` and ``code_fixed_rank``, in alpha's shape."""
        order = alpha.flatten().argsort(stable=True)
        if self.backtrack == "code_fixed_rank":
            order = order.argsort()
        return (order < int(len(order) * (1 - self.tau))).to(alpha.dtype).reshape(alpha.shape)

    @torch.no_grad()
    def remember(self, w: Tensor) -> None:
        """Between backward pass and optimiser step: keeps the gradient of w, or w itself."""
        if self.backtrack == "paper":
            self.before.copy_(w)
        elif self.backtrack != "off" and w.grad is not None:
            self.memory.copy_(w.grad)

    @torch.no_grad()
    def move(self, w: Tensor) -> None:
        """After the optimiser step: the paper's update of w, in place."""
        if self.backtrack != "paper":
            return
        small = _ranks(self.s.abs()) < len(w) - int(len(w) * self.tau)
        sparse = _ranks(self.before.abs().sum(per_filter(w), keepdim=True)) < int(len(w) * self.tau)
        self.memory.copy_(self.before * (small & sparse))
        w.add_(self.u * self.memory)
        self.u.abs_()

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return sign(x).to(torch.int32)

    def encoding(self, x: Tensor | None = None) -> Binary:
        return Binary(scale=scale_tuple(self.s.abs() * UNIT))


def _ranks(x: Tensor) -> Tensor:
    """Ascending, from 0."""
    return x.flatten().argsort(stable=True).argsort().reshape(x.shape)


# An operator of its own: its gradient is not the derivative of any forward, and has a part that does not come from the loss.


@torch.library.custom_op("bitfold::bilinear_sign", mutates_args=())
def _bilinear_sign(v: Tensor, alpha: Tensor, lam: float) -> Tensor:
    return alpha * UNIT * sign(v)


@_bilinear_sign.register_fake
def _(v: Tensor, alpha: Tensor, lam: float) -> Tensor:
    return torch.empty_like(v)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
    v, alpha, ctx.lam = inputs
    ctx.save_for_backward(v, alpha)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    v, alpha = ctx.saved_tensors
    b = UNIT * sign(v)
    pull = ctx.lam * (v - alpha * b)
    return grad * alpha + pull, (grad * v - pull * b).sum(per_filter(v), keepdim=True), None


_bilinear_sign.register_autograd(_backward, setup_context=_setup)
