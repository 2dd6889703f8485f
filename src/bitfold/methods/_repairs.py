"""The parts that ``repair_methods`` chooses from, and its regularisers."""

import math
from collections.abc import Iterator
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from bitfold.layers.activations import RPReLU, TwoSlope, replace_activations
from bitfold.layers.norm import MeanShift, SampleStd, batch_norm
from bitfold.layers.quant import QuantLayer, QuantLinear, channel_axis, in_width, quant_layers
from bitfold.methods.fda_bnn import FDABNN
from bitfold.methods.ir_net import IRNet
from bitfold.methods.recu import ReCU
from bitfold.quantizers.adabin import AdaBinActivation
from bitfold.quantizers.approx_sign import ApproxSign
from bitfold.quantizers.base import Identity, Quantizer, per_filter
from bitfold.quantizers.classifier_sign import Centre, Classifier, ClassifierSign
from bitfold.quantizers.ede import EDE
from bitfold.quantizers.fda import FDASign
from bitfold.quantizers.normalized import Normalized
from bitfold.quantizers.quantile_clamp import QuantileClamp
from bitfold.quantizers.rbnn import RBNNSign
from bitfold.quantizers.rsign import RSign
from bitfold.quantizers.scaled_sign import ScaledSign
from bitfold.quantizers.sign import Sign
from bitfold.quantizers.sign_swish import SignSwish
from bitfold.quantizers.standard import StandardWeight
from bitfold.quantizers.weight_sign import WeightSign

Estimator: TypeAlias = Literal["ste", "ste_clip", "poly", "swish", "ede", "rbnn", "fda"]
WeightNorm: TypeAlias = Literal["none", "mean", "standard", "recu"]
FeatureNorm: TypeAlias = Literal["none", "before", "after", "both", "mean", "std"]
Scale: TypeAlias = Literal["none", "analytic", "learned", "K", "gamma"]
Activation: TypeAlias = Literal["none", "hardtanh", "relu", "prelu", "rprelu", "maxout"]
Regularizer: TypeAlias = Literal["none", "r1", "r2", "kurtosis"]

SCHEDULES = (IRNet(), ReCU(), FDABNN())  # their ``before_step`` moves the t of EDE and RBNN, the quantile and the number of sines
ANCHOR = "anchor"  # the learned magnitude of BNN+, a parameter of the weight quantiser


def estimator(kind: str) -> Sign:
    """A sign with one of the gradients of T1 and T2, at the start of its schedule if it has one."""
    match kind:
        case "ste":
            return Sign(clip=math.inf)
        case "ste_clip":
            return Sign()
        case "poly":
            return ApproxSign()
        case "ede":
            return EDE(1e-3, 10.0)
        case "swish":
            return SignSwish()
        case "rbnn":
            return RBNNSign(1e-2, 10.0)
        case "fda":
            return FDASign()
    raise AssertionError(kind)


def feature_quantizer(kind: str, layer: QuantLayer) -> Quantizer:
    match kind:
        case "rsign":
            return RSign(in_width(layer), channel_axis(layer))
        case "adabin":
            return AdaBinActivation()
        case "fda":
            return FDASign(clip=1.0)  # the sines turn negative from |x| = 1.57 on
    return estimator(kind)


def with_feature_norm(quantizer: Quantizer, kind: FeatureNorm, layer: QuantLayer) -> Quantizer:
    """``quantizer`` behind what ``kind`` puts in front of the sign."""
    if kind in ("none", "after"):
        return quantizer
    if kind == "std":  # features that left a pooling behind a ReLU would all lie outside their sample's window
        return quantizer if isinstance(layer, QuantLinear) else Normalized(quantizer, SampleStd())
    return Normalized(quantizer, MeanShift(in_width(layer)) if kind == "mean" else batch_norm(layer), channel_axis(layer))


def weight_quantizer(kind: str, scale: Scale, norm: WeightNorm, layer: QuantLayer) -> Quantizer:
    normalize = _weight_normalization(norm)
    if kind == "scaled_sign":
        return ScaledSign("swap") if normalize is None else Normalized(ScaledSign("swap"), normalize)
    sign = ClassifierSign(Classifier()) if kind == "classifier" else estimator(kind)
    if scale in ("learned", "gamma"):
        w = layer.weight.detach() if normalize is None else normalize(layer.weight.detach())
        return WeightSign(sign, "learned", normalize, w.abs().mean(per_filter(w), keepdim=True))
    return WeightSign(sign, "none" if scale == "none" else "filter", normalize)


def _weight_normalization(kind: WeightNorm) -> nn.Module | None:
    match kind:
        case "mean":
            return Centre()
        case "standard":
            return StandardWeight()
        case "recu":
            return QuantileClamp(ReCU().tau_min, ReCU().tau_max)
    return None


def replaced_activations(model: nn.Module, kind: Activation) -> None:
    """Puts activations of one kind in place of all plain ones."""
    make = {
        "none": lambda channels, axis: nn.Identity(),
        "hardtanh": lambda channels, axis: nn.Hardtanh(),
        "relu": lambda channels, axis: nn.ReLU(),
        "prelu": lambda channels, axis: nn.PReLU(channels),
        "rprelu": RPReLU,
        "maxout": TwoSlope,
    }
    replace_activations(model, make[kind])


# ---- regularisers (T6)


def magnitude_loss(w: Tensor, anchor: Tensor, power: int) -> Tensor:
    """BNN+: R1 = sum |a - |w|| (power 1) or R2 = sum (a - |w|)^2 (power 2). Darabi et al. 2018, arXiv 1812.11800."""
    distance = anchor - w.abs()
    return distance.abs().sum() if power == 1 else distance.square().sum()


def kurtosis_loss(w: Tensor, target: float) -> Tensor:
    """(kurtosis(w) - target)^2 of a whole tensor; two points of equal weight have kurtosis 1, a uniform distribution 1.8, a normal one 3.

    Rozen et al. 2022 (BD-BNN), arXiv 2204.02004, after KURE, arXiv 2002.07686 (from memory).
    """
    z = (w - w.mean()) / w.std(unbiased=False)
    return (z.pow(4).mean() - target).square()


def regularization(model: nn.Module, kind: Regularizer, strength: float, target: float) -> Tensor | float:
    """Over all layers with binary weights: magnitudes summed, kurtosis averaged."""
    layers = list(binary_layers(model))
    if kind == "none" or not layers:
        return 0.0
    if kind == "kurtosis":
        return strength * torch.stack([kurtosis_loss(layer.weight, target) for layer in layers]).mean()
    power = 1 if kind == "r1" else 2
    return strength * torch.stack([magnitude_loss(m.weight, m.weight_quant.get_parameter(ANCHOR), power) for m in layers]).sum()


def binary_layers(model: nn.Module) -> Iterator[QuantLayer]:
    """The layers of ``model`` whose weights are quantised."""
    return (layer for layer in quant_layers(model) if not isinstance(layer.weight_quant, Identity))


def add_anchor(layer: QuantLayer) -> None:
    """BNN+'s learned magnitude of a layer; starts at mean|w|, which minimises R2."""
    layer.weight_quant.register_parameter(ANCHOR, nn.Parameter(layer.weight.detach().abs().mean()))
