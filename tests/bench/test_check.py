import numpy as np
import pytest

from bitfold.bench.check import FLOAT_TOLERANCE, check


def test_equal_is_right_for_both_precisions(rng):
    y = rng.standard_normal((2, 5))
    for precision in ("float32", "int8"):
        result = check(y, y, precision)
        assert result.problem is None and result.max_difference == 0 and result.cosine == pytest.approx(1)


def test_float_fails_just_above_its_tolerance(rng):
    y = rng.standard_normal((2, 5))
    top = np.abs(y).max()
    assert check(y + 0.9 * FLOAT_TOLERANCE * top, y, "float32").problem is None
    assert "differs" in str(check(y + 1.1 * FLOAT_TOLERANCE * top, y, "float32").problem)


def test_int8_may_be_rough_but_not_unrelated(rng):
    y = rng.standard_normal(1000)
    assert check(y + 0.1 * rng.standard_normal(1000), y, "int8").problem is None
    assert "cosine" in str(check(rng.standard_normal(1000), y, "int8").problem)


def test_shape_and_nan_are_problems():
    y = np.ones((1, 3))
    assert "shape" in str(check(np.ones((3,)), y, "float32").problem)
    assert "finite" in str(check(np.full((1, 3), np.nan), y, "int8").problem)
