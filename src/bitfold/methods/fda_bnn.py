"""FDA-BNN: frequency domain approximation."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from bitfold.errors import ConfigError
from bitfold.layers.activations import replace_activations
from bitfold.layers.quant import QuantLayer, QuantLinear, in_width
from bitfold.layers.swap import wrap_layers
from bitfold.methods.base import Method
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.fda import FDASign, NoiseAdaptation
from bitfold.quantizers.weight_sign import WeightSign


@dataclass(frozen=True, kw_only=True)
class FDABNN(Method):
    """FDA-BNN: the gradient of a truncated Fourier series, plus a learned correction. Xu et al. 2021, arXiv 2103.00841.

    Sign of weights and activations, zero to -1, with the derivative of n + 1 sines; n grows from ``terms_start`` to ``terms_end``. While
    training each has its own noise-adaptation module, times alpha, which falls from ``alpha`` to 0 as a half cosine; evaluation and
    export know nothing of it. Weights are scaled by mean|w| of the layer (DoReFa's convention, CIFAR) or of the filter, a constant
    through which gradients pass as they come (released code: the identity) or times the scale ("product", BiBench).
    ``block="released"`` is the released CIFAR network's non-linearity on a model of this project: PReLU with one slope between each
    binary conv and its BatchNorm, no activation elsewhere but a ReLU in the place of the last one.
    Deviations, the training code not being released: omega and the clip of activations to |t| <= 1 follow a third party (BiBench), whose
    n reaches 17 (``schedule="bibench"``); hidden widths max(1, ceil(d/64)); schedules move with every step.
    """

    omega: float = 0.1
    clip_weights: bool = False
    clip_activations: bool = True
    terms_start: int = 9
    terms_end: int = 18
    schedule: Literal["even", "bibench"] = "even"
    alpha: float = 0.1
    noise: bool = True
    noise_shortcut: Literal["sin", "linear", "none"] = "sin"
    scale: Literal["layer", "filter"] = "layer"
    scale_gradient: Literal["identity", "product"] = "identity"
    block: Literal["model", "released"] = "model"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.omega > 0 or not 0 <= self.terms_start <= self.terms_end or self.alpha < 0:
            raise ConfigError(
                f"fda_bnn: omega={self.omega}, terms_start={self.terms_start}, terms_end={self.terms_end}, alpha={self.alpha}; "
                "allowed: omega > 0, 0 <= terms_start <= terms_end, alpha >= 0"
            )

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer:
        noise = NoiseAdaptation(math.prod(layer.weight.shape[1:]), "filters", self.noise_shortcut) if self.noise else None
        return WeightSign(self._sign(self.clip_weights, noise), self.scale, swap=self.scale_gradient == "identity")

    def act_quantizer(self, layer: QuantLayer) -> Quantizer:
        layout: Literal["features", "image"] = "features" if isinstance(layer, QuantLinear) else "image"
        return self._sign(self.clip_activations, NoiseAdaptation(in_width(layer), layout, self.noise_shortcut) if self.noise else None)

    def _sign(self, clip: bool, noise: NoiseAdaptation | None) -> FDASign:
        return FDASign(self.omega, 1.0 if clip else math.inf, self.terms_start, noise, self.alpha)

    def finish(self, model: nn.Module) -> nn.Module:
        if self.block == "model":
            return model
        acts = replace_activations(model, lambda channels, axis: nn.ReLU())
        left = iter(range(acts - 1, -1, -1))
        replace_activations(model, lambda channels, axis: nn.Identity() if next(left) else nn.ReLU())
        return wrap_layers(model, WithPReLU)

    def terms_at(self, progress: float) -> int:
        """n: equal parts of the training for every n from start to end, or start + floor((end - start) progress)."""
        more = self.terms_end - self.terms_start
        return self.terms_start + (int(more * progress) if self.schedule == "bibench" else min(int((more + 1) * progress), more))

    def alpha_at(self, progress: float) -> float:
        return self.alpha * 0.5 * (1 + math.cos(math.pi * progress))

    def before_step(self, model: nn.Module, progress: float) -> None:
        terms, alpha = self.terms_at(progress), self.alpha_at(progress)
        for module in model.modules():
            if isinstance(module, FDASign):
                module.terms.fill_(terms)
                module.alpha.fill_(alpha)


class WithPReLU(nn.Sequential):
    """A layer, then a PReLU with one slope (0.25) for all channels; the layer's parameters move to ``<path>.0``."""

    def __init__(self, layer: QuantLayer) -> None:
        super().__init__(layer, nn.PReLU(device=layer.weight.device, dtype=layer.weight.dtype))
        self.train(layer.training)


METHOD = FDABNN
