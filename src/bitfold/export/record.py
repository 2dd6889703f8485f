"""Records the calls of a model's forward with torch.fx, while an example runs along.

Why fx and not ``torch.export``: calls keep the module's path (for messages, node names and verify), quantisers stay whole modules
that can be asked for codes, and the fake-quantised arithmetic is never decomposed. Three samples at a time: a forward may ask for sizes
and branch on them, and an operation that mixes samples, or has a batch size written into it, shows.
"""

import inspect
import operator
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from bitfold.errors import ExportError
from bitfold.export import rewrites, tables
from bitfold.export.tables import BATCH

# What a forward may ask of a tensor and compute with: none of it depends on the tensor's elements.
_ASKED = {
    *("size", "dim", "ndimension", "numel", "nelement", "element_size", "stride", "storage_offset", "is_contiguous", "is_same_size"),
    *("type", "is_floating_point", "is_complex", "get_device", "getattr", "getitem", "_assert"),
}


class _Value(fx.Proxy):
    """A tensor, or several, while a forward runs: calls on it are recorded, and ``now`` is what they give for the example.

    Whatever is no tensor (shapes, types, lengths) is answered as it is, so that a forward may compute and branch with it. ``strange``: the
    call of a function that no table knows, which had a part in it, so that its shape may depend on elements of the input. ``fixed``: the
    input had no part in it.
    """

    def __init__(self, node: fx.Node, tracer: fx.Tracer) -> None:
        super().__init__(node, tracer)
        self.now: Any = None
        self.strange: fx.Node | None = None
        self.fixed = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.now, name)
        if is_data(found):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        if self.strange and not callable(found):
            raise ExportError(f"export: {name} of what {_named(self.node)} gives {_elements(self.strange)}")
        return super().__getattr__(name) if callable(found) else found

    def __len__(self) -> int:
        return int(self.shape[0]) if isinstance(self.now, Tensor) else len(self.now)

    def __float__(self) -> float:
        if not self.fixed:
            raise ExportError(f"export: a number made of what {_named(self.node)} gives {_elements(self.strange)}")
        return float(self.now.item())

    def __int__(self) -> int:
        return int(float(self))

    def __setitem__(self, key: Any, value: Any) -> None:
        made, before = rewrites.assigned(self, key, value), self.now.clone()
        self.now[key] = value.now if isinstance(value, _Value) else value
        if not torch.equal(self.now, made.now):
            raise ExportError(f"export: the items {key} of a tensor are assigned from items that they overlap; clone those first")
        self.now.copy_(before)
        self.copy_(made)

    def __iter__(self) -> Iterator[Any]:
        return (operator.getitem(self, i) for i in range(len(self)))


class _Tracer(fx.Tracer):
    """Runs each call as it is recorded. Functions of the user's, also those marked with ``torch.fx.wrap``, are followed inside."""

    def __init__(self, example: list[Tensor]) -> None:
        super().__init__()
        self._example = iter(example)
        self._running = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = tables.handler(m) is not None or super().is_leaf_module(m, module_qualified_name)
        return known and not isinstance(m, tables.FOLLOWED)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self._running else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self._running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **named: Any) -> Any:
        if kind == "call_function" and _is_users(target):
            return target(*args, **kwargs)
        table: dict[Any, Any] = {"call_function": rewrites.FUNCTIONS, "call_method": rewrites.METHODS}.get(kind, {})
        if target in table and (written := table[target](*args, **kwargs)) is not None:
            return written
        made = super().create_proxy(kind, target, args, kwargs, *more, **named)
        assert isinstance(made, _Value)
        read = [a for a in pytree.tree_leaves((args, kwargs)) if isinstance(a, _Value)]
        made.fixed = kind != "placeholder" and all(a.fixed for a in read)
        made.now = self._run(made, args, kwargs)
        strange = next((a.strange for a in read if a.strange), None)
        if kind not in ("call_function", "call_method") or is_data(made.now):
            known = {"call_function": tables.FUNCTIONS, "call_method": tables.METHODS}.get(kind)
            made.strange = strange or (None if made.fixed or known is None or target in known else made.node)
            return made
        if strange or not (made.fixed or function_name(made.node) in _ASKED or not any(is_data(a.now) for a in read)):
            raise ExportError(f"export: {_named(made.node)} gives Python a value that {_elements(strange)}")
        self.graph.erase_node(made.node)
        return made.now

    def _run(self, made: _Value, args: Any, kwargs: Any) -> Any:
        n, leaves = made.node, pytree.tree_leaves((args, kwargs))
        constants = [a for a in leaves if isinstance(a, Tensor)]
        if not made.fixed:
            constants += [a.now for a in leaves if isinstance(a, _Value) and a.fixed and isinstance(a.now, Tensor)]
        versions = [c._version for c in constants]
        now = self._call(n, *fx.node.map_aggregate((args, kwargs), lambda a: a.now if isinstance(a, _Value) else a))  # type: ignore[misc]
        if [c._version for c in constants] != versions:
            raise ExportError(f"export: {n.name} at {path_of(n)!r} writes data into a constant; allowed: torch.cat, or F.pad for zeros")
        return now

    def _call(self, n: fx.Node, args: Any, kwargs: Any) -> Any:
        self._running = True
        try:
            match n.op:
                case "placeholder":  # options, whose values are known, come after the example
                    return next(self._example, args[0] if args else None)
                case "get_attr":
                    return operator.attrgetter(str(n.target))(self.root)
                case "call_module":
                    return self.root.get_submodule(str(n.target))(*args, **kwargs)
                case "call_method":
                    return getattr(args[0], str(n.target))(*args[1:], **kwargs)
                case "call_function":
                    return n.target(*args, **kwargs)  # type: ignore[operator]
        except Exception as error:  # whatever the user's own code raises on the example
            raise ExportError(f"export: {n.name} at {path_of(n)!r} failed on the example: {error}") from error
        finally:
            self._running = False


