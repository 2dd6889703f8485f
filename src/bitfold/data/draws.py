"""Random numbers as a pure function of (seed, epoch, sample, stream): no generator, no state, the same on every device.

So a batch does not depend on how many processes share it, on what was drawn before, or on where a run was resumed.
"""

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15  # SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014
_MIX1, _MIX2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def _signed(x: int) -> int:
    """The int64 of the same 64 bits."""
    x &= _MASK
    return x - (1 << 64) if x >> 63 else x


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 tensors; multiplication wraps, ``>>`` is arithmetic and so masked."""
    z = (z ^ ((z >> 30) & ((1 << 34) - 1))) * _signed(_MIX1)
    z = (z ^ ((z >> 27) & ((1 << 37) - 1))) * _signed(_MIX2)
    return z ^ ((z >> 31) & ((1 << 33) - 1))


def _key(*numbers: int) -> int:
    """One int64 of a few integers."""
    state = 0
    for number in numbers:
        state = int(_mix(torch.tensor(_signed(state + number + _GOLDEN), dtype=torch.int64)))
    return state


def bits(seed: int, epoch: int, indices: Tensor, stream: int) -> Tensor:
    """63 random bits per sample, int64 >= 0, of the shape of ``indices`` (int64, on any device)."""
    key = _key(seed, epoch, stream)
    return _mix(_mix(indices * _signed(_GOLDEN) + key)) & ((1 << 63) - 1)


class Draws:
    """The random numbers of one batch: each ``uniform()`` opens the next stream, one number per sample."""

    def __init__(self, seed: int, epoch: int, indices: Tensor, first_stream: int = 1) -> None:
        self._at = (seed, epoch, indices)
        self._stream = first_stream

    def uniform(self) -> Tensor:
        """float32 in [0, 1), shape of the batch's indices."""
        seed, epoch, indices = self._at
        drawn = bits(seed, epoch, indices, self._stream) >> 39  # 24 bits: exact in float32
        self._stream += 1
        return drawn.to(torch.float32) * 2.0**-24

    def integer(self, n: int) -> Tensor:
        """int64 in 0..n-1."""
        return (self.uniform() * n).to(torch.int64).clamp_(max=n - 1)  # the float32 product may round up to n


def permutation(seed: int, epoch: int, n: int, device: torch.device | str = "cpu") -> Tensor:
    """A random order of 0..n-1 (stream 0): the samples sorted by their random bits."""
    return torch.argsort(bits(seed, epoch, torch.arange(n, device=device), 0), stable=True)
