"""IR-Net."""

import math
from dataclasses import dataclass

from torch import nn

from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantLayer
from bitfold.methods.base import Method
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.ede import EDE, advance_ede
from bitfold.quantizers.standard import StandardWeight
from bitfold.quantizers.weight_sign import WeightSign


@dataclass(frozen=True, kw_only=True)
class IRNet(Method):
    """IR-Net: balanced, standardised binary weights (Libra) and a sign gradient that sharpens (EDE). Qin et al. 2020, arXiv 1909.10788.

    Weights: z = (w - mean) / std per filter (std unbiased), 2^round(log2 mean|z|) sign(z), the power of two a constant. Activations:
    sign, no scale. Both gradients are k tanh(t x) with t = t_min (t_max/t_min)^progress, k = max(1/t, 1). The released code takes
    ``t_min`` = 1e-3 for ResNet-20 and 1e-1 for VGG-Small and moves t once an epoch: ``schedule_by = "epoch"`` in a recipe.
    One shortcut per convolution and the Hardtanh after each sum belong to the model.
    """

    t_min: float = 1e-3
    t_max: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.t_min <= self.t_max:
            raise ConfigError(f"ir_net: t_min={self.t_min}, t_max={self.t_max}; allowed: 0 < t_min <= t_max")

    def estimator(self) -> EDE:
        """A new one for each slot."""
        return EDE(self.t_min, self.t_max)

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer:
        if math.prod(layer.weight.shape[1:]) < 2:
            raise ConfigError("ir_net: the layer has one weight per filter, which has no deviation; name it in keep_float")
        return WeightSign(self.estimator(), "pow2", StandardWeight())

    def act_quantizer(self, layer: QuantLayer) -> Quantizer:
        return self.estimator()

    def before_step(self, model: nn.Module, progress: float) -> None:
        advance_ede(model, progress)


METHOD = IRNet
