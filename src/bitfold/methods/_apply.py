"""``bitfold.apply``: a method onto any model."""

from collections.abc import Collection

from torch import nn

from bitfold.errors import ConfigError
from bitfold.layers.attention import split_attention
from bitfold.layers.quant import QuantConv2d, QuantLinear
from bitfold.methods import get
from bitfold.methods.base import Method


def apply(model: nn.Module, method: str | Method, keep_float: Collection[str] = ()) -> nn.Module:
    """Puts a method's quantisers into ``model`` (in place) and returns it; a bare layer is returned replaced.

    Every ``nn.MultiheadAttention`` becomes one of separate linear layers first (``layers.attention``), whatever the method.

    ``method``: a name, which means its defaults, or an object from ``bitfold.methods.get(name, **fields)``. ``keep_float``: paths
    of modules to leave in float, with all below them. Raises ConfigError for an unknown name or path, a model that already
    carries a method, and a model in which nothing can be quantised.
    """
    if isinstance(keep_float, str):
        raise ConfigError(f"apply: keep_float={keep_float!r}; expected a list of module paths")
    done = [name for name, m in model.named_modules() if isinstance(m, QuantConv2d | QuantLinear)]
    if done:
        raise ConfigError(f"apply: the model already has {len(done)} quantised layers, the first {done[0]!r}; build the model anew")
    chosen = get(method) if isinstance(method, str) else method
    return chosen.transform(split_attention(model, keep_float), keep_float)
