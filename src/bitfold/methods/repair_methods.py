"""The repairs of binary networks, each a switch."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.layers.bases import Bases
from bitfold.layers.input_scale import InputScale
from bitfold.layers.norm import remove_norms_behind
from bitfold.layers.quant import QuantConv2d, QuantLayer
from bitfold.layers.squeeze import SqueezeExcite
from bitfold.layers.swap import wrap_layers
from bitfold.methods._losses import attention_loss, distribution_loss
from bitfold.methods._places import blocks
from bitfold.methods._repairs import (
    SCHEDULES,
    Activation,
    Estimator,
    FeatureNorm,
    Regularizer,
    Scale,
    WeightNorm,
    add_anchor,
    binary_layers,
    feature_quantizer,
    regularization,
    replaced_activations,
    weight_quantizer,
    with_feature_norm,
)
from bitfold.methods.base import Forward, Method
from bitfold.methods.binarize_by_classification import BinarizeByClassification
from bitfold.methods.xnor_plus_plus import XNORPlusPlus
from bitfold.quantizers.base import Quantizer


@dataclass(frozen=True, kw_only=True)
class RepairMethods(Method):
    """Repairs of binary networks, each a switch; the defaults are a plain baseline. Taxonomy: de Putter, Corporaal 2022, arXiv 2206.12322.

    T1 ``feature``, T2 ``weight`` and ``clip_latent``: the gradients of the signs (and what goes with them). T3 ``weight_norm``, T4
    ``feature_norm``: "after" keeps the model's BatchNorm behind each binary layer, "before" has one in front of its sign instead, "both"
    has both, "none" has neither; "mean" and "std" keep it and shift by the channel's mean, or measure the gradient's window in standard
    deviations of the sample. T5 ``distill``: a teacher's distribution as target ("soft_ce"), or attention maps of every block beside the
    recipe's loss; KL with a temperature is the recipe's own ``teacher``. T6 ``regularizer`` and ``decay_binary`` (weight decay on latent
    weights). T7 ``weights``: "real" is the first of two stages. T8, the optimiser, is the recipe's. N1 ``scale``; "K" is "analytic" and
    XNOR-Net's map of the inputs, "gamma" XNOR-Net++'s learned one, "learned" over channels and one over rows and columns for images of
    ``image_size``. N2 ``weight_bases``, ``act_bases``. N3 ``activation`` takes the place of every plain one. N4, a
    shortcut per convolution, is an option of models. N5 ``squeeze``.
    Which members each category has, and the baseline, are decisions of this project: of the chapter only its abstract was available.
    Activation-distribution losses are left out, their exact form being unknown to us.
    """

    feature: Literal[Estimator, "rsign", "adabin"] = "ste_clip"
    weight: Literal[Estimator, "scaled_sign", "classifier"] = "ste_clip"
    clip_latent: bool = False
    weight_norm: WeightNorm = "none"
    feature_norm: FeatureNorm = "after"
    distill: Literal["none", "soft_ce", "attention"] = "none"
    attention_weight: float = 1.0  # summed over blocks
    regularizer: Regularizer = "none"
    strength: float = 1e-6  # of the regulariser
    kurtosis_target: float = 1.0
    decay_binary: bool = False
    weights: Literal["binary", "real"] = "binary"
    scale: Scale = "none"
    image_size: tuple[int, ...] = ()  # (height, width), for scale="gamma"
    weight_bases: int = 1
    act_bases: int = 1
    activation: Activation = "hardtanh"
    squeeze: bool = False
    reduction: int = 8  # of squeeze-and-excitation

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = (self.weight_bases, self.act_bases, self.reduction)
        if min(numbers) < 1 or min(self.strength, self.attention_weight) < 0:
            raise ConfigError(
                f"repair_methods: weight_bases, act_bases, reduction = {numbers}, strength={self.strength}, "
                f"attention_weight={self.attention_weight}; allowed: 1 or more, and 0 or more"
            )
        if self.feature_norm == "std" and self.feature in ("rsign", "adabin"):
            raise ConfigError(
                f"repair_methods: feature={self.feature!r} learns a threshold, which feature_norm='std' would scale by the sample; "
                "allowed with it: signs at zero"
            )
        if (len(self.image_size), min(self.image_size, default=1) >= 1) != (2 if self.scale == "gamma" else 0, True):
            raise ConfigError(
                f"repair_methods: scale={self.scale!r} with image_size={list(self.image_size)}; allowed: scale='gamma' with "
                "[height, width], the others without"
            )
        if self.weight == "scaled_sign" and self.scale in ("learned", "gamma"):
            raise ConfigError("repair_methods: weight='scaled_sign' brings its scale; allowed with it: scale='none', 'analytic', 'K'")
        if self.scale in ("K", "gamma") and self.weight_bases * self.act_bases > 1:
            raise ConfigError(f"repair_methods: scale={self.scale!r} is of one layer; allowed with it: weight_bases=1, act_bases=1")

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        if self.weights == "real":
            return None
        if self.weight_norm != "none" and math.prod(layer.weight.shape[1:]) < 2:
            raise ConfigError(
                f"repair_methods: the layer has one weight per filter, which weight_norm={self.weight_norm!r} takes away; "
                "name it in keep_float"
            )
        return weight_quantizer(self.weight, self.scale, self.weight_norm, layer)

    def act_quantizer(self, layer: QuantLayer) -> Quantizer:
        return with_feature_norm(feature_quantizer(self.feature, layer), self.feature_norm, layer)

    def prepare(self, model: nn.Module) -> nn.Module:
        replaced_activations(model, self.activation)
        return model

    def finish(self, model: nn.Module) -> nn.Module:
        if self.feature_norm in ("none", "before"):
            remove_norms_behind(model)
        if self.squeeze:
            model = wrap_layers(model, lambda m: SqueezeExcite(m, self.reduction) if isinstance(m, QuantConv2d) else m)
        if self.weight_bases * self.act_bases > 1:
            model = wrap_layers(model, lambda m: Bases(m, self.weight_bases, self.act_bases))
        if self.weight == "classifier":
            model = BinarizeByClassification().finish(model)
        if self.scale == "K":
            model = wrap_layers(model, InputScale)
        if self.scale == "gamma":
            model = XNORPlusPlus(scale="outer", image_size=self.image_size).finish(model)
        if self.regularizer in ("r1", "r2"):
            for layer in binary_layers(model):
                add_anchor(layer)
        return model

    def param_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        own = BinarizeByClassification().param_groups(model, weight_decay)[1:]  # the classifier's group
        taken = {p for group in own for p in group["params"]}
        latent = {layer.weight for layer in binary_layers(model)} if not self.decay_binary else set()
        rest = [p for p in model.parameters() if p.requires_grad and p not in taken]
        return [
            {"params": [p for p in rest if p not in latent], "weight_decay": weight_decay},
            {"params": [p for p in rest if p in latent], "weight_decay": 0.0},
            *own,
        ]

    def before_step(self, model: nn.Module, progress: float) -> None:
        for method in SCHEDULES:
            method.before_step(model, progress)

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        if self.clip_latent:
            for layer in binary_layers(model):
                layer.weight.clamp_(-1, 1)

    @property
    def needs_teacher(self) -> bool:
        return self.distill != "none"

    def taps(self, model: nn.Module) -> tuple[str, ...]:
        return blocks(model) if self.distill == "attention" else ()

    def loss(self, model: nn.Module, forward: Forward) -> Tensor:
        task_loss = forward.task_loss
        if self.distill == "soft_ce":
            assert forward.teacher is not None
            task_loss = distribution_loss(forward.outputs, forward.teacher)
        if self.distill == "attention":
            pairs = [(forward.features.student[path], forward.features.teacher[path]) for path in self.taps(model)]
            task_loss = task_loss + self.attention_weight * torch.stack([attention_loss(*pair) for pair in pairs]).sum()
        return task_loss + regularization(model, self.regularizer, self.strength, self.kurtosis_target)


METHOD = RepairMethods
