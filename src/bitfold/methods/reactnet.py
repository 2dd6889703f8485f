"""ReActNet."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from bitfold.layers.activations import RPReLU, replace_activations
from bitfold.layers.quant import QuantLayer, channel_axis, in_width
from bitfold.methods._losses import distribution_loss
from bitfold.methods.base import Forward, Method
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.rsign import RSign
from bitfold.quantizers.scaled_sign import ScaledSign


@dataclass(frozen=True, kw_only=True)
class ReActNet(Method):
    """ReActNet: learned thresholds (RSign), shifted PReLUs (RPReLU), a teacher's distribution as target. Liu et al. 2020, arXiv 2003.03488.

    Weights: mean|w| sign(w), gradient 1{|w| <= 1} without the scale; ``weights="real"`` is step 1 of the two-step training (binary
    activations, real weights), "binary" is step 2, which loads step 1: the parameters have the same names. With a teacher the loss is
    cross-entropy against its softmax (T = 1, no labels), without one the task's own. Weight decay falls on 4-D parameters, those with
    "conv" in their name, and the learned shifts (4-D in the released code; here vectors); not on the rest.
    Deviation: the released MobileNet code loses the binary weights between the steps; here they are transferred.
    """

    weights: Literal["binary", "real"] = "binary"
    rprelu: bool = True

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        return ScaledSign(grad_rule="swap") if self.weights == "binary" else None

    def act_quantizer(self, layer: QuantLayer) -> Quantizer:
        return RSign(in_width(layer), channel_axis(layer))

    def finish(self, model: nn.Module) -> nn.Module:
        if self.rprelu:
            replace_activations(model, RPReLU)
        return model

    def param_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        shifts = {p for m in model.modules() if isinstance(m, RSign | RPReLU) for n, p in m.named_parameters(recurse=False) if "shift" in n}
        decayed: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        for name, p in model.named_parameters():
            if p.requires_grad:
                (decayed if p.ndim == 4 or "conv" in name or p in shifts else free).append(p)
        return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]

    def loss(self, model: nn.Module, forward: Forward) -> Tensor:
        return forward.task_loss if forward.teacher is None else distribution_loss(forward.outputs, forward.teacher)


METHOD = ReActNet
