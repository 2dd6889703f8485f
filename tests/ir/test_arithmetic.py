from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bitfold.ir.arithmetic import exp_not_positive, fma, ordered_sum

floats = st.floats(width=32, min_value=-(2.0**60), max_value=2.0**60)
tiny = st.floats(width=32, min_value=-(2.0**-100), max_value=2.0**-100)


def rounded(exact: Fraction) -> np.float32:
    """The float32 nearest to an exact number, ties to even."""
    guess = np.float32(float(exact))
    around = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(around, key=lambda v: (abs(Fraction(float(v)) - exact), int(v.view(np.int32)) & 1))


@given(floats | tiny, floats | tiny, floats | tiny)
def test_fma_rounds_once(a, b, c):
    got = fma(np.array([a], np.float32), np.array([b], np.float32), np.array([c], np.float32))[0]
    assert got == rounded(Fraction(a) * Fraction(b) + Fraction(c))


def test_fma_where_rounding_twice_is_wrong():
    """c lies half way between two float32 but for a product too small for float64 to keep."""
    one = np.float32(1)
    a, b = np.float32(1 + 2.0**-12), np.float32(1 + 2.0**-12)  # product 1 + 2^-11 + 2^-24: half way, exactly
    tiny = np.float32(2.0**-60)
    for c, expected in ((tiny, 1 + 2.0**-11 + 2.0**-23), (-tiny, 1 + 2.0**-11), (np.float32(0), 1 + 2.0**-11)):
        assert np.float32(np.float64(a) * b + c) == np.float32(1 + 2.0**-11), "rounding twice loses c"
        assert fma(np.array(a), np.array(b), np.array(c)) == np.float32(expected)
        assert fma(-np.array(a), np.array(b), -np.array(c)) == -np.float32(expected)
    assert fma(np.array(one), np.array(one), np.zeros(3, np.float32)).shape == (3,)


def test_fma_of_subnormal_results():
    """The product is 2^-150 less a bit that float64 loses beside c, so c stays; a tie would go to the even neighbour of an odd c."""
    a, b = np.float32((1 + 2.0**-23) * 2.0**-75), np.float32((1 - 2.0**-23) * 2.0**-75)
    for units in (2**22 + 1, 2**22 - 1, 2**20 + 3):
        c = np.float32(units * 2.0**-149)
        assert np.float32(np.float64(a) * b + c) != c, "rounding twice goes up"
        assert fma(np.array(a), np.array(b), np.array(c)) == c
        assert fma(-np.array(a), np.array(b), -np.array(c)) == -c


def test_ordered_sum_adds_term_after_term(rng):
    x = rng.standard_normal((3, 100)).astype(np.float32)
    for row, total in zip(x, ordered_sum(x), strict=True):
        expected = np.float32(0)
        for term in row:
            expected = np.float32(expected + term)
        assert total == expected
    assert np.signbit(ordered_sum(np.full((1, 2), -0.0, np.float32))[0]) == np.False_


def test_exp_is_close_to_the_exact_one(rng: np.random.Generator) -> None:
    x = np.concatenate([[0, -0.0, -1e-30, -87.5, -103.9, -104.1, -np.inf], -rng.exponential(10, 2000)]).astype(np.float32)
    got, want = exp_not_positive(x).astype(np.float64), np.exp(x.astype(np.float64))
    assert (np.abs(got - want) <= 2 * np.spacing(want.astype(np.float32))).all()
    assert np.isnan(exp_not_positive(np.array([np.nan], np.float32))).all()
