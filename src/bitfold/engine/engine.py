"""Runs a graph on this machine's CPU: ``net = bitfold.load("m.bitfold"); y = net(x)``. NumPy in, NumPy out; no PyTorch."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bitfold import _core
from bitfold.engine.forced import forced
from bitfold.engine.plan import make_plan, outside
from bitfold.errors import EngineError
from bitfold.ir.encoding import Coded, Float, Uniform
from bitfold.ir.graph import Graph, TensorType

DTYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype(np.float32),
    "i32": np.dtype(np.int32),
    "i16": np.dtype(np.int16),
    "u8": np.dtype(np.uint8),
}


@dataclass(frozen=True)
class Kernel:
    """What serves a layer. ``op`` lists the fused operations; ``reason``: why this kernel and no faster one, where there was a choice."""

    layer: str
    op: str
    kernel: str
    isa: str
    reason: str


@dataclass(frozen=True)
class LayerProfile:
    """One step of a call: the median time, and what it does per batch. ``gmacs`` is in products of 1e9 a second, 0 where there are none."""

    layer: str
    op: str
    kernel: str
    microseconds: float
    operations: int  # products of a Conv, Linear or MatMul
    bytes: int  # activations read and written, and stored weights
    gmacs: float


def load(source: str | Path | Graph, threads: int = 1, kernel: str | None = None) -> "Engine":
    """An engine for a ``*.bitfold`` file or a graph. ``threads``: how many cores one call may use; results do not depend on it.
    ``kernel``: a kernel family, or layer=family with commas between, in place of the fastest; None takes it from BITFOLD_KERNEL, if set.

    FormatError for a bad file, EngineError for a graph beyond the core's limits, an unknown BITFOLD_ISA and a family that cannot serve.
    """
    return Engine(source if isinstance(source, Graph) else Graph.load(source), threads, kernel)


SERVES = {  # activations x weights of each kernel family; BITFOLD_KERNEL takes their names
    "conv_b1": "binary x binary",
    "conv_planes": "codes of 1 to 4 bit planes (binary, ternary, 1 to 4 bits)",
    "conv_i8": "codes that fit a byte, powers of two included",
    "conv_u8": "8-bit pictures x codes",
    "conv_i16": "any codes",
    "conv_f32": "float x float or codes",
    "dense_packed": "Linear: codes that fit a byte x 1, 2 or 4 bits that stay packed",
    "adder_u8": "L1 distance of codes",
}


def kernels() -> list[dict[str, str]]:
    """Every compiled kernel of Conv and Linear, best first within a family, what the family serves (activations x weights), and whether
    this CPU (capped by BITFOLD_ISA) can run it."""
    order = ["scalar", "neon", "avx2", "avx512"]
    active = order.index(_core.active_isa())
    rows = [(name, family, isa) for name, family, isa, _ in _core.kernels()]
    return [
        {"kernel": name, "family": family, "isa": isa, "used": "yes" if order.index(isa) <= active else "no", "serves": SERVES[family]}
        for name, family, isa in rows
    ]


class Engine:
    """A graph ready to run. Memory is laid out once, here; a call allocates its output arrays, unless it is given them, and nothing else.

    Calls from several Python threads are safe: each engine computes one call at a time, others wait; the GIL is free meanwhile.
    Load one engine per thread to compute side by side. After a fork, load again if threads > 1.
    """

    def __init__(self, graph: Graph, threads: int = 1, kernel: str | None = None) -> None:
        if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 1024:
            raise EngineError(f"load: threads={threads!r}; allowed: 1 to 1024")
        try:
            planned = make_plan(graph, threads, forced(kernel))
        except (ValueError, MemoryError) as error:
            raise EngineError(f"graph {graph.name!r} cannot be planned: {error}") from error
        self._native, self._steps, self._moved = planned.native, planned.steps, planned.bytes_moved
        self._inputs = dict(graph.inputs)
        self._outputs = [graph.types[name] for name in graph.outputs]
        self._door = _core.Door(self._native, [t.shape for t in self._inputs.values()], [t.shape for t in self._outputs])
        self._any_code = all(_every_number_is_a_code(t) for t in self._inputs.values())
        self.name = graph.name
        self.kernels = tuple(
            Kernel(step.layer, step.op, kernel, isa, "; ".join(filter(None, (step.reason, refused))))
            for step, (kernel, isa, refused) in zip(planned.steps, planned.kernels, strict=True)
        )

    @property
    def threads(self) -> int:
        return int(self._native.threads)

    @property
    def arena_bytes(self) -> int:
        """Memory for all activations, of the images that are computed together."""
        return int(self._native.arena_bytes)

    def __call__(self, *inputs: np.ndarray, out: np.ndarray | tuple[np.ndarray, ...] | None = None) -> np.ndarray | tuple[np.ndarray, ...]:
        """One array (N, *shape) for each input, in the exported layout (NCHW for images): float32, or integer codes.

        out: C-ordered arrays to write to, (N, *shape) each, as the call would return them; they may not overlap an input.
        returns: the output, or a tuple of them: float32, int32 (accumulators), uint8 (8-bit unsigned codes) or int16 (other codes).
        EngineError for a wrong number, shape, dtype or code, and in a forked child if threads > 1. NaN and infinities are
        computed with, not refused.
        """
        try:
            done = self._door.run(inputs, out) if self._any_code else None
            if done is None:  # codes to check, arrays to convert, or something wrong
                done = self._door.run(self._checked(inputs, out), out)
                assert done is not None, "arrays that are checked pass the door"
        except RuntimeError as error:  # the threads are gone after a fork
            raise EngineError(f"{self.name!r}: {error}") from error
        return done  # type: ignore[no-any-return]

    def profile(self, *inputs: np.ndarray, repeats: int = 20) -> list[LayerProfile]:
        """Median time of every step over ``repeats`` calls (after two that are not counted), doors first and last."""
        if repeats < 1:
            raise EngineError(f"profile: repeats={repeats}; allowed: 1 or more")
        arrays = self._checked(inputs)
        rows = self._door.profile(arrays, repeats + 2)[2:]
        times = [float(t) for t in np.median(rows, axis=0) / 1e3]
        batch = len(arrays[0])
        doors = [
            LayerProfile(name, "layout", "", us, 0, batch * sum(_image_bytes(t) for t in side), 0.0)
            for name, us, side in (("(input)", times[0], self._inputs.values()), ("(output)", times[-1], self._outputs))
        ]
        layers = [
            LayerProfile(
                k.layer, k.op, k.kernel, us, s.macs * batch, s.weight_bytes + moved * batch, s.macs * batch / us / 1e3 if us else 0.0
            )
            for k, s, moved, us in zip(self.kernels, self._steps, self._moved, times[1:-1], strict=True)
        ]
        return [doors[0], *layers, doors[1]]

    def __repr__(self) -> str:
        def text(tensor: TensorType) -> str:
            return f"{type(tensor.element).__name__} {tensor.shape}"

        inputs = ", ".join(f"{name}: {text(tensor)}" for name, tensor in self._inputs.items())
        outputs = ", ".join(text(tensor) for tensor in self._outputs)
        return f"Engine({self.name!r}: {inputs} -> {outputs}; {len(self.kernels)} steps, threads={self.threads})"

    def _checked(self, inputs: tuple[np.ndarray, ...], out: Any = None) -> tuple[np.ndarray, ...]:
        if len(inputs) != len(self._inputs):
            raise EngineError(f"{self.name!r} takes {len(self._inputs)} inputs ({', '.join(self._inputs)}), got {len(inputs)}")
        arrays = tuple(_checked_input(name, tensor, x) for (name, tensor), x in zip(self._inputs.items(), inputs, strict=True))
        batch = len(arrays[0])
        if any(len(x) != batch for x in arrays):
            raise EngineError(f"inputs have batches of {[len(x) for x in arrays]}; they must be equal")
        if out is not None:
            outs = (out,) if len(self._outputs) == 1 else out
            if not isinstance(outs, tuple) or len(outs) != len(self._outputs):
                raise EngineError(f"out is {type(out).__name__}; allowed: a tuple of {len(self._outputs)} arrays")
            for tensor, y in zip(self._outputs, outs, strict=True):
                _check_output((batch, *tensor.shape), DTYPES[outside(tensor)], y, arrays)
        return arrays


def _check_output(shape: tuple[int, ...], dtype: np.dtype[Any], y: Any, inputs: tuple[np.ndarray, ...]) -> None:
    allowed = f"a writable C-ordered array {shape} of {dtype}"
    if type(y) is not np.ndarray:
        raise EngineError(f"out is {type(y).__name__}; allowed: {allowed}")
    if y.shape != shape or y.dtype != dtype:
        raise EngineError(f"out has shape {y.shape} and dtype {y.dtype}; allowed: {allowed}")
    if not (y.flags.c_contiguous and y.flags.aligned and y.flags.writeable):
        raise EngineError(f"out is read-only, unaligned or has strides {y.strides}; allowed: {allowed}")
    if any(np.may_share_memory(y, x) for x in inputs):
        raise EngineError("out shares memory with an input; allowed: arrays that lie apart")


def _image_bytes(tensor: TensorType) -> int:
    """Of the user's array."""
    return prod(tensor.shape) * DTYPES[outside(tensor)].itemsize


