"""Thresholds decide exactly as PyTorch's float32 formula: for every integer, and for floats next to each threshold."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.export.nets import Steps, batch_norm
from torch import Tensor, nn

from bitfold.errors import ExportError
from bitfold.export.steps import TorchFunction
from bitfold.export.thresholds import (
    Accumulated,
    Entries,
    Thresholds,
    check_forward,
    float_thresholds,
    integer_thresholds,
    never_falls,
)
from bitfold.ir.encoding import Binary, Uniform
from bitfold.quantizers.base import Quantizer
from bitfold.quantizers.rsign import RSign
from bitfold.quantizers.sign import Sign

CHANNELS, BOUND = 7, 60


def decided(found: Thresholds, x: np.ndarray) -> np.ndarray:
    """Entry numbers of x (C, K), as the IR defines Quantize."""
    count = (x[:, :, None] >= found.rows[:, None, :]).sum(-1)
    if found.descending is None:
        return np.asarray(count)
    return np.where(found.descending[:, None], found.rows.shape[1] - count, count)


def formula(layer: Accumulated, entries: Entries) -> np.ndarray:
    """The float32 formula for every integer of the range, one trial image a time: nothing of the search is used."""
    columns = []
    for d in range(layer.low, layer.high + 1):
        y = torch.from_numpy((layer.mul * d + layer.bias).astype(np.float32))
        columns.append(entries(y.view(1, -1, 1, 1) if len(layer.shape) == 3 else y.view(1, -1)).reshape(-1))
    return np.stack(columns, axis=1)


def quantizers() -> dict[str, tuple[Quantizer, Binary | Uniform]]:
    rsign = RSign(CHANNELS)
    rsign.shift.data = torch.linspace(-1, 1, CHANNELS)
    levels = Steps([-0.7, -0.1, 0.0, 0.25, 0.5, 0.5, 0.9], signed=True)
    return {"sign": (Sign(), Binary()), "rsign": (rsign, Binary()), "three_bits": (levels, levels.encoding())}


def tails(rng: np.random.Generator) -> dict[str, tuple[list[TorchFunction], bool]]:
    """(functions, whether none of them can turn round)."""
    bn, prelu = batch_norm(CHANNELS, rng, 6.0).eval(), nn.PReLU(CHANNELS)
    prelu.weight.data = torch.linspace(-0.5, 0.5, CHANNELS)
    return {
        "nothing": ([], True),
        "bn": ([bn], True),
        "hardtanh_bn": ([lambda x: F.hardtanh(x, -9, 9), bn], True),
        "bn_prelu": ([bn, prelu], False),
    }


@pytest.mark.parametrize("tail", ["nothing", "bn", "hardtanh_bn", "bn_prelu"])
@pytest.mark.parametrize("quantizer", ["sign", "rsign", "three_bits"])
def test_integer_thresholds_equal_the_formula_for_every_integer(tail: str, quantizer: str, rng: np.random.Generator) -> None:
    found_some = 0
    for _ in range(5):
        functions, monotone = tails(rng)[tail]
        entries = Entries(*quantizers()[quantizer], functions)
        mul = rng.uniform(0.01, 0.3, CHANNELS) * rng.choice([-1, 1], CHANNELS)
        layer = Accumulated(mul, rng.normal(size=CHANNELS), -BOUND, BOUND + 3, (CHANNELS, 4, 4))
        expected = formula(layer, entries)
        steps = np.diff(expected, axis=1)
        is_monotone = bool(((steps >= 0).all(axis=1) | (steps <= 0).all(axis=1)).all())
        found = integer_thresholds(layer, entries, monotone)
        assert (found is not None) == is_monotone
        assert found is None or found.rows.dtype == np.int32
        d = np.tile(np.arange(layer.low, layer.high + 1), (CHANNELS, 1))
        if found is not None:
            found_some += 1
            assert (decided(found, d) == expected).all()
        with torch.no_grad():
            by_trying = integer_thresholds(layer, entries, monotone=False)
        assert (by_trying is None) == (found is None)
        if found is not None and by_trying is not None:
            assert (decided(by_trying, d) == expected).all(), "both searches agree"
    assert found_some or tail == "bn_prelu"


def test_vectors_use_the_same_search(rng: np.random.Generator) -> None:
    bn = nn.BatchNorm1d(CHANNELS).eval()
    bn.weight.data = torch.from_numpy(rng.normal(size=CHANNELS).astype(np.float32))
    entries = Entries(Sign(), Binary(), [bn])
    layer = Accumulated(np.full(CHANNELS, 0.1), rng.normal(size=CHANNELS), -9, 9, (CHANNELS,))
    found = integer_thresholds(layer, entries, True)
    assert found is not None
    assert (decided(found, np.tile(np.arange(-9, 10), (CHANNELS, 1))) == formula(layer, entries)).all()


def test_constant_channels(rng: np.random.Generator) -> None:
    layer = Accumulated(np.array([0.0, 0.0, 1.0]), np.array([-1.0, 0.0, 100.0]), -5, 5, (3, 1, 1))
    found = integer_thresholds(layer, Entries(Sign(), Binary()), True)
    assert found is not None and found.descending is None
    assert found.rows.tolist() == [[6], [-5], [-5]], "never; always; always"


def test_a_search_without_end_is_given_up() -> None:
    wide = Accumulated(np.ones(4), np.zeros(4), -(1 << 29), 1 << 29, (4, 1, 1))
    assert integer_thresholds(wide, Entries(Sign(), Binary()), monotone=False) is None
    found = integer_thresholds(wide, Entries(Sign(), Binary()), monotone=True)
    assert found is not None and found.rows.tolist() == [[0]]


def test_never_falls() -> None:
    layer = Accumulated(np.array([1.0, 2.0]), np.zeros(2), -3, 3, (2, 1, 1))
    assert never_falls(layer, [torch.relu])
    assert not never_falls(layer, [torch.neg])
    assert not never_falls(Accumulated(np.array([1.0, -1.0]), np.zeros(2), -3, 3, (2, 1, 1)), [])


@pytest.mark.parametrize("shape", [(CHANNELS, 3, 3), (CHANNELS,)])
@pytest.mark.parametrize("quantizer", ["rsign", "three_bits"])
def test_float_thresholds_are_the_first_floats_that_reach_the_next_code(
    shape: tuple[int, ...], quantizer: str, rng: np.random.Generator
) -> None:
    functions = tails(rng)["hardtanh_bn"][0] if len(shape) == 3 else []
    entries = Entries(*quantizers()[quantizer], functions)
    found = float_thresholds(entries, shape)
    assert found is not None
    for row, falls in zip(found.rows, found.descending if found.descending is not None else [False] * len(found.rows), strict=True):
        for k, t in enumerate(row[np.isfinite(row)]):
            both = np.array([np.nextafter(t, np.float32(-np.inf)), t], np.float32)
            assert falls or both[0] < both[1], k
    x = np.concatenate([rng.normal(size=(CHANNELS, 5000)) * 3, np.tile(found.rows, (CHANNELS // len(found.rows), 1))], 1).astype(np.float32)
    x = np.concatenate([x, np.nextafter(x, np.float32(-np.inf)), np.nextafter(x, np.float32(np.inf))], 1)
    x = np.nan_to_num(x)
    image = torch.from_numpy(x)[None, :, :, None] if len(shape) == 3 else torch.from_numpy(x.T.copy())
    got = entries(image)
    got = got[0, :, :, 0] if len(shape) == 3 else got.T
    assert (decided(found, x) == got).all()


def test_both_zeros_have_one_code() -> None:
    found = float_thresholds(Entries(Sign(), Binary()), (2, 1, 1))
    assert found is not None and found.per_tensor
    assert found.rows.tolist() == [[0.0]] and not np.signbit(found.rows[0, 0])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=31, max_size=31))
def test_many_levels_are_found_to_the_bit(levels: list[float]) -> None:
    """32 levels take the search that shares the levels out among the channels."""
    quantizer = Steps(sorted(levels))
    found = float_thresholds(Entries(quantizer, quantizer.encoding()), (3, 2, 2))
    assert found is not None and found.rows.shape == (1, 31)
    assert (found.rows[0] == np.array(sorted(levels), np.float32)).all()


class Odd(Quantizer):
    """Not a step function: a triangle wave, or one that looks at other values."""

    def __init__(self, by_batch: bool = False) -> None:
        super().__init__()
        self.by_batch = by_batch

    def codes(self, x: Tensor) -> Tensor:
        x = x - x.mean() if self.by_batch else x.abs() - 1
        return torch.where(x >= 0, 1, -1).to(torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        return self.codes(x) * 1.0

    def encoding(self, x: Tensor | None = None) -> Binary:
        return Binary()


@pytest.mark.parametrize("by_batch", [False, True])
def test_what_is_no_step_function_is_noticed(by_batch: bool) -> None:
    assert float_thresholds(Entries(Odd(by_batch), Binary()), (3, 2, 2)) is None


def test_codes_outside_the_alphabet_are_refused() -> None:
    with pytest.raises(ExportError, match=r"Steps.codes gives codes outside its encoding"):
        Entries(Steps([0.0, 1.0, 2.0]), Binary())(torch.full((1, 2, 3, 1), 3.0))


def test_forward_must_be_what_the_codes_stand_for() -> None:
    x = torch.linspace(-1, 1, 11)[None, :, None, None]
    good = Steps([0.0, 0.5, 0.6])
    assert check_forward(good, good.encoding(), x, 1) is None
    problem = check_forward(good, Uniform(2, False, 0.25), x, 1)
    assert problem is not None and "differ by 0.75" in problem
