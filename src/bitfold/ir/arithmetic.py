"""float32 arithmetic of the interpreter: the steps that ``docs/format.md`` writes, each rounded once."""

from typing import TypeAlias

import numpy as np

from bitfold.errors import GraphError

_DROPPED = 0x1FFFFFFF  # the 29 bits of a float64 fraction that float32 lacks
_HALF_WAY = 0x10000000
_SMALLEST_NORMAL = 2.0**-126  # below it float32 drops more bits, and all sums are looked at

Operand: TypeAlias = np.ndarray | np.float32


def fma(a: Operand, b: Operand, c: Operand) -> np.ndarray:
    """a * b + c of float32 arrays, rounded once to float32, as C's ``fmaf``.

    The product of two float32 is exact in float64. Rounding the float64 sum to float32 is a second rounding; it can differ from a
    single one only where the float64 lies half way between two float32, so only there the sum's own error decides.
    """
    product = np.multiply(a, b, dtype=np.float64)
    total = np.asarray(product + c)
    doubtful = ((total.view(np.int64) & _DROPPED) == _HALF_WAY) | (np.abs(total) < _SMALLEST_NORMAL)
    if doubtful.any():
        product, c = np.broadcast_to(product, total.shape), np.broadcast_to(c, total.shape)
        total[doubtful] = _round_to_odd(product[doubtful], c[doubtful].astype(np.float64), total[doubtful])
    return total.astype(np.float32)


def _round_to_odd(product: np.ndarray, c: np.ndarray, total: np.ndarray) -> np.ndarray:
    """``total = product + c``; where it is not exact (error by Knuth's TwoSum), the neighbour whose last bit is 1: never half way."""
    back = total - product
    error = (product - (total - back)) + (c - back)
    move = (error != 0) & (total.view(np.int64) & 1 == 0)
    return np.where(move, np.nextafter(total, np.where(error > 0, np.inf, -np.inf)), total)


def rounded_table(table: np.ndarray, layer: str) -> np.ndarray:
    """An epilogue's T, float64, rounded once to float32. GraphError beyond float32's range, where it would become infinite."""
    largest = float(np.abs(table).max())
    if largest > float(np.finfo(np.float32).max):
        raise GraphError(
            f"{layer!r}: the epilogue's bias, weight_mul, tap_mul and x_offset add up to {largest:.3g}; allowed: float32's range"
        )
    return table.astype(np.float32)


def ordered_sum(x: np.ndarray) -> np.ndarray:
    """float32 sum over the last axis, from +0.0, term after term."""
    total: np.ndarray = np.add.accumulate(x, axis=-1, dtype=np.float32)[..., -1]
    return total + np.float32(0)


_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # Cody and Waite: n * high is exact
_EXP = [np.float32(c) for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)]


def exp_not_positive(x: np.ndarray) -> np.ndarray:
    """e^x of float32 x <= 0 (NaN stays), about 1 unit in the last place: the steps that ``docs/format.md`` writes (Cephes' polynomial)."""
    one, magic = np.float32(1), np.float32(1.5 * 2**23)  # adding magic rounds to an integer
    x = np.where(x < np.float32(-104), np.float32(-104), x)
    n = fma(x, np.float32(1.44269504088896341), magic) - magic
    r = fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x))
    p = np.full_like(x, _EXP[0])
    for coefficient in _EXP[1:]:
        p = fma(p, r, coefficient)
    p = fma(p, r * r, r) + one
    power = np.where(np.isnan(n), 0, n).astype(np.int32)
    half = power >> 1  # two factors, because 2^n alone may be subnormal
    return p * np.ldexp(one, half) * np.ldexp(one, power - half)  # type: ignore[no-any-return]
