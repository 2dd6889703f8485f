"""Bi-Real Net."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from bitfold.layers.activations import replace_activations
from bitfold.layers.quant import QuantLayer
from bitfold.methods.base import Method
from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.scaled_sign import ScaledSign


@dataclass(frozen=True, kw_only=True)
class BiReal(Method):
    """Bi-Real Net: signs with a polynomial gradient, weights scaled by mean|w|. Liu et al. 2018, arXiv 1808.00278.

    Activations: sign, gradient max(0, 2 - 2|x|). Weights: mean|w| sign(w) per filter, gradient 1{|w| <= 1} without the scale
    (the convention of the official PyTorch code). The paper's other half, one shortcut per convolution, belongs to the model.
    ``activation="none"`` takes plain activations out of the model, as in that code: the sign is the only non-linearity; "keep" leaves
    them. Deviations: the model's own weight initialisation stays (official: uniform [0, 1e-3), so that all signs start at +1); the
    Caffe recipe's chain of pre-trainings is not reproduced.
    """

    activation: Literal["none", "keep"] = "none"

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer:
        return ScaledSign(grad_rule="swap")

    def act_quantizer(self, layer: QuantLayer) -> Quantizer:
        return ApproxSign()

    def finish(self, model: nn.Module) -> nn.Module:
        if self.activation == "none":
            replace_activations(model, lambda channels, axis: nn.Identity())
        return model


METHOD = BiReal
