"""The two layers with quantiser slots: one conv, one linear, ever."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.quantizers.base import Identity, Quantizer

Role = Literal["first", "inner", "shortcut", "last"]
_Size = int | tuple[int, int]


class QuantConv2d(nn.Conv2d):
    """``nn.Conv2d`` whose input and weight pass through ``act_quant`` and ``weight_quant``. Padding adds zeros *after* quantisation.

    ``role`` is the layer's place in its network: "first", "inner", "shortcut" or "last" (set by ``bitfold.apply``).
    ``grad_quant`` is the identity on the output, and may quantise the gradient that comes back; inference never needs it.
    """

    role: Role = "inner"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: _Size,
        stride: _Size = 1,
        padding: str | _Size = 0,
        dilation: _Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        act_quant: Quantizer | None = None,
        weight_quant: Quantizer | None = None,
        grad_quant: nn.Module | None = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ConfigError(f"QuantConv2d: padding_mode={padding_mode!r}; allowed: 'zeros' (a padded tap must add nothing)")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, device=device, dtype=dtype)
        self.act_quant = act_quant if act_quant is not None else Identity()
        self.weight_quant = weight_quant if weight_quant is not None else Identity()
        self.grad_quant = grad_quant if grad_quant is not None else nn.Identity()

    def forward(self, input: Tensor) -> Tensor:
        y = self._conv_forward(self.act_quant(input), self.weight_quant(self.weight), self.bias)
        return self.grad_quant(y)  # type: ignore[no-any-return]


class QuantLinear(nn.Linear):
    """``nn.Linear`` with the same slots."""

    role: Role = "inner"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        act_quant: Quantizer | None = None,
        weight_quant: Quantizer | None = None,
        grad_quant: nn.Module | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        self.act_quant = act_quant if act_quant is not None else Identity()
        self.weight_quant = weight_quant if weight_quant is not None else Identity()
        self.grad_quant = grad_quant if grad_quant is not None else nn.Identity()

    def forward(self, input: Tensor) -> Tensor:
        return self.grad_quant(F.linear(self.act_quant(input), self.weight_quant(self.weight), self.bias))  # type: ignore[no-any-return]


QuantLayer = QuantConv2d | QuantLinear


def quant_layers(model: nn.Module) -> list[QuantLayer]:
    """Every Quant layer of ``model``, in registration order."""
    return [m for m in model.modules() if isinstance(m, QuantConv2d | QuantLinear)]


def in_width(layer: QuantLayer) -> int:
    """Input channels of a conv, input features of a linear layer."""
    return layer.in_channels if isinstance(layer, QuantConv2d) else layer.in_features


def channel_axis(layer: QuantLayer) -> int:
    """The axis of channels in the layer's input and output: 1 for images, -1 for linear layers."""
    return 1 if isinstance(layer, QuantConv2d) else -1
