"""AdaBin: adaptive binary sets."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from bitfold.errors import ConfigError
from bitfold.layers.activations import TwoSlope, replace_activations
from bitfold.layers.quant import QuantLayer
from bitfold.methods.base import Method
from bitfold.quantizers.adabin import AdaBinActivation, AdaBinWeight
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.ede import EDE, advance_ede


@dataclass(frozen=True, kw_only=True)
class AdaBin(Method):
    """AdaBin: binary sets {centre - distance, centre + distance} instead of {-1, +1}. Tu et al. 2022, arXiv 2208.08084.

    Weights: mean and standard deviation of each filter, gradient by EDE; activations: learned distance and threshold per layer,
    gradient by Bi-Real's polynomial. ``center_mode="code"`` is the released form, to which published weights belong; "paper" the
    printed one. ``maxout`` puts the learned two-slope activation in place of every plain one. Weight decay falls on all parameters.
    Deviation: EDE's t = t_min (t_max/t_min)^progress moves at every step, not once an epoch; at epoch ends the two agree.
    """

    center_mode: Literal["code", "paper"] = "code"
    maxout: bool = True
    t_min: float = 1e-3
    t_max: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.t_min <= self.t_max:
            raise ConfigError(f"adabin: t_min={self.t_min}, t_max={self.t_max}; allowed: 0 < t_min <= t_max")

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer:
        if math.prod(layer.weight.shape[1:]) < 2:
            raise ConfigError("adabin: the layer has one weight per filter, whose distance would be 0; name it in keep_float")
        return AdaBinWeight(EDE(self.t_min, self.t_max))

    def act_quantizer(self, layer: QuantLayer) -> Quantizer:
        return AdaBinActivation(self.center_mode)

    def finish(self, model: nn.Module) -> nn.Module:
        if self.maxout:
            replace_activations(model, TwoSlope)
        return model

    def before_step(self, model: nn.Module, progress: float) -> None:
        advance_ede(model, progress)


METHOD = AdaBin
