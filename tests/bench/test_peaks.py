import numpy as np
import pytest

from bitfold import _core
from bitfold.bench import peaks
from bitfold.engine.engine import kernels


def test_every_kind_has_a_rate():
    found = peaks.measure(repeats=1)
    if found is None:
        pytest.skip("no vector instructions")
    assert set(found.gmacs) == set(peaks.KINDS) and min(found.gmacs.values()) > 0
    assert found.cache > 0 and found.memory > 0


def test_the_fastest_round_counts(monkeypatch):
    """In units of 1e9; memory is read in the first of every six rounds."""
    if peaks.measure(repeats=1) is None:
        pytest.skip("no vector instructions")
    rates = {kind: iter([1e9 * i, 3e9 * i, 2e9 * i] * 3) for i, kind in enumerate(peaks.KINDS, 1)}
    reads = {"cache": iter([5e9, 7e9, 6e9] * 3), "memory": iter([2e9, 3e9])}
    monkeypatch.setattr(_core, "peak_rate", lambda kind, steps: next(rates[kind]))
    monkeypatch.setattr(_core, "read_rate", lambda data: next(reads["cache" if data.size < 1 << 20 else "memory"]))
    found = peaks.measure(repeats=9)
    assert found.gmacs == {kind: 3.0 * i for i, kind in enumerate(peaks.KINDS, 1)}
    assert (found.cache, found.memory) == (7.0, 3.0)


def test_every_family_has_a_ceiling():
    assert {row["family"] for row in kernels()} <= set(peaks.CEILING)


def test_hostile_arguments_are_refused():
    with pytest.raises(ValueError, match=r"allowed: popcount, int8"):
        _core.peak_rate("flops", 1)
    with pytest.raises(ValueError, match="at least 1"):
        _core.peak_rate("fma", 0)
    with pytest.raises(ValueError, match="256 bytes"):
        _core.read_rate(np.zeros(255, np.uint8))