def _every_number_is_a_code(tensor: TensorType) -> bool:
    """Whether an array of the right dtype needs no look at its numbers."""
    element = tensor.element
    if isinstance(element, Float):
        return True
    limits = np.iinfo(DTYPES[outside(tensor)])
    return isinstance(element, Uniform) and element.min_code <= limits.min and limits.max <= element.max_code


def _checked_input(name: str, tensor: TensorType, x: Any) -> np.ndarray:
    if not isinstance(x, np.ndarray):
        raise EngineError(f"input {name!r} is {type(x).__name__}; allowed: a NumPy array")
    if x.ndim == 0 or x.shape[1:] != tensor.shape:
        raise EngineError(f"input {name!r} has shape {x.shape}; allowed: (N, {', '.join(map(str, tensor.shape))})")
    if isinstance(tensor.element, Float):
        if x.dtype != np.float32:
            raise EngineError(f"input {name!r} has dtype {x.dtype}; allowed: float32")
    elif not np.issubdtype(x.dtype, np.integer):
        raise EngineError(f"input {name!r} has dtype {x.dtype}; allowed: integers, the codes of {tensor.element}")
    else:
        _check_codes(name, tensor.element, x)  # type: ignore[arg-type]
    return np.require(x.astype(DTYPES[outside(tensor)], copy=False), requirements=["C", "A", "E"])


def _check_codes(name: str, encoding: Coded, x: np.ndarray) -> None:
    limits = np.iinfo(x.dtype)
    if isinstance(encoding, Uniform) and encoding.min_code <= limits.min and limits.max <= encoding.max_code:
        return
    wrong = (x < encoding.min_code) | (x > encoding.max_code)
    if not isinstance(encoding, Uniform):
        wrong |= ~np.isin(x, encoding.alphabet())
    if wrong.any():
        raise EngineError(f"input {name!r} holds {x[wrong].flat[0]}; allowed: the codes of {encoding}")
