"""Binary weights from three ingredients: a normalisation, a sign estimator and a scale."""

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from bitfold.errors import unknown
from bitfold.ir.encoding import Binary
from bitfold.quantizers.base import Quantizer, per_filter, scale_tuple, sign, straight_through, weight_of
from bitfold.quantizers.sign import Sign

Scale: TypeAlias = Literal["none", "layer", "filter", "pow2", "learned"]


class WeightSign(Quantizer):
    """scale * sign(normalize(w)): what most papers do to weights, each with its own ingredients.

    Forward:  z = normalize(w), q(w) = s * (+1 if z >= 0 else -1)
        none 1; layer mean|z| of the whole tensor; filter mean|z| of each filter; pow2 2^round(log2 mean|z|) of each filter, half to
        even; learned one parameter per filter, ``scale_init`` at the start
    Backward: s e'(z) through z = normalize(w), e the ``estimator``; the scale is a constant, unless it is learned. With ``swap`` e'(z)
        alone, as if the scale were only in the value (see ScaledSign)

    normalize: a module w -> z of one shape, for example ``StandardWeight``. What the estimator decides on z counts; the usual ones put
    z = 0 to +1.
    Shape: (out, in/groups, ...); kept.
    """

    def __init__(
        self,
        estimator: Sign,
        scale: Scale = "none",
        normalize: nn.Module | None = None,
        scale_init: Tensor | None = None,
        swap: bool = False,
    ) -> None:
        super().__init__()
        if scale not in get_args(Scale):
            raise unknown("scale of WeightSign", scale, get_args(Scale))
        if (scale == "learned") != (scale_init is not None):
            raise TypeError("WeightSign: scale_init (out, 1, ...) belongs to scale='learned', which needs it")
        if swap and scale == "learned":
            raise TypeError("WeightSign: swap=True leaves a learned scale without a gradient")
        self.estimator = estimator
        self.swap = swap
        self.normalize = normalize if normalize is not None else nn.Identity()
        self.kind: Scale = scale
        self.scale = nn.Parameter(scale_init) if scale_init is not None else None

    def _scale(self, z: Tensor) -> Tensor | float:
        """Broadcasts against z. No gradient but to a learned scale."""
        if self.scale is not None:
            return self.scale
        if self.kind == "none":
            return 1.0
        if self.kind == "layer":
            return z.detach().abs().mean()
        mean = z.detach().abs().mean(per_filter(z), keepdim=True)
        return mean if self.kind == "filter" else torch.exp2(torch.round(torch.log2(mean)))

    def forward(self, w: Tensor) -> Tensor:
        z = self.normalize(w)
        e = self.estimator(z)
        scaled: Tensor = self._scale(z) * e
        return straight_through(scaled, e) if self.swap else scaled

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        z: Tensor = self.normalize(x)
        codes = self.estimator.codes(z)
        if self.scale is not None:  # encodings have positive scales
            codes = codes * sign(self.scale).to(torch.int32)
        return codes

    @torch.no_grad()
    def encoding(self, x: Tensor | None = None) -> Binary:
        scale = self._scale(self.normalize(weight_of(x, self)))
        return Binary() if isinstance(scale, float) else Binary(scale=scale_tuple(scale.abs()) if scale.numel() > 1 else scale.item())
