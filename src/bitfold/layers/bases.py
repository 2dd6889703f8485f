"""Several binary bases in place of one layer."""

import copy

import torch
from torch import Tensor, nn

from bitfold.errors import ConfigError
from bitfold.layers.quant import QuantLayer, channel_axis
from bitfold.quantizers.normalized import Normalized


class Bases(nn.Module):
    """sum over m, n of mix[m, n] layer(x; A_n, B_m): ``weights`` bases of one real weight, ``acts`` bases of one real input.

    B_m quantises w - mean(w) + u_m std(w) of the whole tensor, u_m evenly from -1 to 1 (0 if there is one), the deviation without
    gradient; A_n quantises x + v_n, v_n learned, at first evenly from -1/2 to 1/2. ``mix`` is learned and starts at 1 / (M N). Each
    pair is a layer of its own at inference: M N times the binary operations, M times the weights.

    ABC-Net's form, arXiv 1711.11294 (Lin et al. 2017), but that its least-squares weights are the quantiser's scale and ``mix``, and its
    start of v is not known to us. The layer's parameters move to ``<path>.pairs.<i>``, which share the real weight.
    """

    def __init__(self, layer: QuantLayer, weights: int, acts: int) -> None:
        super().__init__()
        if layer.bias is not None:
            raise ConfigError(f"Bases: {layer} has a bias, which every pair would add; allowed: layers without bias")
        like = layer.weight
        signs = [_moved(layer.act_quant, Shift(v).to(like), channel_axis(layer)) for v in _even(acts, 0.5)]
        bases = [_moved(layer.weight_quant, Spread(u)) for u in _even(weights, 1.0)]
        self.acts = acts
        self.pairs = nn.ModuleList(_copy(layer, b, s) for b in bases for s in signs)
        self.mix = nn.Parameter(torch.full((weights * acts,), 1 / (weights * acts)).to(like))

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix[0] * self.pairs[0](x)
        for i, pair in enumerate(list(self.pairs)[1:], 1):
            y = y + self.mix[i] * pair(x)
        return y  # type: ignore[no-any-return]


class Shift(nn.Module):
    """x + v, one learned number."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.tensor(float(start)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.v


class Spread(nn.Module):
    """w - mean(w) + u std(w) over the whole tensor; the deviation is a constant."""

    def __init__(self, u: float) -> None:
        super().__init__()
        self.u = u

    def forward(self, w: Tensor) -> Tensor:
        return w - w.mean() + self.u * w.detach().std()


def _even(count: int, end: float) -> list[float]:
    return [0.0] if count == 1 else [end * (2 * i / (count - 1) - 1) for i in range(count)]


def _moved(quantizer: nn.Module, move: nn.Module, axis: int = 1) -> Normalized:
    return Normalized(copy.deepcopy(quantizer), move, axis)  # type: ignore[arg-type]


def _copy(layer: QuantLayer, weight_quant: Normalized, act_quant: Normalized) -> QuantLayer:
    """The layer with other quantisers and the very same weight."""
    twin = copy.deepcopy(layer, {id(layer.weight): layer.weight})
    twin.weight_quant, twin.act_quant = weight_quant, act_quant
    return twin
