"""Exact thresholds of a quantiser, found by asking it for codes: nothing is derived from its formula.

A monotone step function is known by the places where its code changes. Over floats each place is found by bisection over the bit
patterns of float32; over an accumulator's integers every value is tried. ``tail`` is whatever PyTorch computes between the value
that is compared and the quantiser (BatchNorm, activations ...), run by PyTorch itself in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from bitfold.errors import ExportError
from bitfold.export.steps import TorchFunction
from bitfold.ir.encoding import Coded, values
from bitfold.quantizers.base import Quantizer

CHUNK = 1 << 22  # values that run through a tail at once: 16 MB of float32
MAX_TRIALS = 1 << 28  # a search over integers that needs more goes the float way; about three seconds on one core


@dataclass(frozen=True, eq=False)
class Thresholds:
    """``rows``: (channels or 1, levels - 1), rising, float32 or int32. ``descending``: per channel, None if none is."""

    rows: np.ndarray
    descending: np.ndarray | None

    @property
    def per_tensor(self) -> bool:
        return len(self.rows) == 1 and self.descending is None


class Entries:
    """The alphabet's entry number that a quantiser gives to x, channels along axis 1."""

    def __init__(self, quantizer: Quantizer, encoding: Coded, tail: Sequence[TorchFunction] = ()) -> None:
        self.quantizer, self.encoding, self.tail = quantizer, encoding, tail
        self.alphabet = np.array(encoding.alphabet())
        self._entry_of = np.full(encoding.max_code - encoding.min_code + 1, -1)
        self._entry_of[self.alphabet - encoding.min_code] = np.arange(len(self.alphabet))

    def __call__(self, x: Tensor) -> np.ndarray:
        for function in self.tail:
            x = function(x)
        codes = self.quantizer.codes(x).cpu().numpy()
        inside = codes.shape == tuple(x.shape) and codes.min() >= self.encoding.min_code and codes.max() <= self.encoding.max_code
        entries = self._entry_of[codes - self.encoding.min_code] if inside else np.array(-1)
        if entries.min() < 0:
            raise ExportError(f"{type(self.quantizer).__name__}.codes gives codes outside its encoding {self.encoding}")
        return np.asarray(entries)


