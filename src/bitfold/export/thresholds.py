"""Exact thresholds of a quantiser, found by asking it for codes: nothing is derived from its formula.

A monotone step function is known by the places where its code changes. Over floats each place is found by bisection over the bit
patterns of float32, or over an accumulator's integers. ``tail`` is whatever PyTorch computes between the value
that is compared and the quantiser (BatchNorm, activations ...), run by PyTorch itself in float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bitfold.errors import ExportError
from bitfold.export.steps import TorchFunction
from bitfold.ir.encoding import Coded, values
from bitfold.quantizers.base import Quantizer

CHUNK = 1 << 22  # values that run through a tail at once: 16 MB of float32
MAX_TRIALS = 1 << 27  # where every integer is tried, layers that need more take the float way; some seconds on one core


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


# PyTorch computes whole vectors of a channel's pixels one way and the few left over another (with or without a fused multiply-add);
# trials stand where most pixels of a real image do.
_PIXELS = 64


def spread(trials: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(C, K) trial values as a batch of the layer's rank: (1, C, K rounded up, 1) for images, (K, C) for vectors."""
    if len(shape) == 1:
        return trials.T.contiguous()
    return torch.nn.functional.pad(trials, (0, -trials.shape[1] % _PIXELS))[None, :, :, None]


def gather(entries: np.ndarray, count: int) -> np.ndarray:
    """Back to (C, K)."""
    return entries[0, :, :count, 0] if entries.ndim == 4 else entries.T[:, :count]


AtTrials = Callable[[np.ndarray], np.ndarray]  # (C, K) trial values -> (C, K) entries


def _first_reaching(at: AtTrials, falling: np.ndarray, low: int, high: int, levels: int) -> np.ndarray:
    """(C, levels - 1): by bisection, the smallest integer in [low, high] with which each entry is reached; high + 1 if none does.

    Entries count from the top in falling channels.
    """
    number = np.arange(1, levels)[None, :]
    first, last = np.full((len(falling), levels - 1), low), np.full((len(falling), levels - 1), high + 1)
    while (first < last).any():
        middle, open_ = (first + last) >> 1, first < last
        entry = at(np.minimum(middle, high))
        reached = np.where(falling[:, None], levels - 1 - entry, entry) >= number
        first, last = np.where(open_ & ~reached, middle + 1, first), np.where(open_ & reached, middle, last)
    return first


def _smallest(rows: np.ndarray, falling: np.ndarray) -> Thresholds:
    """One row where all channels agree."""
    if falling.any():
        return Thresholds(rows, falling)
    return Thresholds(rows[:1] if (rows == rows[0]).all() else rows, None)


