"""The two layers with quantiser slots: one conv, one linear, ever."""

import torch.nn.functional as F
from torch import Tensor, nn

from bitfold.quantizers.base import Identity, Quantizer


class QuantConv2d(nn.Conv2d):
    """``nn.Conv2d`` whose input and weight pass through ``act_quant`` and ``weight_quant``. Padding adds zeros *after* quantisation.

    ``role`` is the layer's place in its network: "first", "inner", "shortcut" or "last" (set by ``bitfold.apply``).
    """

    act_quant: Quantizer
    weight_quant: Quantizer
    role: str = "inner"

    def __init__(self, *args, act_quant: Quantizer | None = None, weight_quant: Quantizer | None = None, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **kwargs)
        self.act_quant = act_quant if act_quant is not None else Identity()
        self.weight_quant = weight_quant if weight_quant is not None else Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(self.act_quant(x), self.weight_quant(self.weight), self.bias)


class QuantLinear(nn.Linear):
    """``nn.Linear`` with the same two slots."""

    act_quant: Quantizer
    weight_quant: Quantizer
    role: str = "inner"

    def __init__(self, *args, act_quant: Quantizer | None = None, weight_quant: Quantizer | None = None, **kwargs) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*args, **kwargs)
        self.act_quant = act_quant if act_quant is not None else Identity()
        self.weight_quant = weight_quant if weight_quant is not None else Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.act_quant(x), self.weight_quant(self.weight), self.bias)


QuantLayer = QuantConv2d | QuantLinear
