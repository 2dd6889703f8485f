import numpy as np
import pytest

import bitfold
from bitfold.bench import kernels
from bitfold.bench.kernels import SHAPES, Shape, build
from bitfold.errors import ConfigError

SMALL = (
    Shape("conv", 8, 8, 6, 3, 1, True),
    Shape("linear", 40, 12, 1, 0, 1, True),
    Shape("stem", 3, 8, 14, 7, 2, False),
    Shape("head", 16, 10, 1, 0, 1, False),
)


@pytest.mark.parametrize("shape", SMALL, ids=lambda s: s.name)
def test_rows_name_the_kernel_and_its_rate(shape, monkeypatch):
    monkeypatch.setattr(kernels, "SHAPES", SMALL)
    (row,) = kernels.run([shape.name], repeats=5)
    assert row.reason is None and row.timing is not None
    graph, x = build(shape, 1)
    assert row.details["kernel"] in {k.kernel for k in bitfold.load(graph).kernels}
    operations = max(step.operations for step in bitfold.load(graph).profile(x))
    assert row.details["gmacs_per_s"] == pytest.approx(operations / row.timing.median_us / 1e3)


def test_the_product_is_one_step_with_its_epilogue():
    graph, x = build(SMALL[0], 2)
    net = bitfold.load(graph)
    assert next(k.op for k in net.kernels if k.layer == "product") == "Conv+Add+TwoSlope"
    assert net(x).shape == (2, 8, 6, 6)


def test_a_wrong_result_has_no_time(monkeypatch):
    monkeypatch.setattr(kernels, "SHAPES", SMALL)
    monkeypatch.setattr(kernels, "interpret", lambda graph, x: np.ones((1, 12), np.float32))
    (row,) = kernels.run(["linear"], repeats=5)
    assert row.timing is None and "wrong result" in str(row.reason) and "gmacs_per_s" not in row.details


def test_shapes_are_those_of_the_tables_and_unknown_ones_are_refused():
    assert [s.name for s in SHAPES if s.binary][:2] == ["binary 3x3 64x56x56", "binary 3x3 128x28x28"]
    with pytest.raises(ConfigError, match="did you mean 'binary 3x3 512x7x7'"):
        kernels.run(["binary 3x3 512x7x8"])
