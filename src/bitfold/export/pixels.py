"""The integer stem: a network that takes pictures as bytes, whose first layer has integer weights and the normalisation folded in.

With x = (v / max_value - mean) / std of channel c, a float layer's sum of w x is the sum of w' (v - max_value mean) with
w' = w / (std max_value). Export stores w' as integers times a scale per output channel, and -max_value mean as ``x_offset`` of the
epilogue, because zero padding happens after normalisation: a padded tap adds neither v nor the mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bitfold.errors import ExportError
from bitfold.ir.encoding import Uniform

Input = Literal["float32", "uint8"]
Channels = float | Sequence[float]
BITS = (2, 16)  # of the stem's weights, signed


@dataclass(frozen=True)
class Pixels:
    """What a byte v of channel c means to the model: (v / max_value - mean[c]) / std[c]. ``bits``: of the first layer's weights."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    max_value: int
    bits: int

    @property
    def encoding(self) -> Uniform:
        return Uniform(8, signed=False, scale=1.0 / self.max_value)

    @property
    def x_offset(self) -> np.ndarray:
        """(channels,): a byte v counts as v + x_offset in the first layer's sum."""
        return -self.max_value * np.array(self.mean)

    def flattened(self, pixels: int) -> "Pixels":
        """The same for the features of a flattened picture, channel slowest."""
        mean, std = (tuple(np.repeat(a, pixels).tolist()) for a in (self.mean, self.std))
        return replace(self, mean=mean, std=std)

    def weight(self, weight: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
        """(codes, scale per output channel) of a layer's float weight (O, C / groups, ...): w / (std max_value) is about scale * code."""
        scaled = weight.astype(np.float64) / (self._std(weight, groups) * self.max_value)
        largest = np.abs(scaled.reshape(len(weight), -1)).max(axis=1)
        scale = np.where(largest > 0, largest, 1.0) / ((1 << (self.bits - 1)) - 1)
        return np.rint(scaled / scale.reshape((-1,) + (1,) * (weight.ndim - 1))).astype(np.int16), scale

    def codes_and_values(self, weight: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
        """The codes, and what they stand for on normalised floats: float32 of the weight's shape."""
        codes, scale = self.weight(weight, groups)
        std = self._std(weight, groups)
        return codes, (codes * scale.reshape((-1,) + (1,) * (weight.ndim - 1)) * std * self.max_value).astype(np.float32)

    def _std(self, weight: np.ndarray, groups: int) -> np.ndarray:
        """The std of each input channel that an output channel reads, to broadcast over its weight (O, C / groups, ...)."""
        std = np.array(self.std).reshape(groups, -1).repeat(len(weight) // groups, axis=0)
        return std.reshape(std.shape + (1,) * (weight.ndim - 2))

    def normalized(self, x: np.ndarray) -> np.ndarray:
        """Bytes (N, C, ...) as float32, step by step as a data loader makes the model's input."""
        mean, std = (np.array(a, dtype=np.float32).reshape((-1,) + (1,) * (x.ndim - 2)) for a in (self.mean, self.std))
        return (x.astype(np.float32) / np.float32(self.max_value) - mean) / std  # type: ignore[no-any-return]

    @property
    def metadata(self) -> dict[str, str]:
        """How the file says it: the keys that ``bitfold run`` and ``verify`` read."""
        mean, std = (" ".join(map(repr, a)) for a in (self.mean, self.std))
        return {"mean": mean, "std": std, "max_value": str(self.max_value)}


def make_pixels(mean: Channels | None, std: Channels | None, max_value: int, bits: int, channels: int) -> Pixels:
    """The arguments of ``export`` for a picture of ``channels`` channels; ExportError for what cannot be."""
    both = []
    for name, given in (("mean", mean), ("std", std)):
        values = np.array([] if given is None else given, dtype=np.float64).reshape(-1)
        if values.size not in (1, channels) or not np.isfinite(values).all() or (name == "std" and (values <= 0).any()):
            kind = "positive numbers" if name == "std" else "finite numbers"
            raise ExportError(f"export: {name}={given!r}; allowed with input='uint8': 1 or {channels} {kind}, as the training had them")
        both.append(tuple(np.broadcast_to(values, channels).tolist()))
    if not BITS[0] <= bits <= BITS[1]:
        raise ExportError(f"export: stem_bits={bits}; allowed: {BITS[0]} to {BITS[1]}")
    if not 1 <= max_value <= 255:
        raise ExportError(f"export: max_value={max_value}; allowed: 1 to 255, the byte that stands for 1.0")
    return Pixels(both[0], both[1], max_value, bits)


def pixels_of(metadata: Mapping[str, str], channels: int, bits: int) -> Pixels:
    """The normalisation that a file states. ExportError where it states none."""
    try:
        mean, std = ([float(v) for v in metadata[key].split()] for key in ("mean", "std"))
        max_value = int(metadata.get("max_value", "255"))
    except (KeyError, ValueError) as error:
        raise ExportError(f"the graph takes bytes, but its metadata do not say their mean and std ({error}); export it again") from None
    return make_pixels(mean, std, max_value, bits, channels)


def most_bits(products: int) -> int:
    """The most bits of signed weights whose sums of ``products`` products with bytes stay within 31 bits."""
    return (((1 << 31) - 1) // (products * 255)).bit_length()
