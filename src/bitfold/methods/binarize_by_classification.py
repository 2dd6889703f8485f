"""Binarizing by Classification."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantLayer, quant_layers
from bitfold.methods.base import Method
from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.classifier_sign import Centre, Classifier, ClassifierSign, share
from bitfold.quantizers.weight_sign import WeightSign


@dataclass(frozen=True, kw_only=True)
class BinarizeByClassification(Method):
    """Binarizing by Classification: a tiny network, trained along, is the gradient of the sign. He et al. 2022, arXiv 2205.07433.

    Weights: c = w - mean per filter, mean|c| sign(c), the scale without gradient; the derivative of the sign is that of one classifier
    R -> R^2 that all layers share: an "mlp" with ``hidden`` tanh units or a "linear" one. ``decision="sign"`` is the released form; with
    "argmax" the classifier decides forward too, and its evaluated bits are exported. Activations: Bi-Real's polynomial, or a second
    shared classifier. The classifiers have an Adam of their own, its rate times 0.1 at 70/120, 90/120, 100/120 and 110/120 of the
    training, no weight decay, and vanish at export. The official loss, 0.9 times a teacher's soft labels, is the recipe's ``teacher``
    with weight = 0.9. All but the abstract's claims rests on the released code; the paper's text was not available.
    Deviations: ``slope="positive"`` starts and keeps every classifier's total slope at zero above zero (see Classifier). "free" is the
    released form: half of all seeds begin by climbing the loss, and others turn to it, for what the classifier learns from does not say
    which way is down: on ResNet-20 its slope fell from 1 to -14 in 320 steps and the network stayed at chance (``results/README.md``).
    Further: sign(0) = +1, not 0; the model's own weight initialisation stays (released: Xavier-uniform).
    """

    classifier: Literal["mlp", "linear"] = "mlp"
    hidden: int = 100
    decision: Literal["sign", "argmax"] = "sign"
    activation_binarizer: Literal["poly", "classifier"] = "poly"  # whether the paper also uses the latter is not known to us
    slope: Literal["positive", "free"] = "positive"
    classifier_lr: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden < 1 or not self.classifier_lr > 0:
            raise ConfigError(f"binarize_by_classification: hidden={self.hidden}, classifier_lr={self.classifier_lr}; allowed: above 0")
        if (self.activation_binarizer, self.decision, self.classifier) == ("classifier", "argmax", "mlp"):
            raise ConfigError(
                "binarize_by_classification: the decision of an mlp is no threshold, so activations cannot use it; allowed with "
                "activation_binarizer='classifier' and decision='argmax': classifier='linear'"
            )

    def _sign(self) -> ClassifierSign:
        return ClassifierSign(Classifier(self.hidden if self.classifier == "mlp" else 0, self.slope == "positive"), self.decision)

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer:
        if math.prod(layer.weight.shape[1:]) < 2:
            raise ConfigError("binarize_by_classification: the layer has one weight per filter, its own mean; name it in keep_float")
        return WeightSign(self._sign(), "filter", Centre())

    def act_quantizer(self, layer: QuantLayer) -> Quantizer:
        return ApproxSign() if self.activation_binarizer == "poly" else self._sign()

    def finish(self, model: nn.Module) -> nn.Module:
        layers = quant_layers(model)
        estimators = [layer.weight_quant.estimator for layer in layers if isinstance(layer.weight_quant, WeightSign)]
        for slots in (estimators, [layer.act_quant for layer in layers]):
            share([quantizer for quantizer in slots if isinstance(quantizer, ClassifierSign)])
        return model

    def param_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        own = [p for net in _classifiers(model) for p in net.parameters()]
        taken = {id(p) for p in own}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
        adam = {"optimizer": "adam", "lr": self.classifier_lr, "factor": _factor, "weight_decay": 0.0}
        return [{"params": rest, "weight_decay": weight_decay}, {"params": own, **adam}]

    def after_step(self, model: nn.Module, progress: float) -> None:
        if self.slope == "positive":
            for net in _classifiers(model):
                net.keep_positive()


def _classifiers(model: nn.Module) -> list[Classifier]:
    return [m for m in model.modules() if isinstance(m, Classifier)]


def _factor(progress: float) -> float:
    return float(0.1 ** sum(progress >= epoch / 120 for epoch in (70, 90, 100, 110)))


METHOD = BinarizeByClassification
