"""RBNN."""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantConv2d, QuantLayer, quant_layers
from bitfold.layers.swap import wrap_layers
from bitfold.methods.base import Method
from bitfold.quantizers.base import Quantizer, per_filter
from bitfold.quantizers.ede import advance_ede
from bitfold.quantizers.rbnn import RBNNSign
from bitfold.quantizers.rotate import Rotate
from bitfold.quantizers.weight_sign import WeightSign


@dataclass(frozen=True, kw_only=True)
class RBNN(Method):
    """RBNN: weights are rotated towards their signs before they are binarised. Lin et al. 2020, arXiv 2009.13055.

    Weights: standardised per filter, mixed with their rotation by a learned angle, sign with a triangular gradient that sharpens,
    times a learned scale per filter that starts at mean|w|. The two rotations of each layer are refitted ``fits`` times over the
    stage, at its start and then evenly (released: at the first batch of every epoch, so set it to the epochs). Activations: sign with
    the same gradient, its t not below 1. Weight decay falls on all.
    ``center_inputs``: as in the released code, each sample's mean over all channels and positions is taken from the input of a layer
    before its sign, and (while training) its deviation divides it; inference then has to compute that mean, so the default is not to.
    Deviations: the rotated part is differentiated (see ``Rotate``); t moves at every step; the scale multiplies the weights, not the
    output; the released ResNets start with all BatchNorm weights at 1e-8, here the model's own initialisation stays.
    """

    t_min: float = 1e-2
    t_max: float = 10.0
    fits: int = 100
    center_inputs: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.t_min <= self.t_max or self.fits < 1:
            raise ConfigError(f"rbnn: t_min={self.t_min}, t_max={self.t_max}, fits={self.fits}; allowed: 0 < t_min <= t_max, fits >= 1")

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer:
        w = layer.weight.detach()
        if math.prod(w.shape[1:]) < 2:
            raise ConfigError("rbnn: the layer has one weight per filter, which has no deviation; name it in keep_float")
        scale = w.abs().mean(per_filter(w), keepdim=True)
        return WeightSign(RBNNSign(self.t_min, self.t_max), "learned", Rotate(w.shape), scale_init=scale)

    def act_quantizer(self, layer: QuantLayer) -> Quantizer:
        return RBNNSign(self.t_min, self.t_max, least=1.0)

    def finish(self, model: nn.Module) -> nn.Module:
        return wrap_layers(model, CentredInput) if self.center_inputs else model

    def before_step(self, model: nn.Module, progress: float) -> None:
        advance_ede(model, progress)
        for layer in quant_layers(model):
            rotate = getattr(layer.weight_quant, "normalize", None)
            if isinstance(rotate, Rotate) and rotate.fits <= progress * self.fits:
                rotate.fit(layer.weight)


class CentredInput(nn.Module):
    """layer((x - m) / s): m the mean of the sample, s its unbiased deviation while training and 1 otherwise (the bits do not change).

    Plain tensor operations around the layer, so that a trace sees them. The layer's parameters move to ``<path>.layer``.
    x: (N, C, H, W) for a conv, (N, C) for a linear layer.
    """

    def __init__(self, layer: QuantLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.layer, QuantConv2d):
            x = x - x.mean((2, 3), keepdim=True).mean(1, keepdim=True)
        else:
            x = x - x.mean(1, keepdim=True)
        if self.training:
            x = x / x.std(per_filter(x), keepdim=True)
        return self.layer(x)  # type: ignore[no-any-return]


METHOD = RBNN
