"""Makes the feature maps of a network wider behind its stem, by following its tensors.

torch.fx only looks at the network here; its modules are then replaced in place, and its own forward stays.
"""

import copy
import operator
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import fx, nn

from bitfold.errors import ConfigError
from bitfold.layers.swap import replace_modules, roles
from bitfold.layers.tile import Tile, channels, resized

Make = Callable[[str, nn.Conv2d | nn.Linear], nn.Module]  # path and layer -> what takes its place

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)
# Functions that treat channels alike, whatever their number. torch functions and tensor methods have the same names.
_SAME = {
    *("relu", "relu_", "relu6", "hardtanh", "leaky_relu", "gelu", "silu", "sigmoid", "tanh", "softplus", "clamp", "abs", "neg", "dropout"),
    *("add", "add_", "sub", "mul", "mul_", "div", "mean", "flatten", "squeeze", "contiguous", "clone", "detach", "size", "dim", "cat"),
    *("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "concat"),
}
_SAME_FUNCTIONS = {
    *(getattr(place, name) for name in _SAME for place in (torch, F) if hasattr(place, name)),
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.neg, operator.abs, getattr),
}


@runtime_checkable
class Widening(Protocol):
    """A module that knows how to serve a tensor ``times`` as wide; it is taken as a whole, not looked into."""

    def widened(self, times: int) -> nn.Module: ...


def widen(model: nn.Module, times: int, inner: Make, shortcut: Make) -> nn.Module:
    """Tiles the output of the first layer and its BatchNorm ``times``, and fits everything behind it to tensors as wide.

    ``inner`` and ``shortcut`` make the module in place of a layer of that role (``layers.swap.roles``): its input is wide, its output
    must be. BatchNorms, and PReLUs of a slope per channel, get a parameter per wide channel, starting from copies; a ``Widening``
    module says itself what it becomes. The last layer reads the wide tensor and keeps its outputs. In place. ConfigError, with the
    module's path and before anything is changed, where a width cannot be told.
    """
    follower = _Follower(model, times, inner, shortcut)
    follower.run()
    replace_modules(model, follower.new)
    return model


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Widening) or super().is_leaf_module(m, module_qualified_name)


