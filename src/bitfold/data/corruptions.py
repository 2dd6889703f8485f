"""Common corruptions of test images at five severities: Hendrycks and Dietterich 2019, arXiv 1903.12261 (ImageNet-C, CIFAR-10-C).

Written anew from the published code's formulas and constants: those of CIFAR-10-C for images of up to 64 pixels a side, those of
ImageNet-C for larger ones. The noise of an image depends on (seed, corruption, severity, index) alone. frost wants photographs of another
package (see frost.py). Left out: spatter, one of the four extra ones.
"""

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bitfold.data.dataset import Dataset, Images
from bitfold.data.filters import defocus, gaussian, motion, plasma, sample, zoom
from bitfold.data.frost import fitting, photographs
from bitfold.errors import ConfigError, unknown

SEVERITIES = (1, 2, 3, 4, 5)
SMALL = 64  # the longest side, in pixels, to which CIFAR-10-C's constants apply
_CHUNK = 1 << 21  # values worked on at once: 16 MB of float64

Rngs = Sequence[np.random.Generator]  # one per image
Apply = Callable[[Tensor, Any, Rngs], Tensor]  # x (n, channels, height, width) float64 in [0, 1], constants; the result may leave [0, 1]


@dataclass(frozen=True)
class _Corruption:
    apply: Apply
    small: tuple[Any, ...]  # constants of severities 1 to 5 for CIFAR-10-C
    large: tuple[Any, ...]  # for ImageNet-C
    check: Callable[[], object] = tuple  # raises where something that it needs is missing


def _drawn(rngs: Rngs, draw: Callable[[np.random.Generator], np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack([draw(rng) for rng in rngs]))


def gaussian_noise(x: Tensor, deviation: float, rngs: Rngs) -> Tensor:
    return x + _drawn(rngs, lambda rng: rng.normal(scale=deviation, size=x.shape[1:]))


def shot_noise(x: Tensor, photons: float, rngs: Rngs) -> Tensor:
    return torch.from_numpy(np.stack([rng.poisson(image) for rng, image in zip(rngs, (x * photons).numpy(), strict=True)])) / photons


def impulse_noise(x: Tensor, amount: float, rngs: Rngs) -> Tensor:
    hit = _drawn(rngs, lambda rng: rng.random(x.shape[1:])) < amount
    salt = _drawn(rngs, lambda rng: rng.random(x.shape[1:])) < 0.5
    return torch.where(hit, salt.double(), x)


def speckle_noise(x: Tensor, deviation: float, rngs: Rngs) -> Tensor:
    return x + x * _drawn(rngs, lambda rng: rng.normal(scale=deviation, size=x.shape[1:]))


def gaussian_blur(x: Tensor, sigma: float, rngs: Rngs) -> Tensor:
    return gaussian(x, sigma)


def glass_blur(x: Tensor, constants: tuple[float, int, int], rngs: Rngs) -> Tensor:
    """Blurred, pixels overwritten by near ones in a fixed order, blurred. (The published code means to swap them, but copies.)"""
    sigma, reach, rounds = constants
    pixels = (gaussian(x, sigma).clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).contiguous()
    n, height, width, _ = pixels.shape
    rows, columns = range(height - reach, reach, -1), range(width - reach, reach, -1)
    offsets = _drawn(rngs, lambda rng: rng.integers(-reach, reach, (rounds, len(rows), len(columns), 2)))
    image = torch.arange(n)
    for r in range(rounds):
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                right, down = offsets[:, r, i, j].unbind(1)
                pixels[:, row, column] = pixels[image, row + down, column + right]
    return gaussian(pixels.permute(0, 3, 1, 2).double() / 255, sigma)


def defocus_blur(x: Tensor, constants: tuple[float, float], rngs: Rngs) -> Tensor:
    return defocus(x, *constants)


def motion_blur(x: Tensor, constants: tuple[int, float], rngs: Rngs) -> Tensor:
    return _bytes(motion(x, *constants, np.array([rng.uniform(-45, 45) for rng in rngs])))


def zoom_blur(x: Tensor, factors: Sequence[float], rngs: Rngs) -> Tensor:
    total = x.clone()
    for factor in factors:
        total += zoom(x, factor)
    return total / (len(factors) + 1)


def snow(x: Tensor, constants: tuple[float, float, float, float, int, float, float], rngs: Rngs) -> Tensor:
    mean, deviation, scale, threshold, radius, sigma, keep = constants
    flakes = zoom(_drawn(rngs, lambda rng: rng.normal(mean, deviation, (1, *x.shape[2:]))), scale)
    flakes = (torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1) * 255).floor() / 255
    flakes = _bytes(motion(flakes, radius, sigma, np.array([rng.uniform(-135, -45) for rng in rngs])))
    return keep * x + (1 - keep) * torch.maximum(x, _grey(x) * 1.5 + 0.5) + flakes + flakes.rot90(2, (2, 3))