def record(model: nn.Module, example: tuple[Tensor, ...]) -> tuple[fx.GraphModule, list[Tensor]]:
    """The calls, without those that nothing reads, and the samples that ran along. ``model`` is in eval mode, on the CPU."""
    inputs = list(inspect.signature(model.forward).parameters.values())
    options = inputs[len(example) :]
    if any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in options):
        wanted = ", ".join(p.name for p in inputs if p.default is p.empty)
        raise ExportError(f"export: {len(example)} example inputs; the model's forward takes {wanted}")
    plain = (bool, int, float, str, type(None))  # as values, so that forward may branch on them; torch.fx takes no others
    defaults = {p.name: p.default for p in options if isinstance(p.default, plain)}
    batch = [torch.cat([x[:1]] * BATCH) for x in example]
    try:
        with torch.no_grad():
            graph = _Tracer([x.clone() for x in batch]).trace(model, defaults)
    except ExportError:
        raise
    except Exception as error:  # torch.fx raises its own and Python's errors: all of them mean "cannot be traced"
        raise ExportError(
            f"export: {type(model).__name__} cannot be traced: {error}; allowed: a forward without branches on tensor values"
        ) from error
    module = fx.GraphModule(model, graph)
    module.graph.eliminate_dead_code(lambda n: n.is_impure() or _in_place(n, module))
    return module, batch


def is_data(result: Any) -> bool:
    """Sizes and numbers read off a tensor are constants of the trace; tensors are data."""
    return isinstance(result, Tensor) or (isinstance(result, tuple | list) and any(isinstance(r, Tensor) for r in result))


def _is_users(function: Any) -> bool:
    """A Python function that is not PyTorch's and that no table knows."""
    if not isinstance(function, types.FunctionType) or function in tables.FUNCTIONS or function.__name__ in tables.REFUSED:
        return False
    return not function.__module__.startswith(("torch.", "_operator"))


def _in_place(n: fx.Node, module: fx.GraphModule) -> bool:
    """Whether the call writes to what it reads, so that it matters even if nothing reads its result."""
    if n.op == "call_module":
        return bool(getattr(module.get_submodule(str(n.target)), "inplace", False))
    if n.op == "call_method":
        return str(n.target).endswith("_") and not str(n.target).endswith("__")
    named = n.op == "call_function" and "inplace" in _parameters(n.target)
    return named and True in (*n.args[1:], n.kwargs.get("inplace"))


def _parameters(function: Any) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # of C functions
        return ()


def _elements(strange: fx.Node | None) -> str:
    unknown = f"; {_named(strange)} is not supported" if strange else ""
    return f"may depend on elements of the input; allowed: sizes and types of what supported functions give{unknown}"


def _named(n: fx.Node) -> str:
    return f"{function_name(n)} at {path_of(n)!r}"


def function_name(n: fx.Node) -> str:
    if isinstance(n.target, str):
        return n.target
    if n.target is getattr:
        return str(n.args[1])
    name: str = getattr(n.target, "__name__", str(n.target))
    return name if name != "fn" else re.sub(r"_\d+$", "", n.name)  # torch's pooling functions are all called "fn"


def path_of(n: fx.Node) -> str:
    """The module's path, or its owner's path and the function's name."""
    if n.op == "call_module":
        return str(n.target)
    stack = list((n.meta.get("nn_module_stack") or {}).values())
    owner = stack[-1][0] if stack else ""
    name = n.name if n.op == "placeholder" else function_name(n)
    return f"{owner}.{name}" if owner else name
