"""DoReFa-Net."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantLayer
from bitfold.methods.base import Method
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.linear import LinearQuant
from bitfold.quantizers.noisy_gradient import NoisyGradient
from bitfold.quantizers.scaled_sign import ScaledSign
from bitfold.quantizers.sign import Sign
from bitfold.quantizers.tanh_odd import TanhOdd


@dataclass(frozen=True, kw_only=True)
class DoReFa(Method):
    """DoReFa-Net: weights, activations and gradients of few bits. Zhou et al. 2016, arXiv 1606.06160.

    Bits are 1 to 8 (gradients to 16), 0 leaves float. One-bit weights: mean|w| of the whole layer times sign(w), with the identity
    gradient; k bits: odd levels of tanh(w) / max|tanh(w)|. Activations: k bits of x clipped to [0, 1], which for one bit are {0, 1};
    ``activation="sign"``: {-1, +1}, gradient 1{|x| <= 1}, as the papers that take DoReFa for a binary baseline do (FDA-BNN's code).
    Gradients: at each layer's output, scaled by the largest of each sample, with uniform noise.
    Deviations: ties are rounded away from zero, not to even. (The paper's equations: (memory); checked against the released code's
    description only.)
    """

    weight_bits: int = 1
    act_bits: int = 1
    grad_bits: int = 0
    activation: Literal["unit", "sign"] = "unit"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in (("weight_bits", 8), ("act_bits", 8), ("grad_bits", 16)):
            if not 0 <= getattr(self, name) <= most:
                raise ConfigError(f"dorefa: {name}={getattr(self, name)}; allowed: 0 (float) to {most}")
        if self.activation == "sign" and self.act_bits != 1:
            raise ConfigError(f"dorefa: activation='sign' with act_bits={self.act_bits}; allowed with it: 1")

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        if self.weight_bits == 1:
            return ScaledSign("swap", Sign(clip=math.inf), per="layer")
        return TanhOdd(self.weight_bits) if self.weight_bits else None

    def act_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        if self.activation == "sign":
            return Sign()
        return LinearQuant(self.act_bits, signed=False) if self.act_bits else None

    def grad_quantizer(self, layer: QuantLayer) -> nn.Module | None:
        return NoisyGradient(self.grad_bits) if self.grad_bits else None


METHOD = DoReFa
