"""XNOR-Net and Binary-Weight-Networks."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantConv2d, QuantLayer, QuantLinear
from bitfold.layers.swap import wrap_layers
from bitfold.methods.base import Method
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.gradient import GradientQuant
from bitfold.quantizers.odd import OddQuant
from bitfold.quantizers.scaled_sign import ScaledSign
from bitfold.quantizers.sign import Sign


@dataclass(frozen=True, kw_only=True)
class XNORNet(Method):
    """XNOR-Net ("xnor") and Binary-Weight-Networks ("bwn"): signs scaled by mean|w| per filter. Rastegari et al. 2016, arXiv 1603.05279.

    ``input_scale="K"`` multiplies each output position by the box-filtered channel mean of |input| (Eq. 7-11; the released code has
    none). ``grad_rule``: of the weights, see ScaledSign; "code" is the released one. ``recentre`` and ``clamp``: at the beginning of each
    step the weights lose their mean over input channels and are clamped to [-1, 1], so the final weights are not re-centred, as
    released. ``act_bits`` > 1: the paper's k-bit generalisation. ``binary_gradient``: max|g| sign(g) at the outputs (paper option).
    Block order (BN - sign - conv - pool) belongs to the model. Deviations: sign(0) = +1, not 0; the factor 1e9 of the released Adam
    runs, which acts only through Adam's epsilon, is left out.
    """

    mode: Literal["xnor", "bwn"] = "xnor"
    input_scale: Literal["none", "K"] = "none"
    grad_rule: Literal["code", "paper", "exact"] = "code"
    recentre: bool = True
    clamp: bool = True
    act_bits: int = 1
    binary_gradient: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.act_bits <= 8:
            raise ConfigError(f"xnor_net: act_bits={self.act_bits}; allowed: 1 to 8")
        if self.mode == "bwn" and (self.input_scale != "none" or self.act_bits != 1):
            raise ConfigError("xnor_net: mode='bwn' keeps inputs in float; allowed with it: input_scale='none', act_bits=1")

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer:
        if layer.weight.shape[1] == 1 and (self.recentre or self.grad_rule == "code"):
            raise ConfigError(
                f"xnor_net: {layer} has one input channel per filter, and its mean over input channels is itself; "
                "name it in keep_float, or set recentre=False and grad_rule='paper' or 'exact'"
            )
        return ScaledSign(self.grad_rule)

    def act_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        if self.mode == "bwn":
            return None
        return Sign(strict=self.grad_rule == "code") if self.act_bits == 1 else OddQuant(self.act_bits)

    def grad_quantizer(self, layer: QuantLayer) -> nn.Module | None:
        return GradientQuant(1) if self.binary_gradient else None

    def finish(self, model: nn.Module) -> nn.Module:
        return wrap_layers(model, InputScale) if self.input_scale == "K" else model

    @torch.no_grad()
    def before_step(self, model: nn.Module, progress: float) -> None:
        for layer in model.modules():
            if isinstance(layer, QuantConv2d | QuantLinear) and isinstance(layer.weight_quant, ScaledSign):
                if self.recentre:
                    layer.weight.sub_(layer.weight.mean(1, keepdim=True))
                if self.clamp:
                    layer.weight.clamp_(-1, 1)


class InputScale(nn.Module):
    """layer(x) * K(x): K is the mean of |x| over channels, averaged over each window of the conv, zeros outside counted (Eq. 11).

    Plain tensor operations around the layer, so that a trace sees them. The layer's parameters move to ``<path>.layer``.
    x: (N, C, H, W) for a conv, (N, ..., C) for a linear layer, whose K is the mean over features.
    """

    def __init__(self, layer: QuantLayer) -> None:
        super().__init__()
        if layer.bias is not None:
            raise ConfigError(f"xnor_net: {layer} has a bias, which input_scale='K' would scale too; allowed: layers without bias")
        if isinstance(layer, QuantConv2d):
            small = all(isinstance(p, int) and 2 * p <= k for p, k in zip(layer.padding, layer.kernel_size, strict=False))
            if layer.groups != 1 or layer.dilation != (1, 1) or not small:
                raise ConfigError(
                    f"xnor_net: {layer}; allowed with input_scale='K': groups=1, dilation=1, padding of at most half the kernel"
                )
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.layer, QuantLinear):
            return self.layer(x) * x.abs().mean(-1, keepdim=True)  # type: ignore[no-any-return]
        k = F.avg_pool2d(x.abs().mean(1, keepdim=True), self.layer.kernel_size, self.layer.stride, self.layer.padding)  # type: ignore[arg-type]
        return self.layer(x) * k  # type: ignore[no-any-return]


METHOD = XNORNet
