"""Binarisation as classification: a tiny network, trained with the model, stands in for the gradient of the sign."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bitfold.quantizers.base import per_filter, sign
from bitfold.quantizers.sign import Sign

LEAST_SLOPE = 0.25


class Classifier(nn.Module):
    """f: R -> R^2, scores of the two bits of every scalar: f_j(x) = sum_h outer[j, h] tanh(inner[h] x), no biases.

    ``hidden=0`` is the linear form f_j(x) = outer[j, 0] x, without ``inner``. Parameters: inner (hidden,), outer (2, hidden or 1).
    Start: inner ~ U(-1, 1), outer ~ U(-1, 1) / sqrt(hidden), as PyTorch's linear layers start. About half of all such draws have a
    negative total slope f_0'(0) + f_1'(0), with which the model climbs its loss. ``positive`` draws until that slope is at least 0.25,
    then scales ``outer`` so that it is 1, and gives bit 1 the steeper score.

    Reference: He et al. 2022 (BbC), arXiv 2205.07433; released code (MetaConv). ``positive`` and ``keep_positive`` are decisions of this
    project.
    """

    def __init__(self, hidden: int = 100, positive: bool = True) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.empty(hidden)) if hidden else None
        self.outer = nn.Parameter(torch.empty(2, max(hidden, 1)))
        self._draw()
        if positive:
            while self._slopes().sum() < LEAST_SLOPE:  # a small slope would be scaled up too much
                self._draw()
            with torch.no_grad():
                self.outer.div_(self._slopes().sum())
                self.outer.copy_(self.outer[self._slopes().argsort()])

    @torch.no_grad()
    def _draw(self) -> None:
        if self.inner is not None:
            self.inner.uniform_(-1, 1)
        bound = 1 / math.sqrt(self.outer.shape[1])
        self.outer.uniform_(-bound, bound)

    def _slopes(self) -> Tensor:
        """(f_0'(0), f_1'(0))"""
        return self.outer.detach().sum(1) if self.inner is None else self.outer.detach() @ self.inner.detach()

    @torch.no_grad()
    def keep_positive(self) -> None:
        """The nearest ``outer`` whose total slope is at least 0.25: a projection onto that half-space."""
        along = self.outer.new_ones(1) if self.inner is None else self.inner
        lack = (LEAST_SLOPE - self._slopes().sum()).clamp(min=0)
        self.outer.add_(along * lack / (2 * along.square().sum()))

    def forward(self, x: Tensor) -> Tensor:
        """(2, *x.shape)"""
        flat = x.reshape(1, -1)
        hidden = flat if self.inner is None else (self.inner[:, None] * flat).tanh()
        return (self.outer @ hidden).reshape(2, *x.shape)


class ClassifierSign(Sign):
    """The sign with the derivative of a classifier f as its own.

    Forward:  "sign" q(x) = +1 if x >= 0 else -1; "argmax" q(x) = +1 if f_1(x) >= f_0(x) else -1
    Backward, with G = dL/dq: "sign" dx = G sum_j 1{|f_j(x)| < 1} f_j'(x), and f gets what copies of G, gated alike, give its outputs;
        "argmax" the same without gates, times 2

    The hidden values of f (``hidden`` times the memory of x) are not kept but computed again in the backward pass, in pieces.
    ``share`` makes several quantisers use one f.

    Shape: any; kept.
    Reference: He et al. 2022 (BbC), arXiv 2205.07433; "sign" is MetaConv_v2 of the released code, "argmax" MetaConv_v3 (unused there).
    """

    def __init__(self, net: Classifier, decision: Literal["sign", "argmax"] = "sign") -> None:
        super().__init__()
        self.decision = decision
        self.own: Classifier | None = net
        self._lent: tuple[Classifier, ...] = ()  # in a tuple PyTorch does not find it: parameters and state keys exist once

    @property
    def net(self) -> Classifier:
        return self._lent[0] if self._lent else self.own  # type: ignore[return-value]

    def use(self, net: Classifier) -> None:
        """Another quantiser's network, which stays that one's submodule."""
        self.own, self._lent = None, (net,)

    def forward(self, x: Tensor) -> Tensor:
        net = self.net
        return torch.ops.bitfold.classifier_sign(x, net.inner, net.outer, self.decision == "argmax")  # type: ignore[no-any-return]

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        return self(x).to(torch.int32)  # type: ignore[no-any-return]


class Centre(nn.Module):
    """w - mean(w) over each filter. w: (out, in/groups, ...); kept."""

    def forward(self, w: Tensor) -> Tensor:
        return w - w.mean(per_filter(w), keepdim=True)


def share(quantizers: Sequence[ClassifierSign]) -> None:
    """One network for all: the first one's. It belongs to the first one's state; the others refer to it."""
    for other in quantizers[1:]:
        other.use(quantizers[0].net)


# Operators of their own: autograd would keep f's hidden values, and torch.compile would unroll the loops over the pieces.


def _pieces(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Flat parts small enough for a CPU's cache, or to keep a GPU busy without much memory (200 MB for 100 hidden units)."""
    size = 1 << 12 if tensors[0].device.type == "cpu" else 1 << 19
    return zip(*(t.reshape(-1).split(size) for t in tensors), strict=True)


@torch.library.custom_op("bitfold::classifier_sign", mutates_args=())
def _classifier_sign(x: Tensor, inner: Tensor | None, outer: Tensor, argmax: bool) -> Tensor:
    if not argmax:
        return sign(x)
    lead = outer[1:] - outer[:1]
    parts = [lead @ (p[None] if inner is None else (inner[:, None] * p).tanh_()) for (p,) in _pieces(x)]
    return sign(torch.cat(parts, dim=1).reshape(x.shape))


@torch.library.custom_op("bitfold::classifier_gradient", mutates_args=())
def _classifier_gradient(x: Tensor, grad: Tensor, inner: Tensor | None, outer: Tensor, argmax: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dinner, douter) of ClassifierSign; dinner is zero where there is no inner layer."""
    dx, douter = [], torch.zeros_like(outer)
    dinner = torch.zeros_like(inner if inner is not None else outer[0])
    for p, g in _pieces(x, grad):
        hidden = p[None] if inner is None else (inner[:, None] * p).tanh_()  # (hidden, n)
        scores = outer @ hidden
        back = (2 * g).expand_as(scores) if argmax else g * (scores.abs() < 1)  # (2, n)
        douter += back @ hidden.T
        back = outer.T @ back
        if inner is None:
            dx.append(back[0])
            continue
        back.addcmul_(back * hidden, hidden, value=-1)  # times 1 - tanh^2
        dx.append(inner @ back)
        dinner += back @ p
    return torch.cat(dx).reshape(x.shape), dinner, douter


@_classifier_sign.register_fake
def _(x: Tensor, inner: Tensor | None, outer: Tensor, argmax: bool) -> Tensor:
    return x.new_empty(x.shape)


@_classifier_gradient.register_fake
def _(x: Tensor, grad: Tensor, inner: Tensor | None, outer: Tensor, argmax: bool) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), torch.empty_like(inner if inner is not None else outer[0]), torch.empty_like(outer)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.argmax = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:
    x, inner, outer = ctx.saved_tensors
    dx, dinner, douter = torch.ops.bitfold.classifier_gradient(x, grad, inner, outer, ctx.argmax)
    return dx, dinner if inner is not None else None, douter, None


_classifier_sign.register_autograd(_backward, setup_context=_setup)
