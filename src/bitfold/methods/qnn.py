"""QNN and BNN: few-bit weights, activations and gradients."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.layers.output_norm import norm_outputs
from bitfold.layers.quant import QuantLayer, quant_layers
from bitfold.layers.shift_norm import shift_norms
from bitfold.methods.base import Forward, Method
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.gradient import GradientQuant
from bitfold.quantizers.linear import LinearQuant
from bitfold.quantizers.log import LogQuant
from bitfold.quantizers.sign import Sign
from bitfold.quantizers.stochastic_sign import StochasticSign


@dataclass(frozen=True, kw_only=True)
class QNN(Method):
    """QNN: weights and activations of 1 to 8 bits, gradients of few bits; one bit is BNN. Hubara et al. 2016, arXiv 1609.07061, 1602.02830.

    Every layer is quantised, first and last too; the first layer's input stays as it comes. One bit: the sign without scale,
    weights with the identity gradient, activations with 1{|x| <= 1}, random while training if ``act_rounding="stochastic"``.
    k bits: LinearQuant or LogQuant (2 to 5 bits), weights scaled by max|W| of the layer, activations unsigned on [0, 1] or, with
    ``act_signed``, on [-1, 1). Weights are clipped to [-1, 1] after each step. ``lr_scale``: Glorot's factor
    sqrt((fan_in + fan_out) / 1.5) on the step of each weight (Theano code), rounded to a power of two and on biases too ("pow2",
    Torch code), or none. ``norm="shift"``: shift-based BatchNorm (its AdaMax: ``optimizer = "s_adamax"`` in a recipe);
    ``output_norm``: a plain one behind the classifier, as released. ``grad_bits``: gradients of pre-activations, 0 for float; the paper
    has 6. Loss: squared hinge, one against the rest.
    Deviations: the k-bit ranges, max|W| and the gradient's scale are decisions of this project (the paper's formulas: (memory)); the
    model's own initialisation stays unless ``init="uniform"``, the released uniform(-1, 1), because a network may come trained.
    """

    first: bool = True
    last: bool = True
    shortcut: bool = True
    weight_bits: int = 1
    act_bits: int = 1
    kind: Literal["linear", "log"] = "linear"
    act_signed: bool = False  # linear, 2 bits or more
    act_rounding: Literal["deterministic", "stochastic"] = "deterministic"  # one bit
    lr_scale: Literal["glorot", "pow2", "none"] = "glorot"
    grad_bits: int = 0
    grad_kind: Literal["linear", "log"] = "log"
    loss_kind: Literal["squared_hinge", "task"] = "squared_hinge"
    norm: Literal["batch", "shift"] = "batch"
    output_norm: bool = True
    init: Literal["model", "uniform"] = "model"

    def __post_init__(self) -> None:
        super().__post_init__()
        most = 8 if self.kind == "linear" else 5
        for field in ("weight_bits", "act_bits"):
            if not 1 <= getattr(self, field) <= most:
                raise ConfigError(f"qnn: {field}={getattr(self, field)} with kind={self.kind!r}; allowed: 1 to {most}")
        if not 0 <= self.grad_bits <= 16:
            raise ConfigError(f"qnn: grad_bits={self.grad_bits}; allowed: 0 (float) to 16")
        if self.act_rounding == "stochastic" and self.act_bits > 1:
            raise ConfigError(f"qnn: act_rounding='stochastic' is defined for act_bits=1, got {self.act_bits}")
        if self.act_signed and (self.kind == "log" or self.act_bits == 1):
            raise ConfigError("qnn: act_signed=True is a choice of kind='linear' with act_bits >= 2; the other quantisers are signed")

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer:
        if self.weight_bits == 1:
            return Sign(clip=math.inf)
        if self.kind == "log":
            return LogQuant(self.weight_bits, normalise=True)
        return LinearQuant(self.weight_bits, signed=True, normalise=True)

    def act_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        if layer.role == "first":
            return None
        if self.act_bits == 1:
            return StochasticSign() if self.act_rounding == "stochastic" else Sign()
        return LogQuant(self.act_bits) if self.kind == "log" else LinearQuant(self.act_bits, signed=self.act_signed)

    def grad_quantizer(self, layer: QuantLayer) -> nn.Module | None:
        return GradientQuant(self.grad_bits, self.grad_kind) if self.grad_bits else None

    @torch.no_grad()
    def finish(self, model: nn.Module) -> nn.Module:
        if self.init == "uniform":
            for layer in _own(model):
                layer.weight.uniform_(-1, 1)
        if self.norm == "shift":
            model = shift_norms(model)
        return norm_outputs(model) if self.output_norm else model

    def param_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """A group for each learning-rate factor. A factor on the learning rate is the factor on the proposed step of the released code."""
        factor: dict[Tensor, float] = {}
        for layer in _own(model):
            scale = self._lr_scale(layer)
            factor[layer.weight] = scale
            if layer.bias is not None and self.lr_scale == "pow2":
                factor[layer.bias] = scale
        groups: dict[float, list[nn.Parameter]] = {}
        for p in model.parameters():
            if p.requires_grad:
                groups.setdefault(factor.get(p, 1.0), []).append(p)
        return [{"params": params, "weight_decay": weight_decay, "lr_scale": scale} for scale, params in groups.items()]

    def _lr_scale(self, layer: QuantLayer) -> float:
        if self.lr_scale == "none":
            return 1.0
        taps = math.prod(layer.weight.shape[2:])
        scale = math.sqrt((layer.weight.shape[0] + layer.weight.shape[1]) * taps / 1.5)
        return scale if self.lr_scale == "glorot" else 2.0 ** round(math.log2(scale))

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        for layer in _own(model):
            layer.weight.clamp_(-1, 1)

    def loss(self, model: nn.Module, forward: Forward) -> Tensor:
        return forward.task_loss if self.loss_kind == "task" else squared_hinge(forward.outputs, forward.batch[1])


def squared_hinge(outputs: Tensor, labels: Tensor) -> Tensor:
    """mean(max(0, 1 - t y)^2) over samples and outputs; t = +1 for the label's output, -1 for the rest. outputs (N, K), labels (N,)."""
    if outputs.ndim != 2 or labels.shape != outputs.shape[:1]:
        raise ConfigError(
            f"qnn: the squared hinge loss wants outputs (N, K) and labels (N,), got {tuple(outputs.shape)} and {tuple(labels.shape)}; "
            "allowed instead: loss_kind='task'"
        )
    target = torch.full_like(outputs, -1.0).scatter(1, labels[:, None], 1.0)
    return (1 - target * outputs).clamp(min=0).square().mean()


def _own(model: nn.Module) -> list[QuantLayer]:
    return [layer for layer in quant_layers(model) if isinstance(layer.weight_quant, Sign | LinearQuant | LogQuant)]


METHOD = QNN
