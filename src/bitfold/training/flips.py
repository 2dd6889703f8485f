"""How restless the weights are: the share of weight codes that changed since the epoch before."""

import torch
from torch import Tensor, nn

from bitfold.ir.encoding import Float
from bitfold.layers.quant import QuantConv2d, QuantLinear


@torch.no_grad()
def weight_codes(model: nn.Module) -> dict[str, Tensor]:
    """Integer weight codes by module path, for every layer whose weights have codes. int8 where they fit, else int32; on the CPU."""
    codes = {}
    for name, layer in model.named_modules():
        if isinstance(layer, QuantConv2d | QuantLinear):
            encoding = layer.weight_quant.encoding(layer.weight)
            if not isinstance(encoding, Float):
                small = encoding.min_code >= -128 and encoding.max_code <= 127
                codes[name] = layer.weight_quant.codes(layer.weight).to("cpu", torch.int8 if small else torch.int32)
    return codes


def flip_rates(before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, float]:
    """Share of changed codes by layer, and over all weights under the empty name. {} where nothing has codes."""
    if not after:
        return {}
    changed = {name: int((before[name] != codes).sum()) for name, codes in after.items()}
    rates = {name: changed[name] / codes.numel() for name, codes in after.items()}
    return {"": sum(changed.values()) / sum(codes.numel() for codes in after.values()), **rates}