def _decide(rows: np.ndarray, falling: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """The entries that the thresholds give: what Quantize computes."""
    count = np.stack([np.searchsorted(row, trial, side="right") for row, trial in zip(rows, trials, strict=True)])
    return np.where(falling[:, None], rows.shape[1] - count, count)


# ---- float32


def float_thresholds(entries: Entries, shape: tuple[int, ...]) -> Thresholds | None:
    """Thresholds for a float32 input of ``shape`` (per sample); None if the function is not monotone in each channel."""

    def at(x: np.ndarray) -> np.ndarray:
        return gather(entries(spread(torch.from_numpy(x), shape)), x.shape[1])

    channels, levels = shape[0], len(entries.alphabet)
    ends = at(np.tile(np.array([-_LARGEST, _LARGEST]), (channels, 1)))
    falling = ends[:, 0] > ends[:, 1]
    if levels > _MANY_LEVELS and (ends == ends[0]).all():  # perhaps all channels are alike: share the levels out among them

        def shared(x: np.ndarray) -> np.ndarray:
            return at(np.resize(x, (channels, -(-x.size // channels)))).reshape(1, -1)[:, : x.size]

        rows = np.tile(_float_rows(shared, falling[:1], levels), (channels, 1))
        if _agrees(at, rows, falling):
            return _smallest(rows, falling)
    rows = _float_rows(at, falling, levels)
    return _smallest(rows, falling) if _agrees(at, rows, falling) else None


_LARGEST = np.float32(2.0**100)  # the search's range: beyond any network's values, and no scaled value overflows
_MANY_LEVELS = 16


def _float_rows(at: AtTrials, falling: np.ndarray, levels: int) -> np.ndarray:
    top = int(_key(np.array(_LARGEST)))
    keys = _first_reaching(lambda k: at(_float(k)), falling, -top, top, levels)
    rows = np.where(keys > top, np.inf, np.where(keys == -top, -np.inf, _float(np.minimum(keys, top))))
    return rows.astype(np.float32)


def _agrees(at: AtTrials, rows: np.ndarray, falling: np.ndarray) -> bool:
    """Whether the thresholds decide as ``at`` does, at their neighbours and at values of every size."""
    rng = np.random.default_rng(0)
    below, above = np.nextafter(rows, -np.float32(np.inf)), np.nextafter(rows, np.float32(np.inf))
    sizes = [rng.standard_normal((len(rows), 64), dtype=np.float32) * np.float32(10.0**e) for e in range(-6, 5)]
    trials = [np.nan_to_num(x) for x in (below, rows, above)] + sizes
    return all((at(x) == _decide(rows, falling, x)).all() for x in trials)


def _key(x: np.ndarray) -> np.ndarray:
    """Integers in the order of the floats; both zeros are 0."""
    bits = x.astype(np.float32).view(np.int32).astype(np.int64)
    return np.where(bits >= 0, bits, -(bits + (1 << 31)))


def _float(key: np.ndarray) -> np.ndarray:
    return np.where(key >= 0, key, -key - (1 << 31)).astype(np.int32).view(np.float32)


# ---- integers


@dataclass(frozen=True, eq=False)
class Accumulated:
    """What a layer makes of its accumulator D before the tail: float32(mul * D + bias), per channel; low <= D <= high.

    One rounding, as if PyTorch summed exactly. ``shape`` is the layer's output.
    """

    mul: np.ndarray
    bias: np.ndarray
    low: int
    high: int
    shape: tuple[int, ...]

    def __call__(self, d: np.ndarray) -> Tensor:
        """(C, K) or (1, K) accumulators -> the layer's output, as ``spread`` lays it out."""
        y = self.mul[:, None] * d.astype(np.float64) + self.bias[:, None]
        return spread(torch.from_numpy(y.astype(np.float32)), self.shape)


def integer_thresholds(layer: Accumulated, entries: Entries, monotone: bool) -> Thresholds | None:
    """Thresholds on D that decide as the tail does for every integer of the range; None if it is not monotone in some channel.

    ``monotone`` says that no function of the tail can turn round, rounded or not: then the places are found by bisection. Otherwise
    every integer is tried, which may still show rising or falling codes.
    """

    def at(d: np.ndarray) -> np.ndarray:
        return gather(entries(layer(d)), d.shape[1])

    ends = at(np.array([[layer.low, layer.high]]))
    falling = ends[:, 0] > ends[:, 1]
    if monotone:
        rows = _first_reaching(at, falling, layer.low, layer.high, len(entries.alphabet))
        sample = np.random.default_rng(0).integers(layer.low, layer.high + 1, (len(rows), 64))
        around = [np.clip(rows + shift, layer.low, layer.high) for shift in (-1, 0, 1)]
        agrees = all((at(d) == _decide(rows, falling, d)).all() for d in [*around, sample])
        return _smallest(rows.astype(np.int32), falling) if agrees else None
    return _by_every_integer(at, layer, falling, len(entries.alphabet))


def _by_every_integer(at: AtTrials, layer: Accumulated, falling: np.ndarray, levels: int) -> Thresholds | None:
    channels = len(falling)
    if (layer.high + 1 - layer.low) * channels > MAX_TRIALS:
        return None
    seen = np.zeros((channels, levels), dtype=np.int64)  # how many integers have each entry
    previous = np.zeros((channels, 1), dtype=np.int64)
    size = max(_PIXELS, CHUNK // channels)
    for first in range(layer.low, layer.high + 1, size):
        entry = at(np.arange(first, min(first + size, layer.high + 1))[None, :])
        entry = np.where(falling[:, None], levels - 1 - entry, entry)
        if (np.diff(entry, axis=1, prepend=previous) < 0).any():
            return None
        previous = entry[:, -1:]
        seen += np.bincount((entry + levels * np.arange(channels)[:, None]).reshape(-1), minlength=levels * channels).reshape(seen.shape)
    rows = layer.low + seen.cumsum(axis=1)[:, :-1]  # a threshold lies behind every D that has not reached its entry
    return _smallest(rows.astype(np.int32), falling)


def never_falls(layer: Accumulated, functions: Sequence[TorchFunction]) -> bool:
    """Whether monotone functions of D rise (or stay) in every channel."""
    ends = layer(np.array([[layer.low, layer.high]]))
    for function in functions:
        ends = function(ends)
    value = gather(ends.numpy(), 2)
    return bool((value[:, 0] <= value[:, 1]).all())


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