def spread(values_: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(C, K) trial values as a batch of the layer's rank: (1, C, K, 1) for images, (K, C) for vectors."""
    return values_[None, :, :, None] if len(shape) == 3 else values_.T.contiguous()


def gather(entries: np.ndarray) -> np.ndarray:
    """Back to (C, K)."""
    return entries[0, :, :, 0] if entries.ndim == 4 else entries.T


# ---- float32


def float_thresholds(entries: Entries, shape: tuple[int, ...]) -> Thresholds | None:
    """Thresholds for a float32 input of ``shape`` (per sample); None if the function is not monotone in each channel."""
    channels, levels = shape[0], len(entries.alphabet)

    def at(x: np.ndarray) -> np.ndarray:
        return gather(entries(spread(torch.from_numpy(x), shape)))

    largest = np.finfo(np.float32).max
    ends = at(np.tile(np.array([-largest, largest], np.float32), (channels, 1)))
    falling = ends[:, 0] > ends[:, 1]
    number = np.arange(1, levels)[None, :]

    def reached(x: np.ndarray) -> np.ndarray:
        return _reached(at(x), falling, number, levels)

    top = _key(np.array(largest, np.float32))
    low, high = np.full((channels, levels - 1), -top), np.full((channels, levels - 1), top + 1)
    while (low < high).any():  # the smallest key that reaches the entry; top + 1 if none does
        middle = (low + high) >> 1
        hit, open_ = reached(_float(np.minimum(middle, top))), low < high
        low, high = np.where(open_ & ~hit, middle + 1, low), np.where(open_ & hit, middle, high)
    rows = _float(np.minimum(low, top))
    rows = np.where(low > top, np.float32(np.inf), np.where(low == -top, np.float32(-np.inf), rows)).astype(np.float32)
    return _checked(at, rows, falling)


def _reached(entry: np.ndarray, falling: np.ndarray, number: np.ndarray, levels: int) -> np.ndarray:
    """Whether x is at or beyond the threshold that begins entry ``number`` (counted from the top in falling channels)."""
    return np.where(falling[:, None], levels - 1 - entry, entry) >= number


def _checked(at: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, falling: np.ndarray) -> Thresholds | None:
    """The thresholds, if they decide as ``at`` does at their neighbours and at values of every size."""
    rng = np.random.default_rng(0)
    channels, count = rows.shape
    below, above = np.nextafter(rows, np.float32(-np.inf)), np.nextafter(rows, np.float32(np.inf))
    trials = [np.nan_to_num(x) for x in (below, rows, above)]
    trials += [rng.standard_normal((channels, 64), dtype=np.float32) * np.float32(10.0**e) for e in range(-6, 5)]
    for trial in trials:
        expected = np.stack([np.searchsorted(row, t, side="right") for row, t in zip(rows, trial, strict=True)])
        if (at(trial) != np.where(falling[:, None], count - expected, expected)).any():
            return None
    return _smallest(rows, falling)


def _smallest(rows: np.ndarray, falling: np.ndarray) -> Thresholds:
    """One row where all channels agree."""
    if falling.any():
        return Thresholds(rows, falling)
    return Thresholds(rows[:1] if (rows == rows[0]).all() else rows, None)


def _key(x: np.ndarray) -> np.ndarray:
    """Integers in the order of the floats; both zeros are 0."""
    bits = x.astype(np.float32).view(np.int32).astype(np.int64)
    return np.where(bits >= 0, bits, -(bits + (1 << 31)))


def _float(key: np.ndarray) -> np.ndarray:
    return np.where(key >= 0, key, -key - (1 << 31)).astype(np.int32).view(np.float32)


# ---- integers


@dataclass(frozen=True, eq=False)
class Accumulated:
    """What a layer makes of its accumulator D before the tail: float32(mul * D + bias), per channel; |D| <= bound.

    One rounding, as if PyTorch summed exactly. ``shape`` is the layer's output.
    """

    mul: np.ndarray
    bias: np.ndarray
    bound: int
    shape: tuple[int, ...]

    def __call__(self, d: np.ndarray) -> Tensor:
        """(K,) -> the layer's output for these accumulators, channels along axis 1."""
        y = self.mul[:, None] * d[None, :].astype(np.float64) + self.bias[:, None]
        return spread(torch.from_numpy(y.astype(np.float32)), self.shape)


def integer_thresholds(layer: Accumulated, entries: Entries, rising: Sequence[TorchFunction] | None = None) -> Thresholds | None:
    """Thresholds on D that decide as the tail does for every integer of the range; None if it is not monotone in some channel.

    ``rising``: the functions in front of a max-pooling, which must not fall in any channel if the pooling is to run on integers.
    """
    channels, levels = len(layer.mul), len(entries.alphabet)
    if (2 * layer.bound + 1) * channels > MAX_TRIALS:
        return None
    ends = gather(entries(layer(np.array([-layer.bound, layer.bound]))))
    falling = ends[:, 0] > ends[:, 1]
    number = np.arange(1, levels)[None, :]
    rows = np.full((channels, levels - 1), -layer.bound, dtype=np.int64)
    previous: np.ndarray | None = None
    before_pool: np.ndarray | None = None
    for d in _chunks(layer.bound, max(2, CHUNK // channels)):
        entry = gather(entries(layer(d)))
        entry = np.where(falling[:, None], levels - 1 - entry, entry)
        if not _never_falls(previous, entry):
            return None
        previous = entry[:, -1:]
        if rising is not None:
            pooled = layer(d)
            for function in rising:
                pooled = function(pooled)
            value = gather(pooled.numpy())
            if not _never_falls(before_pool, value):
                return None
            before_pool = value[:, -1:]
        for k in range(levels - 1):  # a threshold lies behind every D that has not reached its entry
            rows[:, k] += (entry < number[:, k : k + 1]).sum(axis=1)
    return _smallest(rows.astype(np.int32), falling)


def _never_falls(before: np.ndarray | None, row: np.ndarray) -> bool:
    joined = row if before is None else np.concatenate([before, row], axis=1)
    return bool((joined[:, 1:] >= joined[:, :-1]).all())


def _chunks(bound: int, size: int) -> list[np.ndarray]:
    edges = [*range(-bound, bound + 1, size), bound + 1]
    return [np.arange(a, b) for a, b in pairwise(edges)]


# ---- the contract between forward, codes and encoding


def check_forward(quantizer: Quantizer, encoding: Coded, x: Tensor, channel_axis: int) -> str | None:
    """Why ``forward(x)`` is not what its codes stand for; None if it is (to 1e-5 of the largest value)."""
    stands_for = values(encoding, quantizer.codes(x).cpu().numpy(), channel_axis)
    forward = quantizer(x).detach().cpu().double().numpy()
    if forward.shape != stands_for.shape:
        return f"forward gives shape {forward.shape}, codes {stands_for.shape}"
    difference = np.abs(forward - stands_for).max(initial=0.0)
    if not difference <= 1e-5 * max(np.abs(stands_for).max(initial=0.0), np.finfo(np.float32).tiny):
        return f"forward and offset + scale * codes differ by {difference:.3g}"
    return None
