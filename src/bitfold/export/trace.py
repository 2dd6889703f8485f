"""Traces a model with torch.fx and turns every call into a Step.

Why fx and not ``torch.export``: calls keep the module's path (for messages, node names and verify), quantisers stay whole modules
that can be asked for codes, and the fake-quantised arithmetic is never decomposed. The example runs along while the calls are
recorded, three samples at a time: a forward may ask for sizes and branch on them, and an operation that mixes samples, or has a batch
size written into it, shows.
"""

import inspect
import operator
import re
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from bitfold.errors import ExportError
from bitfold.export import rewrites, tables
from bitfold.export.steps import Call, Step
from bitfold.export.tables import BATCH, Handler
from bitfold.export.views import Reader, View, whole

# What a forward may ask of a tensor and compute with: none of it depends on the tensor's elements.
_ASKED = {
    *("size", "dim", "ndimension", "numel", "nelement", "element_size", "stride", "storage_offset", "is_contiguous", "is_same_size"),
    *("type", "is_floating_point", "is_complex", "get_device", "getattr", "getitem", "_assert"),
}
_ELEMENTS = "may depend on elements of the input; allowed: sizes and types of what supported functions give"
_CHANGES = "changes a tensor in place that is read elsewhere as well; write it without changing its operand"


class _Value(fx.Proxy):
    """A tensor, or several, while a forward runs: calls on it are recorded, and ``now`` is what they give for the example.

    Whatever is no tensor (shapes, types, lengths) is answered as it is, so that a forward may compute and branch with it. ``strange``: the
    shape may depend on elements of the input, for a function that no table knows had a part in it.
    """

    def __init__(self, node: fx.Node, tracer: fx.Tracer) -> None:
        super().__init__(node, tracer)
        self.now: Any = None
        self.strange = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.now, name)
        if _is_data(found):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        if self.strange and not callable(found):
            raise ExportError(f"export: {name} of what {_function_name(self.node)} at {_path(self.node)!r} gives {_ELEMENTS}")
        return super().__getattr__(name) if callable(found) else found

    def __len__(self) -> int:
        return int(self.shape[0]) if isinstance(self.now, Tensor) else len(self.now)

    def __float__(self) -> float:
        raise ExportError(f"export: a number made of what {_function_name(self.node)} at {_path(self.node)!r} gives {_ELEMENTS}")

    __int__ = __float__

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
        made.now = self._run(made.node, args, kwargs)
        read = [a for a in pytree.tree_leaves((args, kwargs)) if isinstance(a, _Value)]
        strange = any(a.strange for a in read)
        if kind not in ("call_function", "call_method") or _is_data(made.now):
            known = {"call_function": tables.FUNCTIONS, "call_method": tables.METHODS}.get(kind)
            made.strange = strange or (known is not None and target not in known)
            return made
        if strange or (_function_name(made.node) not in _ASKED and any(_is_data(a.now) for a in read)):
            raise ExportError(f"export: {_function_name(made.node)} at {_path(made.node)!r} gives Python a value that {_ELEMENTS}")
        self.graph.erase_node(made.node)
        return made.now

    def _run(self, n: fx.Node, args: Any, kwargs: Any) -> Any:
        constants = [a for a in pytree.tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        versions = [c._version for c in constants]
        now = self._call(n, *fx.node.map_aggregate((args, kwargs), lambda a: a.now if isinstance(a, _Value) else a))  # type: ignore[misc]
        if [c._version for c in constants] != versions:
            raise ExportError(f"export: {n.name} at {_path(n)!r} writes data into a constant; allowed: torch.cat, or F.pad for zeros")
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
            raise ExportError(f"export: {n.name} at {_path(n)!r} failed on the example: {error}") from error
        finally:
            self._running = False


def trace(model: nn.Module, example: tuple[Tensor, ...]) -> tuple[list[Step], list[Step]]:
    """The steps in execution order (inputs first) and the output steps. ``model`` is in eval mode, on the CPU."""
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
    converter = _Converter(module)
    converter.run(*batch)
    taken = sum(step.op is None for step in converter.steps)
    if taken != len(example):
        raise ExportError(f"export: {len(example)} example inputs, of which the model's forward takes {taken} as tensors")
    return converter.steps, converter.outputs


class _Converter(fx.Interpreter):
    """Runs the traced calls on the example and makes their steps. A node without a step is a constant of the trace."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.steps: list[Step] = []
        self.outputs: list[Step] = []
        self._reader = Reader()
        self._views: dict[fx.Node, View] = {}
        self._parts: dict[fx.Node, tuple[View, ...]] = {}  # of calls that give several tensors
        self._constant: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "output":
            self._finish(n)
            return super().run_node(n)
        path, before = _path(n), self._versions(n)
        result = super().run_node(n)
        changed = [node for node, version in self._versions(n).items() if version != before[node]]
        if n.op == "placeholder" and isinstance(result, Tensor):
            shape = tuple(result.shape[1:])
            self._add(n, whole(Step(None, str(n.target), (), (*shape, 1) if len(shape) == 2 else shape), shape))
        elif n.target is operator.getitem and n.args[0] in self._parts:
            self._add(n, self._parts[n.args[0]][n.args[1]])  # type: ignore[index]
        elif any(a in self._views or a in self._parts for a in n.all_input_nodes) and _is_data(result):
            self._convert(n, path, result, changed)
        elif changed:
            raise ExportError(f"export: {_function_name(n)} at {path!r} {_CHANGES}")
        else:
            self._constant[n] = result
        return result

    def _versions(self, n: fx.Node) -> dict[fx.Node, int]:
        """How often PyTorch has written to each tensor that the call reads."""
        read = {node: self.env.get(node) for node in n.all_input_nodes if node in self._views}
        return {node: tensor._version for node, tensor in read.items() if isinstance(tensor, Tensor)}

    def _convert(self, n: fx.Node, path: str, result: Any, changed: list[fx.Node]) -> None:
        handle, name, module = self._handler(n, path)
        args = fx.node.map_arg(n.args, self._operand)
        kwargs = fx.node.map_arg(n.kwargs, self._operand)
        several = isinstance(result, tuple | list)
        call = Call(path, name, () if several else tuple(result.shape[1:]), self._rerun(n), several)
        read = [view for a in n.all_input_nodes for view in self._parts.get(a, (self._views[a],) if a in self._views else ())]
        folded = handle not in tables.MOVES and any(view.folded for view in read)
        if folded:
            call = self._unfolded(call, handle, read, result)
            args, kwargs = fx.node.map_aggregate((args, kwargs), lambda a: _parted(a, read[0]))  # type: ignore[misc]
        elif handle not in tables.MOVES:
            if not several:
                self._check_batch(call, read, result)
        elif any(item.dtype != torch.float32 for item in (result if several else (result,))):
            raise call.refuse("gives a type other than float32; allowed: float32")
        elif len(read) > 1:
            raise call.refuse("takes more than one tensor computed from the input; allowed: sizes in numbers")
        try:
            inspect.signature(handle).bind(self._reader, call, *module, *args, **kwargs)
        except TypeError as error:
            raise call.refuse(f"these arguments are not supported: {error}") from error
        made = handle(self._reader, call, *module, *args, **kwargs)
        if several:
            if not isinstance(made, tuple):
                raise call.refuse("gives several tensors; allowed: one")
            self._parts[n] = made
            return
        made = replace(made, folded=True) if folded else made
        self._add(n, made)
        for source in changed:
            self._overwrite(source, made, call)

    def _check_batch(self, call: Call, read: list[View], result: Tensor) -> None:
        if any(view.batch for view in read) or result.shape[:1] != (BATCH,) or result.dtype != torch.float32:
            got = f"{result.dtype} {tuple(result.shape)} for {BATCH} samples"
            raise call.refuse(f"gives {got}; allowed: one float32 tensor with the batch in front, there and in what it reads")

    def _unfolded(self, call: Call, handle: Handler, read: list[View], result: Any) -> Call:
        """The same call of samples that are an axis of their own."""
        if handle not in tables.FOLDED or any(view.batch or not view.folded for view in read):
            raise call.refuse(
                f"reads samples folded into an axis of {[v.shape for v in read]}; allowed: layers and functions of the last axis, "
                "elementwise functions, sums, products and means of tensors folded alike, in front (is a batch size written into it?)"
            )
        if not isinstance(result, Tensor) or result.dtype != torch.float32 or result.shape[0] % BATCH:
            raise call.refuse("changes the axis into which samples are folded, or the type; allowed: float32, as many")
        shape, function = (result.shape[0] // BATCH, *result.shape[1:]), call.torch
        return replace(call, shape=shape, torch=lambda x: function(x.flatten(0, 1)).unflatten(0, (len(x), -1)))

    def _overwrite(self, source: fx.Node, made: View, call: Call) -> None:
        """Later readers of a tensor that was changed in place see the result."""
        before, memory = self._views[source], self.env[source].untyped_storage().data_ptr()
        if before.shape != made.shape:
            raise call.refuse(_CHANGES)
        for node, held in self._views.items():
            if isinstance(now := self.env.get(node), Tensor) and now.untyped_storage().data_ptr() == memory:
                if held.step is not before.step or not np.array_equal(held.index, before.index):
                    raise call.refuse(_CHANGES)
                self._views[node] = made
        for node in self._parts:
            for part in self.env.get(node) or ():  # still to be taken apart
                if part.untyped_storage().data_ptr() == memory:
                    raise call.refuse(_CHANGES)

    def _handler(self, n: fx.Node, path: str) -> tuple[Handler, str, tuple[nn.Module, ...]]:
        if n.op == "call_module":
            module = self.fetch_attr(str(n.target))
            found = tables.handler(module)
            if found is None:
                kind = type(module).__name__
                reason = tables.REFUSED.get(kind, f"is not supported; allowed: {', '.join(tables.names())}")
                raise ExportError(f"export: {kind} at {path!r} {reason}")
            return found, type(module).__name__, (module,)
        table = tables.METHODS if n.op == "call_method" else tables.FUNCTIONS
        name = _function_name(n)
        if n.target not in table:
            reason = tables.REFUSED.get(name, f"is not supported; allowed: {', '.join(sorted(tables.METHODS))}")
            raise ExportError(f"export: {name} at {path!r} {reason}")
        return table[n.target], name, ()

    def _operand(self, node: fx.Node) -> Any:
        if node in self._views or node in self._parts:
            return self._views[node] if node in self._views else self._parts[node]
        return self._constant[node]

    def _rerun(self, n: fx.Node) -> Callable[[Tensor], Tensor]:
        """This call as a function of its one data operand."""

        def run(x: Tensor) -> Tensor:
            def fill(a: fx.Node) -> Any:
                return x.clone() if a in self._views else self._constant[a]

            args, kwargs = fx.node.map_arg(n.args, fill), fx.node.map_arg(n.kwargs, fill)
            if n.op == "call_module":
                return self.fetch_attr(str(n.target))(*args, **kwargs)  # type: ignore[no-any-return]
            function = getattr(Tensor, str(n.target)) if n.op == "call_method" else n.target
            return function(*args, **kwargs)  # type: ignore[no-any-return, operator]

        return run

    def _add(self, n: fx.Node, view: View) -> None:
        self._views[n] = view
        self._append(view.step)

    def _append(self, step: Step) -> None:
        """Also the steps that a converter put in front of its own."""
        if step not in self.steps:
            for source in step.inputs:
                self._append(source)
            self.steps.append(step)

    def _finish(self, n: fx.Node) -> None:
        made = n.args[0]
        for item in list(made) if isinstance(made, tuple | list) else [made]:
            if not isinstance(item, fx.Node) or (item not in self._views and item not in self._parts):
                raise ExportError(f"export: the model returns {item!r}; allowed: a tensor computed from its input, or a tuple of those")
            for view in self._parts[item] if item in self._parts else (self._views[item],):
                self.outputs.append(self._output(view))

    def _output(self, view: View) -> Step:
        """Vectors and images as they are, (A, B) as the image (A, B, 1)."""
        if len(view.shape) not in (1, 2, 3):
            raise ExportError(f"export: the model returns {view.shape} per sample; allowed: one to three axes")
        if view.batch or view.folded:
            raise ExportError(
                f"export: the model returns {view.shape} per sample, the samples not in front: {view.path!r} moves them or has a batch "
                "size written into it; allowed: the batch in front"
            )
        step = self._reader.channels(view, 0, (view.shape[1], 1)) if len(view.shape) == 2 else self._reader.value(view)
        self._append(step)
        return step


def _parted(operand: Any, data: View) -> Any:
    """A constant beside folded data, which may be folded itself."""
    if isinstance(operand, Tensor) and operand.ndim == len(data.shape) and operand.shape[0] == BATCH * data.shape[0]:
        return operand.unflatten(0, (BATCH, -1))
    return operand


def _is_data(result: Any) -> bool:
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
    return n.target is operator.setitem or (named and True in (*n.args[1:], n.kwargs.get("inplace")))


def _parameters(function: Any) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # of C functions
        return ()


def _function_name(n: fx.Node) -> str:
    if isinstance(n.target, str):
        return n.target
    if n.target is getattr:
        return str(n.args[1])
    name: str = getattr(n.target, "__name__", str(n.target))
    return name if name != "fn" else re.sub(r"_\d+$", "", n.name)  # torch's pooling functions are all called "fn"


def _path(n: fx.Node) -> str:
    """The module's path, or its owner's path and the function's name."""
    if n.op == "call_module":
        return str(n.target)
    stack = list((n.meta.get("nn_module_stack") or {}).values())
    owner = stack[-1][0] if stack else ""
    name = n.name if n.op == "placeholder" else _function_name(n)
    return f"{owner}.{name}" if owner else name