def frost(x: Tensor, constants: tuple[float, float], rngs: Rngs) -> Tensor:
    """A random part of one of five photographs added; its grey where images are not of three channels."""
    keep, added = constants
    height, width = x.shape[2:]

    def part(rng: np.random.Generator) -> np.ndarray:
        photograph = fitting(int(rng.integers(5)), height, width, max(height, width) <= SMALL)
        y, z = (int(rng.integers(0, of - size)) for of, size in zip(photograph.shape, (height, width), strict=False))
        return photograph[y : y + height, z : z + width].transpose(2, 0, 1) / 255

    ice = _drawn(rngs, part)
    return keep * x + added * (ice if x.shape[1] == 3 else _grey(ice))


def fog(x: Tensor, constants: tuple[float, float], rngs: Rngs) -> Tensor:
    strength, decay = constants
    height, width = x.shape[2:]
    size = 1 << (max(height, width) - 1).bit_length()
    haze = plasma(size, decay, rngs)[:, None, :height, :width]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + strength * haze) * brightest / (brightest + strength)


def brightness(x: Tensor, added: float, rngs: Rngs) -> Tensor:
    """Added to V of HSV, which scales the colour."""
    v = x.amax(1, keepdim=True)
    wanted = (v + added).clamp(max=1)
    return torch.where(v > 0, x * (wanted / v.clamp(min=1e-12)), wanted)


def contrast(x: Tensor, factor: float, rngs: Rngs) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * factor + mean


def saturate(x: Tensor, constants: tuple[float, float], rngs: Rngs) -> Tensor:
    """S of HSV times a factor plus a shift; grey has hue 0, so that a shift makes it red, as in the published images."""
    if x.shape[1] != 3:
        raise ConfigError(f"corruption 'saturate': images have {x.shape[1]} channels; allowed: 3")
    factor, shift = constants
    v, low = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    spread = v - low
    saturation = (spread / v.clamp(min=1e-12) * factor + shift).clamp(0, 1)
    red = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)[:, None, None]
    missing = torch.where(spread > 0, (v - x) / spread.clamp(min=1e-12), red)
    return v * (1 - saturation * missing)


