"""Methods put together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from bitfold.layers.quant import QuantLayer
from bitfold.methods.base import Joint, Method, MethodLike, Wrapper
from bitfold.quantizers.base import Quantizer


@dataclass(frozen=True, kw_only=True)
class Compose(Joint):
    """Parts of several methods: weight slots from one, input slots from another, all other hooks of all of them. No paper: ours.

    ``weight`` and ``act`` fill the slots; both also bring their structure, schedules, parameter groups and losses, and so do the methods
    in ``also``, whose slots stay unused. A method in ``also`` that is made to go on top of another brings its own part only. Losses are
    chained in the order weight, act, also. In a recipe: ``options = {weight = "recu", act = {method = "adabin", maxout = false}}``.
    """

    weight: MethodLike = "adabin"
    act: MethodLike = "adabin"
    also: tuple[MethodLike, ...] = ()

    @property
    def parts(self) -> Sequence[Method]:
        found: list[Method] = []
        for part in (self.weight, self.act, *(_alone(m) for m in self.also)):
            assert isinstance(part, Method)
            if part not in found:
                found.append(part)
        return found

    def weight_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        assert isinstance(self.weight, Method)
        return self.weight.weight_quantizer(layer)

    def act_quantizer(self, layer: QuantLayer) -> Quantizer | None:
        assert isinstance(self.act, Method)
        return self.act.act_quantizer(layer)

    def grad_quantizer(self, layer: QuantLayer) -> nn.Module | None:
        assert isinstance(self.act, Method)
        return self.act.grad_quantizer(layer)


def _alone(method: MethodLike) -> MethodLike:
    return replace(method, base=Method()) if isinstance(method, Wrapper) else method


METHOD = Compose
