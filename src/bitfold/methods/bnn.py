"""BinaryNet."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from bitfold.errors import ConfigError
from bitfold.layers.output_norm import norm_outputs
from bitfold.layers.quant import QuantLayer, quant_layers
from bitfold.methods.base import Method
from bitfold.quantizers.base import Quantizer, sign
from bitfold.quantizers.sign import Sign
from bitfold.quantizers.stochastic_sign import StochasticSign

Rounding = Literal["deterministic", "stochastic"]


@dataclass(frozen=True, kw_only=True)
class BNN(Method):
    """BinaryNet: plain signs for weights and activations, no scales. Courbariaux, Hubara et al. 2016, arXiv 1602.02830.

    All layers are binary, first and last too; the first layer's input stays real. Weights: sign with the identity gradient, latent
    weights clipped to [-1, 1] after each step. Activations: sign, gradient 1{|x| <= 1}, which behind a Hardtanh is the released
    order. Each may be rounded at random while training: +1 with probability clip((x + 1) / 2, 0, 1). The training is plain, as in
    the PyTorch port: the task's own loss, no factors on the rate. (``qnn`` has the paper's squared hinge and Glorot factors.)
    ``output_norm``: a BatchNorm behind a binary classifier, as released; without it the sums of +-1 are logits far too large.
    Without scales the gradient of a weight is small against the weight: SGD needs ten times the rate of other methods, Adam does not.
    ``latent=False``: no latent weights. The weights are -1 and +1 from the start and flipped by Bop (arXiv 1906.02107) with
    ``adaptivity`` (moved by the recipe's schedule) and ``threshold``; the recipe's optimiser trains all other parameters.
    Deviations: sign(0) = +1; biases stay if the model has them.
    """

    first: bool = True
    last: bool = True
    shortcut: bool = True
    weight_rounding: Rounding = "deterministic"
    act_rounding: Rounding = "deterministic"
    output_norm: bool = True
    latent: bool = True
    adaptivity: float = 1e-4  # Bop's gamma; both as released for its CIFAR-10 run
    threshold: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.latent and self.weight_rounding == "stochastic":
            raise ConfigError("bnn: latent=False leaves nothing to round at random; allowed with it: weight_rounding='deterministic'")
        if not 0 < self.adaptivity <= 1 or not self.threshold >= 0:
            raise ConfigError(
                f"bnn: adaptivity={self.adaptivity}, threshold={self.threshold}; allowed: adaptivity above 0 up to 1, threshold >= 0"
            )

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer:
        return StochasticSign(clip=math.inf) if self.weight_rounding == "stochastic" else Sign(clip=math.inf)

    def act_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        if layer.role == "first":
            return None
        return StochasticSign() if self.act_rounding == "stochastic" else Sign()

    @torch.no_grad()
    def finish(self, model: nn.Module) -> nn.Module:
        if not self.latent:
            for layer in _own(model):
                layer.weight.copy_(sign(layer.weight))
        return norm_outputs(model) if self.output_norm else model

    def param_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        if self.latent:
            return super().param_groups(model, weight_decay)
        binary = [layer.weight for layer in _own(model)]
        taken = set(binary)
        rest = [p for p in model.parameters() if p.requires_grad and p not in taken]
        bop = {"optimizer": "bop", "lr": self.adaptivity, "options": {"threshold": self.threshold}}
        return [{"params": rest, "weight_decay": weight_decay}, {"params": binary, "weight_decay": 0.0, **bop}]

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        if self.latent:
            for layer in _own(model):
                layer.weight.clamp_(-1, 1)


def _own(model: nn.Module) -> list[QuantLayer]:
    return [layer for layer in quant_layers(model) if isinstance(layer.weight_quant, Sign)]


METHOD = BNN