def elastic_transform(x: Tensor, constants: tuple[float, float, float], rngs: Rngs) -> Tensor:
    """Three points of the image moved at random, then every pixel by a smooth field."""
    strength, sigma, jitter = constants
    height, width = x.shape[2:]
    side = min(height, width) // 3
    centre = np.array([width // 2, height // 2], dtype=np.float64)
    points = centre + np.array([[side, side], [side, -side], [-side, -side]])  # (x, y)
    moved = points + np.stack([rng.uniform(-jitter, jitter, points.shape) for rng in rngs])  # (n, 3, 2)
    ones = np.ones((len(rngs), 3, 1))
    back = torch.from_numpy(np.linalg.solve(np.concatenate([moved, ones], 2), np.broadcast_to(points, moved.shape)))  # (n, 3, 2)
    rows, columns = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    source = torch.stack([columns, rows, torch.ones_like(rows)], -1).reshape(1, -1, 3) @ back
    warped = sample(x, source[..., 1].reshape(-1, height, width), source[..., 0].reshape(-1, height, width), "reflect")
    fields = gaussian(_drawn(rngs, lambda rng: rng.uniform(-1, 1, (2, height, width))), sigma, "symmetric", 3.0) * strength
    return sample(warped, rows + fields[:, 1], columns + fields[:, 0], "symmetric")


def pixelate(x: Tensor, factor: float, rngs: Rngs) -> Tensor:
    def coarse(image: Image.Image) -> Image.Image:
        small = image.resize((int(image.width * factor), int(image.height * factor)), Image.Resampling.BOX)
        return small.resize(image.size, Image.Resampling.BOX)

    return _each(x, coarse)


def jpeg_compression(x: Tensor, quality: int, rngs: Rngs) -> Tensor:
    def compressed(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(x, compressed)


def _grey(x: Tensor) -> Tensor:
    """(n, channels, height, width) to (n, 1, height, width)."""
    weights = torch.tensor([0.299, 0.587, 0.114] if x.shape[1] == 3 else [1 / x.shape[1]] * x.shape[1], dtype=torch.float64)
    return (x * weights[:, None, None]).sum(1, keepdim=True)


def _bytes(x: Tensor) -> Tensor:
    """Rounded to 256 levels, as a library that works on bytes leaves it."""
    return (x.clamp(0, 1) * 255).round() / 255


def _each(x: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """A function of Pillow's on every image; one or three channels."""
    if x.shape[1] not in (1, 3):
        raise ConfigError(f"corruptions 'pixelate' and 'jpeg_compression': images have {x.shape[1]} channels; allowed: 1 or 3")
    pixels = (x * 255).round().byte().permute(0, 2, 3, 1).numpy()
    changed = np.stack([np.asarray(change(Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image))) for image in pixels])
    return torch.from_numpy(changed.reshape(pixels.shape)).permute(0, 3, 1, 2).double() / 255


def _zooms(*ends_and_steps: tuple[float, float]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(np.arange(1, end, step).tolist()) for end, step in ends_and_steps)


# constants: hendrycks/robustness, ImageNet-C/create_c/make_cifar_c.py and make_imagenet_c.py
_ALL: dict[str, _Corruption] = {
    "gaussian_noise": _Corruption(gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": _Corruption(shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": _Corruption(impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus_blur": _Corruption(
        defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)), ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
    ),
    "glass_blur": _Corruption(
        glass_blur,
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "motion_blur": _Corruption(motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom_blur": _Corruption(
        zoom_blur,
        _zooms((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        _zooms((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    "snow": _Corruption(
        snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "frost": _Corruption(
        frost,
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        photographs,
    ),
    "fog": _Corruption(fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)), ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "brightness": _Corruption(brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": _Corruption(contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": _Corruption(
        elastic_transform,
        ((0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)),
        ((488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88), (29.28, 2.44, 4.88)),
    ),
    "pixelate": _Corruption(pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": _Corruption(jpeg_compression, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
    "speckle_noise": _Corruption(speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.35, 0.45, 0.6)),
    "gaussian_blur": _Corruption(gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6)),
    "saturate": _Corruption(
        saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)), ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))
    ),
}
_EXTRA = ("speckle_noise", "gaussian_blur", "saturate")  # published beside the common ones, for validation
COMMON = tuple(name for name in _ALL if name not in _EXTRA)
NAMES = tuple(_ALL)


def corrupt(dataset: Dataset, name: str, severity: int, seed: int = 0) -> Dataset:
    """``dataset`` with every image corrupted when it is read; bytes as before, the labels untouched.

    name: one of NAMES; severity: 1 to 5. Raises ConfigError, also where frost's photographs are not installed. Results do not depend on
    the batches or the order of reading.
    """
    if name not in _ALL:
        raise unknown("corruption", name, NAMES)
    if severity not in SEVERITIES:
        raise ConfigError(f"corruption {name!r}: severity {severity}; allowed: 1 to 5")
    _ALL[name].check()
    indices = torch.arange(len(dataset))
    return replace(dataset, images=CorruptedImages(dataset.images, indices, dataset.max_value, name, severity, seed))


@dataclass(frozen=True, eq=False)
class CorruptedImages:
    """Images on demand for ``Dataset.images``; ``indices``: their places in the whole data set, which decide their noise."""

    images: Tensor | Images
    indices: Tensor
    max_value: int
    name: str
    severity: int
    seed: int

    @property
    def shape(self) -> Sequence[int]:
        return (len(self.indices), *self.images.shape[1:])

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def select(self, indices: Tensor) -> "CorruptedImages":
        return replace(self, indices=self.indices[indices])

    def __getitem__(self, indices: Tensor) -> Tensor:
        at = self.indices[indices]
        size = max(1, _CHUNK // int(np.prod(self.shape[1:])))
        return torch.cat([self._corrupted(part) for part in at.split(size)])

    def _corrupted(self, at: Tensor) -> Tensor:
        found = _ALL[self.name]
        constants = (found.small if max(self.shape[2:]) <= SMALL else found.large)[self.severity - 1]
        key = (self.seed, zlib.crc32(self.name.encode()), self.severity)
        rngs = [np.random.default_rng((*key, index)) for index in at.tolist()]
        x = self.images[at.to(self.images.device)].cpu().double() / self.max_value
        return (found.apply(x, constants, rngs).clamp(0, 1) * self.max_value).byte()  # truncated, as published
