"""The native core's Python surface, for type checkers; tests/engine/test_stub.py compares it with the compiled module.

Arrays must be C-ordered and aligned; the core refuses others.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
I32: TypeAlias = NDArray[np.int32]
I16: TypeAlias = NDArray[np.int16]
U8: TypeAlias = NDArray[np.uint8]
AnyArray: TypeAlias = NDArray[Any]
Pair: TypeAlias = tuple[int, int]
Shape4: TypeAlias = tuple[int, int, int, int]
Format: TypeAlias = tuple[str, int, bool, int]  # kind of codes, bits, signed, lowest exponent
Names: TypeAlias = tuple[str, str, str]  # kernel, instruction set, why no faster one

def detected_isa() -> str:
    """Best instruction set of this CPU."""

def active_isa() -> str:
    """The same, capped by BITFOLD_ISA."""

def conv_kernel_for(family: str, in_c: int, out_c: int, kernel: Pair, groups: int, in_stride: int) -> Names: ...
def tap_sums(planes: U8, shape: Shape4, format: Format) -> list[int]: ...

class Plan:
    """
    Values in one arena and the steps that compute them; checked while it is built. See bitfold.engine.plan.
    """

    def __init__(self, threads: int, chunk: int, arena_bytes: int) -> None: ...
    def value(
        self, kind: str, hwc: Sequence[int], stride: int, offset: int, planes: int = 1, planes_of: str = "binary", min_code: int = 0
    ) -> int: ...
    def input(self, value: int, outside: str) -> None: ...
    def output(self, value: int, outside: str) -> None: ...
    def quantize(
        self, x: int, out: int, levels: int, per_channel: bool, f32: F32 | None, i32: I32 | None, descending: U8 | None, alphabet: I16
    ) -> Names: ...
    def convert(self, x: int, out: int) -> Names: ...
    def dequantize(self, x: int, out: int, scale: float, offset: float) -> Names: ...
    def affine(self, x: int, out: int, mul: F32, bias: F32) -> Names: ...
    def arithmetic(self, op: str, a: int, b: int, out: int) -> Names: ...
    def clamp(self, x: int, out: int, low: float, high: float) -> Names: ...
    def two_slope(self, x: int, out: int, neg: F32 | None, pos: F32 | None, shift_in: F32 | None, shift_out: F32 | None) -> Names: ...
    def unary(self, op: str, x: int, out: int) -> Names: ...
    def pool(
        self, op: str, x: int, out: int, kernel: Pair, stride: Pair, padding: Sequence[int], dilation: Pair, count_padding: bool
    ) -> Names: ...
    def mean(self, over: str, x: int, out: int) -> Names: ...
    def flatten(self, x: int, out: int) -> Names: ...
    def concat(self, xs: Sequence[int], out: int) -> Names: ...
    def pad_channels(self, x: int, out: int, before: int) -> Names: ...
    def slice(self, x: int, out: int, start: int) -> Names: ...
    def upsample(self, x: int, out: int, rows: I32, columns: I32, row_weights: F32 | None, column_weights: F32 | None) -> Names: ...
    def depth_to_space(self, x: int, out: int, factor: Pair, groups: int, crop: Sequence[int]) -> Names: ...
    def rearrange(self, x: int, out: int, table: I32, run: int, across: bool) -> Names: ...
    def matmul(self, a: int, b: int, out: int) -> Names: ...
    def conv(
        self,
        family: str,
        x: int,
        weights: AnyArray,
        weight_shape: Shape4,
        weight_format: Format | None,
        x_format: Format | None,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
        copies: int = 1,
        x_zero: int = 0,
        out_i32: int = -1,
        out_f32: int = -1,
        out_bits: int = -1,
        out_u8: int = -1,
        patch_sums: int = -1,
        residual: int = -1,
        mul: F32 | None = None,
        table: F32 | None = None,
        patch_mul: F32 | None = None,
        row_class: I32 | None = None,
        col_class: I32 | None = None,
        clamp: tuple[float, float] | None = None,
        neg: F32 | None = None,
        pos: F32 | None = None,
        shift_in: F32 | None = None,
        shift_out: F32 | None = None,
        threshold_f32: F32 | None = None,
        threshold_i32: I32 | None = None,
        levels_f32: F32 | None = None,
        levels_i32: I32 | None = None,
        levels_per_channel: bool = False,
        descending: U8 | None = None,
    ) -> Names: ...
    def finish(self) -> None: ...
    @property
    def arena_bytes(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def allocations(self) -> int: ...

class Door:
    """
    Runs a finished plan on NumPy arrays of given shapes (of one image). See bitfold.engine.engine.
    """

    def __init__(self, plan: Plan, inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> None: ...
    def run(self, inputs: tuple[AnyArray, ...], out: Any | None) -> Any:
        """
        The output or a tuple of them, in `out` if given; None unless every array is C-ordered, aligned, of the right type and shape.
        """

    def profile(self, inputs: tuple[AnyArray, ...], repeats: int) -> list[list[float]]: ...

def kernels() -> list[tuple[str, str, str, bool]]:
    """
    (name, family, isa, available on this CPU) of every compiled conv and linear kernel, best first.
    """

def conv_refusal(name: str, shape: Sequence[int]) -> str | None:
    """None if the kernel serves the shape, else the reason why not."""

def conv_run(
    name: str,
    shape: Sequence[int],
    input: AnyArray,
    weights: AnyArray,
    in_format: Format,
    weight_format: Format,
    epilogue: dict[str, Any],
    row_parts: int = 1,
    block_parts: int = 1,
) -> dict[str, Any]:
    """
    Runs one kernel; see native/kernels/conv.h and epilogue.h. Returns its outputs, one row per output pixel.
    """

def conv_time(
    name: str,
    shape: Sequence[int],
    input: AnyArray,
    weights: AnyArray,
    in_format: Format,
    weight_format: Format,
    epilogue: dict[str, Any],
    repeats: int,
) -> list[float]:
    """Seconds of each of `repeats` runs."""

def peak_rate(kind: str, rounds: int) -> float:
    """Products a second of one instruction mix on registers alone, one core, active instruction set."""

def read_rate(data: U8) -> float:
    """Bytes a second at which one core reads the array."""
