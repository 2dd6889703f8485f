"""S3: sign-sparse-shift training of power-of-two weights."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantLayer
from bitfold.methods.base import Forward, Method
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.shift import SignSparseShift


@dataclass(frozen=True, kw_only=True)
class S3(Method):
    """S3: weights 0 or +-powers of two, each rebuilt from a sign, a sparsity and T shift latents. Li et al. 2021, arXiv 2107.03453.

    Activations stay in float, as in the paper; shortcut convs are quantised, stem and classifier are not. The loss gains
    reg * sum max(-sparse, 0) over all layers, which pulls weights out of zero. Weight decay falls on all latents.
    Deviations: the sign latent is the model's own weight, with the model's initialisation (released: N(0, 2 / (kh kw out)), as the
    other latents here; the level histogram at the start needs only symmetry); bits 2, 4 and 5 follow the paper's recursion (memory).
    """

    shortcut: bool = True
    bits: int = 3
    reg: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.bits <= 5:
            raise ConfigError(f"s3: bits={self.bits}; allowed: 2 to 5")
        if not self.reg >= 0:
            raise ConfigError(f"s3: reg={self.reg}; allowed: >= 0")

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer:
        return SignSparseShift(layer.weight.shape, self.bits)

    def loss(self, model: nn.Module, forward: Forward) -> Tensor:
        sparse = [m.sparse for m in model.modules() if isinstance(m, SignSparseShift)]
        if self.reg == 0 or not sparse:  # none: composed with another method's weights
            return forward.task_loss
        return forward.task_loss + self.reg * torch.stack([(-s).clamp(min=0).sum() for s in sparse]).sum()


METHOD = S3
