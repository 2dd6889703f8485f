"""AdderNet's convolution: the negative L1 distance of filter and patch, so that additions are all it needs."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantConv2d
from bitfold.quantizers.base import Quantizer

_Pair = tuple[int, int]


def adder_conv2d(
    x: Tensor, weight: Tensor, stride: _Pair = (1, 1), padding: _Pair = (0, 0), dilation: _Pair = (1, 1), groups: int = 1, eta: float = 0.2
) -> Tensor:
    """y = -(sum over taps and channels of |w - x|); a tap in the padding reads 0 and costs |w|.

    x (N, C, H, W), weight (O, C / groups, KH, KW) -> (N, O, OH, OW). With G the gradient of y, and sums over positions p or channels o:

        weight: d = sum_p G (x - w), times eta sqrt(number of weights) / |d|      the difference, where the derivative has its sign
        x:      sum_o G clip(w - x, -1, 1)

    Reference: Chen et al. 2020 (AdderNet), arXiv 1912.13200; eta and the norm over the whole tensor as in the authors' code.
    """
    reach = [dilation[i] * (weight.shape[2 + i] - 1) + 1 for i in (0, 1)]
    size = [(x.shape[2 + i] + 2 * padding[i] - reach[i]) // stride[i] + 1 for i in (0, 1)]
    patches = F.unfold(x, (weight.shape[2], weight.shape[3]), dilation, padding, stride)
    patches = patches.reshape(len(x), groups, -1, patches.shape[2])
    filters = weight.reshape(groups, len(weight) // groups, -1)
    y: Tensor = _Distance.apply(patches, filters, eta)  # type: ignore[no-untyped-call]
    return y.reshape(len(x), len(weight), *size)


class _Distance(torch.autograd.Function):
    """patches (N, groups, n, P), filters (groups, O, n) -> (N, groups, O, P)."""

    @staticmethod
    def forward(ctx: Any, patches: Tensor, filters: Tensor, eta: float) -> Tensor:
        ctx.save_for_backward(patches, filters)
        ctx.eta = eta
        return -torch.cdist(filters.expand(len(patches), -1, -1, -1).contiguous(), patches.transpose(2, 3).contiguous(), p=1)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        patches, filters = ctx.saved_tensors  # type: ignore[attr-defined]
        step = (gradient @ patches.transpose(2, 3)).sum(0) - filters * gradient.sum((0, 3))[..., None]
        step = step * (ctx.eta * step.numel() ** 0.5 / step.norm().clamp(min=1e-12))  # type: ignore[attr-defined]
        back = torch.zeros_like(patches)
        for o in range(filters.shape[1]):  # one filter at a time: all at once would be O times the patches
            back += gradient[:, :, o : o + 1] * (filters[:, o, :, None] - patches).clamp(-1, 1)
        return back, step, None


class AdderConv2d(QuantConv2d):
    """``QuantConv2d`` that takes distances in place of products: see ``adder_conv2d``. A BatchNorm should follow: outputs are far below 0.

    Distances of codes are distances of values only if both quantisers state one scale and no offset; export refuses others.
    Weights begin as N(0, 1), as in the authors' code.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | _Pair,
        stride: int | _Pair = 1,
        padding: int | _Pair = 0,
        dilation: int | _Pair = 1,
        groups: int = 1,
        bias: bool = False,
        *,
        eta: float = 0.2,
        act_quant: Quantizer | None = None,
        weight_quant: Quantizer | None = None,
    ) -> None:
        if isinstance(padding, str):
            raise ConfigError(f"AdderConv2d: padding={padding!r}; allowed: numbers")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, act_quant=act_quant, weight_quant=weight_quant
        )
        self.eta = eta

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        weight, geometry = self.weight_quant(self.weight), (self.stride, self.padding, self.dilation, self.groups)
        y = adder_conv2d(self.act_quant(input), weight, *geometry, self.eta)  # type: ignore[arg-type]
        return self.grad_quant(y if self.bias is None else y + self.bias[:, None, None])  # type: ignore[no-any-return]
