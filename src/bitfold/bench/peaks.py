"""What one core can do at best: the instruction mixes of the kernels' inner loops on registers alone, and reading memory."""

from dataclasses import dataclass

import numpy as np

from bitfold import _core

KINDS = ("popcount", "int8", "int8_narrow", "int16", "sad", "fma")
# Which peak bounds a kernel family. Families of narrow codes are held against the faster int8 mix, where sums stay in 16 bits.
CEILING = {
    "conv_b1": "popcount",
    "conv_planes": "popcount",
    "conv_i8": "int8_narrow",
    "dense_packed": "int8_narrow",
    "conv_u8": "int16",
    "conv_i16": "int16",
    "adder_u8": "sad",
    "conv_f32": "fma",
}
_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Peaks:
    """``gmacs``: 1e9 products a second by kind; ``memory`` and ``cache``: GB/s from memory and from the first-level cache; ``isa``."""

    isa: str
    gmacs: dict[str, float]
    memory: float
    cache: float


def measure(repeats: int = 30) -> Peaks | None:
    """The best of ``repeats`` short runs of each, interleaved: a ceiling is what the undisturbed core does. None without vector kernels."""
    isa = _core.active_isa()
    if isa == "scalar":
        return None
    best = dict.fromkeys(KINDS, 0.0)
    large, small = np.ones(256 * _MEGABYTE, np.uint8), np.ones(16 << 10, np.uint8)
    memory = cache = 0.0
    for i in range(repeats):
        for kind in KINDS:
            best[kind] = max(best[kind], _core.peak_rate(kind, 50_000))
        cache = max(cache, _core.read_rate(small))
        if i % 6 == 0:  # 256 MB take a while
            memory = max(memory, _core.read_rate(large))
    return Peaks(isa, {kind: rate / 1e9 for kind, rate in best.items()}, memory / 1e9, cache / 1e9)
