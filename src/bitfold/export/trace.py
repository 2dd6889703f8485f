"""Turns every recorded call of a model into a Step."""

import inspect
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from bitfold.errors import ExportError
from bitfold.export import tables
from bitfold.export.record import function_name, is_data, path_of, record
from bitfold.export.steps import Call, Step
from bitfold.export.tables import BATCH, Handler
from bitfold.export.views import Reader, View, whole

_CHANGES = "changes a tensor in place that is read elsewhere as well; write it without changing its operand"


def trace(model: nn.Module, example: tuple[Tensor, ...]) -> tuple[list[Step], list[Step]]:
    """The steps in execution order (inputs first) and the output steps. ``model`` is in eval mode, on the CPU."""
    module, batch = record(model, example)
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
        path, before = path_of(n), self._versions(n)
        result = super().run_node(n)
        changed = [node for node, version in self._versions(n).items() if version != before[node]]
        if n.op == "placeholder" and isinstance(result, Tensor):
            shape = tuple(result.shape[1:])
            self._add(n, whole(Step(None, str(n.target), (), (*shape, 1) if len(shape) == 2 else shape), shape))
        elif n.target is operator.getitem and n.args[0] in self._parts:
            self._add(n, self._parts[n.args[0]][n.args[1]])  # type: ignore[index]
        elif any(a in self._views or a in self._parts for a in n.all_input_nodes) and is_data(result):
            self._convert(n, path, result, changed)
        elif changed:
            raise ExportError(f"export: {function_name(n)} at {path!r} {_CHANGES}")
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
        name = function_name(n)
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
