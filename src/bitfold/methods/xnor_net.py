"""XNOR-Net and Binary-Weight-Networks."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from bitfold.errors import ConfigError
from bitfold.layers.input_scale import InputScale
from bitfold.layers.quant import QuantLayer, quant_layers
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
                "xnor_net: the layer has one input channel per filter, and its mean over input channels is itself; "
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
        for layer in quant_layers(model):
            if isinstance(layer.weight_quant, ScaledSign):
                if self.recentre:
                    layer.weight.sub_(layer.weight.mean(1, keepdim=True))
                if self.clamp:
                    layer.weight.clamp_(-1, 1)


METHOD = XNORNet
