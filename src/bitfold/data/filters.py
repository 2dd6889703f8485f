"""Image operations that the corruptions are made of, on batches (n, channels, height, width) of float64.

Each does what the library behind the published corruptions does (named with it), so that pixels agree to rounding.
"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Border: TypeAlias = Literal["nearest", "symmetric", "reflect"]


def _source(at: Tensor, size: int, border: Border) -> Tensor:
    """The pixel in 0..size-1 that stands for position ``at``: nearest aaa|abcd|ddd, symmetric cba|abcd|dcb, reflect dcb|abcd|cba."""
    if border == "nearest" or size == 1:
        return at.clamp(0, size - 1)
    period = 2 * size if border == "symmetric" else 2 * size - 2
    at = at.remainder(period)
    return torch.minimum(at, period - 1 - at if border == "symmetric" else period - at)


def gaussian(x: Tensor, sigma: float, border: Border = "nearest", truncate: float = 4.0) -> Tensor:
    """Gaussian blur of height and width (scikit-image ``gaussian``): weights exp(-k^2 / 2 sigma^2) up to truncate * sigma pixels."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return x
    k = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (k.double() / sigma) ** 2)
    rows, columns = (_filter_matrix(k, weights / weights.sum(), size, border) for size in x.shape[2:])
    return rows @ x @ columns.T


def _filter_matrix(offsets: Tensor, weights: Tensor, size: int, border: Border) -> Tensor:
    """(size, size): row i holds the weights of the pixels that make pixel i."""
    out = torch.arange(size)[:, None].expand(-1, len(offsets))
    source = _source(out + offsets, size, border)
    return torch.zeros(size, size, dtype=torch.float64).index_put_((out, source), weights.expand(size, -1), accumulate=True)


def defocus(x: Tensor, radius: float, alias: float) -> Tensor:
    """A disk of that radius, antialiased by a Gaussian of ``alias``, as a filter (OpenCV ``filter2D``)."""
    reach = max(8, int(radius))
    line = torch.arange(-reach, reach + 1).double()
    disk = ((line[:, None] ** 2 + line**2) <= radius**2).double()
    size = 1 if radius <= 8 else 2  # OpenCV's kernel of 3 or 5 pixels
    k = torch.arange(-size, size + 1).double()
    soft = torch.exp(-0.5 * (k / alias) ** 2)
    soft = soft / soft.sum()
    kernel = F.conv2d((disk / disk.sum())[None, None], (soft[:, None] * soft)[None, None], padding=size)[0, 0]
    keep = min(reach, int(radius) + size)  # zeros around it cost time and want a wider border
    kernel = kernel[reach - keep : reach + keep + 1, reach - keep : reach + keep + 1]
    return _correlate(x, kernel, keep)


def _correlate(x: Tensor, kernel: Tensor, pad: int) -> Tensor:
    """As a sum of shifted images: PyTorch's convolution of float64 is many times slower."""
    rows, columns = (_source(torch.arange(-pad, size + pad), size, "reflect") for size in x.shape[2:])
    height, width = x.shape[2:]
    padded = x[:, :, rows][:, :, :, columns]
    out = torch.zeros_like(x)
    for i, j in kernel.nonzero().tolist():
        out.add_(padded[:, :, i : i + height, j : j + width], alpha=kernel[i, j].item())
    return out


def motion(x: Tensor, radius: int, sigma: float, degrees: np.ndarray) -> Tensor:
    """Half a Gaussian along a line, one angle per image (ImageMagick ``MotionBlurImage``): 2 radius + 1 taps, border pixels repeated."""
    taps = np.arange(2 * radius + 1)
    weights = np.exp(-0.5 * (taps / sigma) ** 2)
    weights /= weights.sum()
    height, width = x.shape[2:]
    angle = np.deg2rad(degrees)[:, None]
    down = torch.from_numpy(np.ceil(taps * np.sin(angle) - 0.5)).long()  # (n, taps)
    right = torch.from_numpy(np.ceil(taps * np.cos(angle) - 0.5)).long()
    out = torch.zeros_like(x)
    for i, weight in enumerate(weights.tolist()):
        rows = (torch.arange(height) + down[:, i, None]).clamp(0, height - 1)[:, None, :, None].expand(x.shape)
        columns = (torch.arange(width) + right[:, i, None]).clamp(0, width - 1)[:, None, None, :].expand(x.shape)
        out.add_(x.gather(2, rows).gather(3, columns), alpha=weight)
    return out


def zoom(x: Tensor, factor: float) -> Tensor:
    """The centre magnified to the old size, linearly (SciPy ``zoom`` of a square cut-out, order 1)."""
    rows, columns = (_zoom_matrix(size, factor) for size in x.shape[2:])
    return rows @ x @ columns.T


def _zoom_matrix(size: int, factor: float) -> Tensor:
    """(size, size): row i holds the weights of the two pixels that make pixel i."""
    cut = math.ceil(size / factor)
    big = round(cut * factor)
    at = (torch.arange(size) + (big - size) // 2) * ((cut - 1) / max(big - 1, 1))
    low = at.floor().long().clamp(0, cut - 2)
    first = (size - cut) // 2
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix[torch.arange(size), first + low] = 1 - (at - low).double()
    matrix[torch.arange(size), first + low + 1] = (at - low).double()
    return matrix


def sample(x: Tensor, rows: Tensor, columns: Tensor, border: Border) -> Tensor:
    """x at real positions (n, height, width), linearly (OpenCV ``warpAffine``: "reflect"; SciPy ``map_coordinates``: "symmetric")."""
    height, width = x.shape[2:]
    top, left = rows.floor(), columns.floor()
    down, right = (rows - top)[:, None], (columns - left)[:, None]
    r0, r1 = (_source(top.long() + i, height, border) for i in (0, 1))
    c0, c1 = (_source(left.long() + i, width, border) for i in (0, 1))
    image = torch.arange(len(x))[:, None, None]

    def at(r: Tensor, c: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)[image, r, c].permute(0, 3, 1, 2)

    upper = at(r0, c0) * (1 - right) + at(r0, c1) * right
    return upper * (1 - down) + (at(r1, c0) * (1 - right) + at(r1, c1) * right) * down


def plasma(size: int, decay: float, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Cloudy height maps (n, size, size) in 0..1 that repeat at their borders: diamond-square, noise divided by ``decay`` per level.

    ``size``: a power of two. Every new point is the mean of its four neighbours plus noise^2 U(-1, 1); noise begins with 100.
    """
    z = np.zeros((len(rngs), size, size))
    step, noise = size, 100.0

    def added(near: np.ndarray) -> np.ndarray:
        return near / 4 + noise * np.stack([rng.uniform(-noise, noise, near.shape[1:]) for rng in rngs])

    while step >= 2:
        half = step // 2
        corners = z[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, 1)
        centres = added(pairs + np.roll(pairs, -1, 2))
        z[:, half::step, half::step] = centres
        z[:, ::step, half::step] = added(centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 2))
        z[:, half::step, ::step] = added(centres + np.roll(centres, 1, 2) + corners + np.roll(corners, -1, 1))
        step, noise = half, noise / decay
    z -= z.min((1, 2), keepdims=True)
    return torch.from_numpy(z / z.max((1, 2), keepdims=True))