class _Follower:
    """How many times wider each tensor is than in the plain network: 1 up to the stem's end, ``times`` behind it."""

    def __init__(self, model: nn.Module, times: int, inner: Make, shortcut: Make) -> None:
        self.modules, self.roles = dict(model.named_modules()), roles(model)
        self.times, self.make = times, {"inner": inner, "shortcut": shortcut}
        self.new: dict[nn.Module, nn.Module] = {}
        self.wide: dict[fx.Node, bool | None] = {}
        try:
            self.graph = _Tracer().trace(model)
        except Exception as error:  # torch.fx raises its own and Python's errors: all of them mean "cannot be traced"
            raise ConfigError(
                f"{type(model).__name__} cannot be followed: {error}; allowed: a forward without branches on tensor values"
            ) from error
        self.stem_end = self._stem_end()

    def run(self) -> None:
        for node in self.graph.nodes:
            self.wide[node] = self._wide(node)

    def _wide(self, node: fx.Node) -> bool | None:
        """Whether the node's tensor becomes wider; None for sizes and single numbers, which fit both."""
        if node.op == "placeholder":
            return False
        if node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            return None if getattr(self.modules[owner], name).numel() == 1 else False
        inputs = {self.wide[n] for n in node.all_input_nodes} - {None}
        if len(inputs) > 1:
            fixed = [str(n.target) for n in node.all_input_nodes if n.op == "get_attr"]
            what = f"parameter {fixed[0]!r}" if fixed else "tensor from before the stem's end"
            raise _refusal(node, f"joins a tensor that becomes wider and a {what}, which does not")
        if node.op == "call_module":
            return self._module(node, self.modules[str(node.target)], inputs == {True})
        if inputs == {True}:
            _check(node)
        sizes = node.target in ("size", "dim") or (node.target is getattr and node.args[1] in ("shape", "ndim", "device", "dtype"))
        return None if sizes or not inputs else inputs == {True}

    def _stem_end(self) -> fx.Node:
        """The first layer, or the BatchNorm that alone reads it."""
        first = next((n for n in self.graph.nodes if n.op == "call_module" and self.roles.get(str(n.target)) == "first"), None)
        if first is None:
            raise ConfigError(f"the first layer of {list(self.roles)} is not called as a module; allowed: a stem of nn.Conv2d or nn.Linear")
        reader = next(iter(first.users))
        alone = len(first.users) == 1 and reader.op == "call_module" and isinstance(self.modules[str(reader.target)], BATCH_NORM)
        return reader if alone else first

    def _module(self, node: fx.Node, module: nn.Module, wide: bool) -> bool:
        path = str(node.target)
        if node is self.stem_end:
            axis = -1 if isinstance(module, nn.Linear) else 1
            self._put(node, module, nn.Sequential(module, Tile(self.times, axis)))
            return True
        if not wide:
            if self.roles.get(path, "first") != "first":
                raise _refusal(node, "reads a tensor that is not made wider: one from before the stem's end or behind the last layer")
            return False
        if isinstance(module, nn.Conv2d | nn.Linear):
            return self._layer(node, module)
        if isinstance(module, Widening):
            self._put(node, module, module.widened(self.times))
        elif isinstance(module, BATCH_NORM) or (isinstance(module, nn.PReLU) and module.num_parameters > 1):
            self._put(node, module, _repeated(module, self.times))
        elif next(module.parameters(), None) is not None and not isinstance(module, nn.PReLU):
            raise _refusal(
                node,
                f"is a {type(module).__name__}, whose width is not known; allowed: nn.Conv2d, nn.Linear, BatchNorm, PReLU, "
                "modules without parameters, or with a method widened(times)",
            )
        return True

    def _layer(self, node: fx.Node, layer: nn.Conv2d | nn.Linear) -> bool:
        path = str(node.target)
        role = self.roles[path]
        if role == "last":
            inputs, outputs, _ = channels(path, layer)
            self._put(node, layer, resized(path, layer, self.times * inputs, outputs))
            return False
        self._put(node, layer, self.make[role](path, layer))
        return True

    def _put(self, node: fx.Node, module: nn.Module, new: nn.Module) -> None:
        if len([n for n in self.graph.nodes if n.op == "call_module" and self.modules[str(n.target)] is module]) > 1:
            raise _refusal(node, "is called more than once; allowed: a module of its own for each call")
        self.new[module] = new


def _repeated(module: nn.Module, times: int) -> nn.Module:
    """A module of parameters and statistics per channel, each repeated."""
    new = copy.deepcopy(module)
    for name, p in module.named_parameters(recurse=False):
        setattr(new, name, nn.Parameter(p.detach().repeat(times), p.requires_grad))
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.ndim == 1:
            setattr(new, name, buffer.repeat(times))
    count = "num_parameters" if isinstance(module, nn.PReLU) else "num_features"
    setattr(new, count, times * getattr(module, count))
    return new


def _check(node: fx.Node) -> None:
    """Refuses what may have a number of channels written into it."""
    if node.op == "output":
        raise ConfigError("the output would be as wide as the feature maps; allowed: a network that ends behind its last layer")
    if node.target in _SAME_FUNCTIONS or (node.op == "call_method" and node.target in _SAME):
        return
    rest = node.args[1:]
    if node.target in ("view", "reshape", torch.reshape):
        sizes = rest[0] if rest and isinstance(rest[0], tuple | list) else rest
        if not any(isinstance(n, int) and n > 1 for n in sizes):
            return
    if node.target is operator.getitem:
        index = rest[0] if isinstance(rest[0], tuple) else (rest[0],)
        if Ellipsis not in index and (len(index) < 2 or index[1] == slice(None)):
            return
    raise _refusal(node, "may have the number of channels written into it; allowed: functions that treat all channels alike")


def _refusal(node: fx.Node, reason: str) -> ConfigError:
    owner = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(node.target) if node.op == "call_module" else f"{owner[-1][0] if owner else ''}.{node.name}".lstrip(".")
    return ConfigError(f"{path!r} {reason}")
