"""RBONN: recurrent bilinear optimisation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantLayer, quant_layers
from bitfold.methods.reactnet import ReActNet
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.rbonn import RBONNWeight


@dataclass(frozen=True, kw_only=True)
class RBONN(ReActNet):
    """RBONN: learned scales coupled with the weights they scale, and backtracking of sparse weights. Xu et al. 2022, arXiv 2209.01542.

    ReActNet (its thresholds, activations, teacher's loss, and with ``weights="real"`` its first step) with other binary weights: see
    RBONNWeight for the scale 0.02 |s|, its gradient and the four kinds of backtracking. "code_fixed_rank" is what the released code
    means, "code" what it does, "paper" the printed rule, and "off" the ablation to show beside them: with several GPUs the released
    code never backtracks. Here it always does: what one step leaves to the next is a saved buffer, filled from gradients that are the
    mean over all processes. The steps u have a tenth of the learning rate. Weight decay falls on the weights of conv and linear layers
    alone (official second stage: none).
    """

    lam: float = 1e-4
    tau: float = 0.6
    backtrack: Literal["off", "code", "code_fixed_rank", "paper"] = "code_fixed_rank"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lam < 0 or not 0 < self.tau < 1:
            raise ConfigError(f"rbonn: lam={self.lam}, tau={self.tau}; allowed: lam >= 0, 0 < tau < 1")

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        return RBONNWeight(layer.weight.shape, self.lam, self.tau, self.backtrack) if self.weights == "binary" else None

    def param_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        steps = [m.u for m in model.modules() if isinstance(m, RBONNWeight) and m.backtrack != "off"]
        weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear) and m.weight.requires_grad]
        taken = {id(p) for p in (*steps, *weights)}
        return [
            {"params": weights, "weight_decay": weight_decay},
            {"params": [p for p in model.parameters() if p.requires_grad and id(p) not in taken], "weight_decay": 0.0},
            {"params": steps, "weight_decay": 0.0, "lr_scale": 0.1},
        ]

    def after_backward(self, model: nn.Module, progress: float) -> None:
        for weight, quantizer in _slots(model):
            quantizer.remember(weight)

    def after_step(self, model: nn.Module, progress: float) -> None:
        for weight, quantizer in _slots(model):
            quantizer.move(weight)


def _slots(model: nn.Module) -> Iterator[tuple[Tensor, RBONNWeight]]:
    for layer in quant_layers(model):
        if isinstance(layer.weight_quant, RBONNWeight):
            yield layer.weight, layer.weight_quant


METHOD = RBONN
