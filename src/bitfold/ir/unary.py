"""The functions of ``Unary`` on float32 arrays: the steps that ``docs/format.md`` writes, each rounded once."""

from collections.abc import Callable

import numpy as np

from bitfold.ir.arithmetic import exp_not_positive, fma

_F = np.float32
_TANH = [_F(c) for c in (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)]
_TAIL = [
    _F(c)
    for c in (
        *(-1.13919254e-4, 2.14099855e-4, 6.90052460e-4, -1.75440277e-3, -5.10873133e-3),
        *(1.02338605e-2, 7.10989460e-2, 1.71495810e-1, 2.53244281e-1),
    )
]


def _polynomial(coefficients: list[np.float32], x: np.ndarray) -> np.ndarray:
    p = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        p = fma(p, x, coefficient)
    return p


def sigmoid(x: np.ndarray) -> np.ndarray:
    e = exp_not_positive(-np.abs(x))
    s = _F(1) / (_F(1) + e)
    return np.where(x < 0, e * s, s)


def tanh(x: np.ndarray) -> np.ndarray:
    """Below 0.625 Cephes' polynomial, because 1 - e^-2x would cancel."""
    a, z = np.abs(x), x * x
    near_zero = fma(_polynomial(_TANH, z) * z, x, x)
    e = exp_not_positive(_F(-2) * a)
    far = (_F(1) - e) / (_F(1) + e)
    return np.where(a < _F(0.625), near_zero, np.where(x < 0, -far, far))


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def gelu(x: np.ndarray) -> np.ndarray:
    """x times the normal distribution's integral up to x; the tail below -a is a polynomial in 1 / (1 + 0.35 a), times e^(-a a / 2)."""
    a = np.where(np.abs(x) > _F(15), _F(15), np.abs(x))
    t = _F(1) / fma(a, _F(0.35), _F(1))
    p = _polynomial(_TAIL, fma(t, _F(2), _F(-1)))
    square = a * a
    e = exp_not_positive(_F(-0.5) * square)
    e = fma(_F(-0.5) * e, fma(a, a, -square), e)
    below = e * (t * p)
    return x * np.where(x < 0, below, _F(1) - below)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """x (1 + tanh v) / 2 is x sigmoid(2 v), which does not cancel."""
    return x * sigmoid(x * fma(x * x, _F(7.13548163e-2), _F(1.59576912)))


def hardsigmoid(x: np.ndarray) -> np.ndarray:
    s = x + _F(3)
    low = np.where(s < 0, _F(0), s)
    return np.where(low > 6, _F(6), low) * _F(0.166666672)


def hardswish(x: np.ndarray) -> np.ndarray:
    return x * hardsigmoid(x)


def rsqrt(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return _F(1) / np.sqrt(x + _F(0))  # graphs do not keep the sign of a zero


def sqrt(x: np.ndarray) -> np.ndarray:
    return np.sqrt(x)


def reciprocal(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", over="ignore"):
        return _F(1) / (x + _F(0))


UNARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    f.__name__: f for f in (sigmoid, tanh, silu, gelu, gelu_tanh, hardsigmoid, hardswish, rsqrt, sqrt, reciprocal)
}
