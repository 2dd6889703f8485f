import numpy as np
import pytest

from bitfold import _core
from bitfold.bench import peaks
from bitfold.engine.engine import kernels


def test_every_kind_has_a_rate_and_narrow_codes_are_not_slower():
    found = peaks.measure(repeats=7)
    if found is None:
        pytest.skip("no vector instructions")
    assert set(found.gmacs) == set(peaks.KINDS) and min(found.gmacs.values()) > 0
    assert found.gmacs["popcount"] > found.gmacs["int8_narrow"] > found.gmacs["fma"]  # two orders of magnitude apart, load or not
    assert found.cache > found.memory > 0


def test_every_family_has_a_ceiling():
    assert {row["family"] for row in kernels()} <= set(peaks.CEILING)


def test_hostile_arguments_are_refused():
    with pytest.raises(ValueError, match=r"allowed: popcount, int8"):
        _core.peak_rate("flops", 1)
    with pytest.raises(ValueError, match="at least 1"):
        _core.peak_rate("fma", 0)
    with pytest.raises(ValueError, match="256 bytes"):
        _core.read_rate(np.zeros(255, np.uint8))
