"""Traces a model with torch.fx and turns every call into a Step.

Why fx and not ``torch.export``: calls keep the module's path (for messages, node names and verify), quantisers stay whole modules
that can be asked for codes, and the fake-quantised arithmetic is never decomposed. The example runs through the traced calls, three
samples at a time, so that an operation that mixes samples, or has a batch size written into it, shows.
"""

import inspect
import operator
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitfold.errors import ExportError
from bitfold.export import calls, cells, modules, resize
from bitfold.export.steps import Call, Step

PARTED = (calls.chunk, calls.split, cells.lstm)  # converters that give several steps
BATCH = 3  # samples that run while tracing: a number that no model has written into it


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return modules.handler(m) is not None or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module, example: tuple[Tensor, ...]) -> tuple[list[Step], list[Step]]:
    """The steps in execution order (inputs first) and the output steps. ``model`` is in eval mode, on the CPU."""
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # torch.fx raises its own and Python's errors: all of them mean "cannot be traced"
        raise ExportError(
            f"export: {type(model).__name__} cannot be traced: {error}; allowed: a forward without branches on tensor values"
        ) from error
    module = fx.GraphModule(model, graph)
    module.graph.eliminate_dead_code()
    converter = _Converter(module)
    wanted = [str(n.target) for n in module.graph.nodes if n.op == "placeholder" and not n.args]  # those with a default may be left out
    if len(example) < len(wanted):
        raise ExportError(f"export: {len(example)} example inputs; the model's forward takes {', '.join(wanted)}")
    batch = [torch.cat([x[:1]] * BATCH) for x in example]
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
        self._step_of: dict[fx.Node, Step] = {}
        self._parts: dict[fx.Node, tuple[Step, ...]] = {}  # of calls that give several tensors
        self._constant: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "output":
            self._finish(n)
            return super().run_node(n)
        path = _path(n)
        try:
            result = super().run_node(n)
        except Exception as error:  # whatever the user's own code raises on the example
            raise ExportError(f"export: {n.name} at {path!r} failed on the example: {error}") from error
        if n.op == "placeholder" and isinstance(result, Tensor):
            self._add(n, Step(None, str(n.target), (), tuple(result.shape[1:])))
        elif n.target is operator.getitem and n.args[0] in self._parts:
            self._add(n, self._parts[n.args[0]][n.args[1]])  # type: ignore[index]
        elif any(a in self._step_of for a in n.all_input_nodes) and _is_data(result):
            self._convert(n, path, result)
        else:
            self._constant[n] = result
        return result

    def _convert(self, n: fx.Node, path: str, result: Any) -> None:
        convert, name, arguments = self._handler(n, path)
        args = fx.node.map_arg(n.args, self._operand)
        kwargs = fx.node.map_arg(n.kwargs, self._operand)
        call = Call(path, name, tuple(result.shape[1:]) if isinstance(result, Tensor) else (), self._rerun(n))
        several = convert in PARTED
        tensors = result if several else [result]
        if not all(isinstance(t, Tensor) and t.shape[:1] == (BATCH,) and t.dtype == torch.float32 for t in tensors):
            got = f"{result.dtype} {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise call.refuse(f"gives {got} for {BATCH} samples; allowed: one float32 tensor with the batch in front")
        try:
            inspect.signature(convert).bind(call, *arguments, *args, **kwargs)
        except TypeError as error:
            raise call.refuse(f"these arguments are not supported: {error}") from error
        before = list(self._step_of.values())
        step = convert(call, *arguments, *args, **kwargs)
        if several:
            self._parts[n] = step
            return
        source = args[0] if args and isinstance(args[0], Step) else None
        self._add(n, step)
        if source is not None and step not in before and _in_place(n, arguments):
            for node, held in self._step_of.items():  # later readers of the overwritten tensor see the result
                if held is source:
                    self._step_of[node] = step

    def _handler(self, n: fx.Node, path: str) -> tuple[Callable[..., Any], str, tuple[nn.Module, ...]]:
        if n.op == "call_module":
            module = self.fetch_attr(str(n.target))
            found = modules.handler(module)
            if found is None:
                kind = type(module).__name__
                reason = calls.REFUSED.get(kind, f"is not supported; allowed: {', '.join(modules.names())}")
                raise ExportError(f"export: {kind} at {path!r} {reason}")
            return found, type(module).__name__, (module,)
        table: dict[Any, Callable[..., Any]] = calls.METHODS if n.op == "call_method" else {**calls.FUNCTIONS, **resize.FUNCTIONS}
        name = _function_name(n)
        if n.target not in table:
            reason = calls.REFUSED.get(name, f"is not supported; allowed: {', '.join(sorted(calls.METHODS))}")
            raise ExportError(f"export: {name} at {path!r} {reason}")
        return table[n.target], name, ()

    def _operand(self, node: fx.Node) -> Any:
        return self._step_of[node] if node in self._step_of else self._constant[node]

    def _rerun(self, n: fx.Node) -> Callable[[Tensor], Tensor]:
        """This call as a function of its one data operand."""

        def run(x: Tensor) -> Tensor:
            def fill(a: fx.Node) -> Any:
                return x.clone() if a in self._step_of else self._constant[a]

            args, kwargs = fx.node.map_arg(n.args, fill), fx.node.map_arg(n.kwargs, fill)
            if n.op == "call_module":
                return self.fetch_attr(str(n.target))(*args, **kwargs)  # type: ignore[no-any-return]
            function = getattr(Tensor, str(n.target)) if n.op == "call_method" else n.target
            return function(*args, **kwargs)  # type: ignore[no-any-return, operator]

        return run

    def _add(self, n: fx.Node, step: Step) -> None:
        self._step_of[n] = step
        self._append(step)

    def _append(self, step: Step) -> None:
        """Also the steps that a converter put in front of its own."""
        if step not in self.steps:
            for source in step.inputs:
                self._append(source)
            self.steps.append(step)

    def _finish(self, n: fx.Node) -> None:
        made = n.args[0]
        items = list(made) if isinstance(made, tuple | list) else [made]
        for item in items:
            if isinstance(item, fx.Node) and item in self._parts:
                for part in self._parts[item]:
                    self._append(part)
                    self.outputs.append(part)
            elif isinstance(item, fx.Node) and item in self._step_of:
                self.outputs.append(self._step_of[item])
            else:
                raise ExportError(f"export: the model returns {item!r}; allowed: a tensor computed from its input, or a tuple of those")


def _is_data(result: Any) -> bool:
    """Sizes and numbers read off a tensor are constants of the trace; tensors are data."""
    return isinstance(result, Tensor) or (isinstance(result, tuple | list) and any(isinstance(r, Tensor) for r in result))


def _in_place(n: fx.Node, module: tuple[nn.Module, ...]) -> bool:
    if module:
        return bool(getattr(module[0], "inplace", False))
    return bool(n.kwargs.get("inplace", False)) or (isinstance(n.target, str) and n.target.endswith("_"))


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
