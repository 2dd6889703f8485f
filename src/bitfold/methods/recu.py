"""ReCU."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from bitfold.errors import ConfigError
from bitfold.layers.norm import SampleStd
from bitfold.layers.quant import QuantConv2d, QuantLayer
from bitfold.methods.base import Method
from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.normalized import Normalized
from bitfold.quantizers.quantile_clamp import QuantileClamp
from bitfold.quantizers.sign import Sign
from bitfold.quantizers.weight_sign import WeightSign


@dataclass(frozen=True, kw_only=True)
class ReCU(Method):
    """ReCU: "dead" weights are clamped back into the distribution by a quantile that widens. Xu et al. 2021, arXiv 2103.12369.

    Weights: standardised per filter, clamped to the tau-quantile of the layer, sign with the identity gradient, times one learned
    scale per filter, which starts at random in [0, 1) (all as released). Activations: sign with Bi-Real's polynomial, its window
    measured in standard deviations of the sample while training. tau rises from ``tau_min`` to ``tau_max``. Weight decay falls on all.
    Deviations: the scale multiplies the weights instead of the layer's output, so that a bias is not scaled (the paper's layers have
    none); tau moves at every step, not once an epoch; inputs of linear layers, of which the paper has none, keep the plain window
    (features behind a ReLU and a pooling lie outside that of their sample, and nothing before them would train).
    """

    tau_min: float = 0.85
    tau_max: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.5 < self.tau_min <= self.tau_max < 1:
            raise ConfigError(f"recu: tau_min={self.tau_min}, tau_max={self.tau_max}; allowed: 0.5 < tau_min <= tau_max < 1")

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer:
        if math.prod(layer.weight.shape[1:]) < 2:
            raise ConfigError("recu: the layer has one weight per filter, which has no deviation; name it in keep_float")
        alpha = torch.rand(len(layer.weight), *[1] * (layer.weight.ndim - 1))
        return WeightSign(Sign(clip=math.inf), "learned", QuantileClamp(self.tau_min, self.tau_max), scale_init=alpha)

    def act_quantizer(self, layer: QuantLayer) -> Quantizer:
        return Normalized(ApproxSign(), SampleStd()) if isinstance(layer, QuantConv2d) else ApproxSign()

    def before_step(self, model: nn.Module, progress: float) -> None:
        for module in model.modules():
            if isinstance(module, QuantileClamp):
                module.advance(progress)


METHOD = ReCU
