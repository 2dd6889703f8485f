"""Encodings: which real values a tensor's integer codes stand for (value = offset + scale * code).

A quantiser states its encoding, export folds scales and offsets into epilogues, and the engine computes with codes alone.
The bit convention and the stored bit planes are specified in ``docs/format.md``.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from bitfold.errors import GraphError

Scale: TypeAlias = float | tuple[float, ...]  # one for the tensor, or one per output channel


@dataclass(frozen=True)
class Binary:
    """Codes {-1, +1}; 1 bit plane, bit 1 means -1. AdaBin's set {b1, b2} is offset -/+ scale."""

    scale: Scale = 1.0
    offset: Scale = 0.0

    min_code, max_code, planes = -1, 1, 1

    def alphabet(self) -> tuple[int, ...]:
        return (-1, 1)


@dataclass(frozen=True)
class Ternary:
    """Codes {-1, 0, +1}; planes: negative, non-zero."""

    scale: Scale = 1.0

    offset = 0.0
    min_code, max_code, planes = -1, 1, 2

    def alphabet(self) -> tuple[int, ...]:
        return (-1, 0, 1)


@dataclass(frozen=True)
class PowerOfTwo:
    """Codes {0, +-2^p} with min_exp <= p <= max_exp; planes: negative, then field f (0 = zero, else p = f - 1 + min_exp), MSB first.

    0 <= min_exp <= max_exp <= 14, so that a code fits an int16; a quantiser with negative exponents moves 2^min_exp into scale.
    """

    max_exp: int
    min_exp: int = 0
    scale: Scale = 1.0

    offset = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_exp <= self.max_exp <= 14:
            raise GraphError(f"PowerOfTwo: exponents {self.min_exp}..{self.max_exp} are not within 0 <= min_exp <= max_exp <= 14")

    @property
    def min_code(self) -> int:
        return -(1 << self.max_exp)

    @property
    def max_code(self) -> int:
        return 1 << self.max_exp

    @property
    def planes(self) -> int:
        return 1 + (self.max_exp - self.min_exp + 1).bit_length()

    def alphabet(self) -> tuple[int, ...]:
        powers = [1 << p for p in range(self.min_exp, self.max_exp + 1)]
        return tuple([-p for p in reversed(powers)] + [0] + powers)


@dataclass(frozen=True)
class Uniform:
    """k-bit integers: 0..2^k - 1 (k <= 15), or -2^(k-1)..2^(k-1) - 1 if signed (k <= 16). value = scale * (code - zero_point).

    Planes: the bits of code - min_code, most significant first, so that a prefix is a coarser tensor.
    """

    bits: int
    signed: bool
    scale: Scale = 1.0
    zero_point: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 15 + self.signed:
            raise GraphError(f"Uniform: bits={self.bits}; allowed: 1 to {15 + self.signed} (codes are int16)")
        if not self.min_code <= self.zero_point <= self.max_code:
            raise GraphError(f"Uniform: zero_point={self.zero_point} is not a code; allowed: {self.min_code} to {self.max_code}")

    @property
    def offset(self) -> Scale:
        if self.zero_point == 0:
            return 0.0
        if isinstance(self.scale, tuple):
            return tuple(-s * self.zero_point for s in self.scale)
        return -self.scale * self.zero_point

    @property
    def min_code(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max_code(self) -> int:
        return self.min_code + (1 << self.bits) - 1

    @property
    def planes(self) -> int:
        return self.bits

    def alphabet(self) -> tuple[int, ...]:
        return tuple(range(self.min_code, self.max_code + 1))


@dataclass(frozen=True)
class Float:
    """float32 values; no codes."""


@dataclass(frozen=True)
class Accumulator:
    """int32 sums of products of codes, |sum| <= bound. Not an encoding: the type of what an integer core produces."""

    bound: int


Encoding: TypeAlias = Binary | Ternary | PowerOfTwo | Uniform | Float
Coded: TypeAlias = Binary | Ternary | PowerOfTwo | Uniform  # the encodings that have codes
Element: TypeAlias = Encoding | Accumulator


def values(encoding: Coded, codes: np.ndarray, channel_axis: int = 0) -> np.ndarray:
    """The real values (float64) that codes stand for; per-channel scale and offset run along ``channel_axis``."""

    def spread(s: Scale) -> np.ndarray:
        a = np.asarray(s, dtype=np.float64)
        return a if a.ndim == 0 else a.reshape([-1 if i == channel_axis % codes.ndim else 1 for i in range(codes.ndim)])

    return spread(encoding.offset) + spread(encoding.scale) * codes
