"""XNOR-Net++."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.layers.probe import probing
from bitfold.layers.quant import QuantConv2d, QuantLayer, quant_layers
from bitfold.layers.scale_map import ScaleMap
from bitfold.layers.swap import wrap_layers
from bitfold.methods.base import Method
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.sign import Sign
from bitfold.quantizers.weight_sign import WeightSign


@dataclass(frozen=True, kw_only=True)
class XNORPlusPlus(Method):
    """XNOR-Net++: one scale learned by backpropagation in place of XNOR-Net's two computed ones. Bulat and Tzimiropoulos, arXiv 1909.13863.

    Signs of weights and activations with the gradient 1{|x| < 1}, and at the output of each layer the scale
        "channel": alpha[c] (case 1 of the paper)
        "outer":   alpha[c] beta[h] gamma[w] (case 4, its best); it fits one size of images, which ``image_size`` (height, width) says
    all 1 at the start, as in the author's later library (1adrianb/binary-networks-pytorch). alpha lives in the weight quantiser, so a bias
    is not scaled by it; with "outer" biases are refused. Linear layers have alpha alone. Cases 2 and 3 (a free value for every position)
    are not offered: case 2 has no deployed form here, and case 4 contains what case 3 gains (paper, table 1 (memory)).
    """

    scale: Literal["channel", "outer"] = "channel"
    image_size: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = 2 if self.scale == "outer" else 0
        if len(self.image_size) != wanted or min(self.image_size, default=1) < 1:
            raise ConfigError(
                f"xnor_plus_plus: scale={self.scale!r} with image_size={list(self.image_size)}; allowed: scale='channel' without, "
                "scale='outer' with [height, width]"
            )

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer:
        alpha = torch.ones(len(layer.weight), *[1] * (layer.weight.ndim - 1))
        return WeightSign(Sign(strict=True), "learned", scale_init=alpha)

    def act_quantizer(self, layer: QuantLayer) -> Quantizer:
        return Sign(strict=True)

    def finish(self, model: nn.Module) -> nn.Module:
        if self.scale == "channel":
            return model
        sizes, names = _output_sizes(model, self.image_size), {module: name for name, module in model.named_modules()}

        def mapped(layer: QuantLayer) -> nn.Module:
            if layer not in sizes:
                return layer
            if layer.bias is not None:
                raise ConfigError(f"layer {names[layer]!r}: xnor_plus_plus: a bias, which scale='outer' would scale too; allowed: no bias")
            scale = ScaleMap(*sizes[layer]).to(device=layer.weight.device, dtype=layer.weight.dtype)
            return nn.Sequential(OrderedDict(layer=layer, map=scale)).train(layer.training)

        return wrap_layers(model, mapped)


def _output_sizes(model: nn.Module, image_size: tuple[int, ...]) -> dict[nn.Module, tuple[int, int]]:
    """(height, width) of what each quantised conv puts out for images of ``image_size``: one image of zeros goes through the network."""
    convs = [layer for layer in quant_layers(model) if isinstance(layer, QuantConv2d)]
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    found: dict[nn.Module, tuple[int, int]] = {}
    if not convs or first is None:
        return found

    def record(layer: nn.Module, args: Any, y: Tensor) -> None:
        size = (y.shape[2], y.shape[3])
        if found.setdefault(layer, size) != size:
            name = next(name for name, module in model.named_modules() if module is layer)
            sizes = f"used at sizes {found[layer]} and {size}"
            raise ConfigError(f"layer {name!r}: xnor_plus_plus: {sizes}; allowed with scale='outer': one size")

    with probing(model, ((layer, record) for layer in convs)):
        model(torch.zeros(1, first.in_channels, *image_size, device=first.weight.device, dtype=first.weight.dtype))
    return found


METHOD = XNORPlusPlus
