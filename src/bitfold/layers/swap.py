"""Swaps conv and linear layers for their Quant twins, which carry a method's quantisers."""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from torch import nn

from bitfold.errors import ConfigError, unknown
from bitfold.layers.parallel import Parallel
from bitfold.layers.quant import QuantConv2d, QuantLayer, QuantLinear, Role, quant_layers
from bitfold.quantizers.base import Quantizer

SHORTCUT_NAMES = frozenset({"shortcut", "downsample", "skip"})


class Slots(Protocol):
    """The part of a method that fills slots (``bitfold.methods.base.Method``)."""

    @property
    def first(self) -> bool: ...
    @property
    def last(self) -> bool: ...
    @property
    def shortcut(self) -> bool: ...
    def weight_quantizer(self, layer: QuantLayer) -> Quantizer | None: ...
    def act_quantizer(self, layer: QuantLayer) -> Quantizer | None: ...
    def grad_quantizer(self, layer: QuantLayer) -> nn.Module | None: ...


def roles(model: nn.Module) -> dict[str, Role]:
    """The role of every conv and linear layer, by module path, in registration order.

    first: the first of all. last: the last ``nn.Linear``; in a network without any, the last conv. shortcut: a conv whose path
    has a component named shortcut, downsample or skip. inner: the rest. The first rule that fits wins.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    names = list(layers)
    linears = [name for name, m in layers.items() if isinstance(m, nn.Linear)]
    last = (linears or names or [""])[-1]

    def role(name: str) -> Role:
        if name == names[0]:
            return "first"
        if name == last:
            return "last"
        if isinstance(layers[name], nn.Conv2d) and SHORTCUT_NAMES & set(name.split(".")):
            return "shortcut"
        return "inner"

    return {name: role(name) for name in names}


def swap(model: nn.Module, method: Slots, keep_float: Collection[str] = ()) -> nn.Module:
    """Replaces every eligible ``nn.Conv2d`` and ``nn.Linear`` by its Quant twin and fills the twin's slots.

    Parameters (the very objects), names, device, dtype and state-dict keys stay; quantisers may add keys below the layer's path.
    Eligible: inner layers, and the first, last and shortcut layers if the method's fields say so; not the paths in ``keep_float``
    nor what lies below them. Raises ConfigError when nothing is eligible, and for an eligible layer that cannot be swapped.
    """
    known = dict(model.named_modules())
    for path in keep_float:
        if path not in known:
            raise unknown("module in keep_float", path, [name for name in known if name])
    wanted = {"first": method.first, "last": method.last, "shortcut": method.shortcut, "inner": True}
    all_roles = roles(model)
    eligible = {n: r for n, r in all_roles.items() if wanted[r] and not any(n == p or n.startswith(p + ".") for p in keep_float)}
    if not eligible:
        found = ", ".join(f"{n or '(the model itself)'}: {r}" for n, r in all_roles.items()) or "no conv or linear layer"
        raise ConfigError(f"{type(method).__name__}: nothing to quantise; found {found}; set first/last/shortcut, or fewer keep_float")
    own = [name for name in eligible if type(known[name]) not in (nn.Conv2d, nn.Linear)]
    if own:
        raise ConfigError(
            f"layer {own[0]!r} is a {type(known[own[0]]).__name__}, a subclass with its own behaviour; allowed: nn.Conv2d and nn.Linear "
            f"themselves; keep_float={own} leaves all such layers in float"
        )
    twins: dict[nn.Module, QuantLayer] = {known[name]: _twin(name, known[name], role, method) for name, role in eligible.items()}
    _share_inputs(model, twins)
    replace_modules(model, twins)
    return twins.get(model, model)


def _share_inputs(model: nn.Module, twins: Mapping[nn.Module, QuantLayer]) -> None:
    """Layers side by side read one tensor: the first one's input quantiser serves all."""
    for parallel in (m for m in model.modules() if isinstance(m, Parallel)):
        first, *others = [next((twins[m] for m in branch.modules() if m in twins), None) for branch in parallel]
        for other in others:
            if first is not None and other is not None:
                other.act_quant = first.act_quant


def replace_modules(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    """Puts ``new[child]`` in every place that holds ``child`` (a shared module has several); not for the model itself."""
    places = [(parent, name, child) for parent in model.modules() for name, child in parent._modules.items()]
    for parent, name, child in places:
        if child is not None and child in new:
            setattr(parent, name, new[child])


def wrap_layers(model: nn.Module, make: Callable[[QuantLayer], nn.Module]) -> nn.Module:
    """Puts ``make(layer)`` around every Quant layer; a layer held in several places gets one. The layer's parameters move to wherever
    ``make``'s module holds it, and their names with them. Returns the model, or the module around it if it is a bare layer."""
    layers = quant_layers(model)
    wrapped: dict[nn.Module, nn.Module] = {layer: make(layer) for layer in layers}
    replace_modules(model, wrapped)
    return wrapped.get(model, model)


def _twin(name: str, layer: nn.Module, role: Role, method: Slots) -> QuantLayer:
    twin: QuantLayer
    if type(layer) is nn.Conv2d:
        if layer.padding_mode != "zeros":
            raise ConfigError(f"conv {name!r} has padding_mode={layer.padding_mode!r}; allowed: 'zeros'; or name it in keep_float")
        size = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
        twin = QuantConv2d(*size, bias=layer.bias is not None, device="meta")  # type: ignore[arg-type]
    else:
        assert isinstance(layer, nn.Linear)
        twin = QuantLinear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        raise ConfigError(f"layer {name!r} has hooks, which a swap would lose; remove them or name the layer in keep_float")
    twin.weight, twin.bias, twin.role = layer.weight, layer.bias, role
    slots = {"act_quant": method.act_quantizer, "weight_quant": method.weight_quantizer, "grad_quant": method.grad_quantizer}
    for slot, make in slots.items():
        try:
            filling = make(twin)
        except ConfigError as error:
            raise ConfigError(f"layer {name!r}: {error}") from None
        if filling is not None:
            setattr(twin, slot, filling.to(device=layer.weight.device, dtype=layer.weight.dtype))
    return twin.train(layer.training)
