"""Batched augmentation on the device. A step is written ``name`` or ``name:number``, for example ``("pad_crop:4", "flip")``.

Steps run in the order given, in three phases: on bytes, on values in [0, 1], on normalised values. Every random number is a function
of (seed, epoch, sample), see ``bitfold.data.draws``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from bitfold.data.draws import Draws
from bitfold.errors import ConfigError, unknown

Phase: TypeAlias = Literal["bytes", "unit", "normalized"]


@dataclass(frozen=True)
class Step:
    """``apply(x, number, draws)``: x is (n, channels, height, width); ``default`` is the number when none is written."""

    phase: Phase
    default: float | None  # None: the step takes no number
    low: float  # smallest number allowed
    apply: Callable[[Tensor, float, Draws], Tensor]


def pad_crop(x: Tensor, pad: float, draws: Draws) -> Tensor:
    """Zero padding on all sides, then a random window of the old size: a shift by -pad..pad."""
    n, _, height, width = x.shape
    p = int(pad)
    top, left = draws.integer(2 * p + 1), draws.integer(2 * p + 1)
    windows = F.pad(x, (p, p, p, p)).unfold(2, height, 1).unfold(3, width, 1)  # a view: (n, channels, top, left, height, width)
    return windows[torch.arange(n, device=x.device), :, top, left]


def flip(x: Tensor, _: float, draws: Draws) -> Tensor:
    """Left-right mirror of half of the images."""
    return torch.where((draws.uniform() < 0.5)[:, None, None, None], x.flip(3), x)


def cutout(x: Tensor, size: float, draws: Draws) -> Tensor:
    """Zeroes (the mean) a size x size square around a random pixel, cut at the border (DeVries & Taylor 2017, arXiv 1708.04552)."""
    height, width = x.shape[2:]
    side = int(size)

    def inside(length: int) -> Tensor:  # (n, length)
        offset = torch.arange(length, device=x.device) - draws.integer(length)[:, None] + side // 2
        return (offset >= 0) & (offset < side)

    rows, columns = inside(height), inside(width)
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def random_resized_crop(x: Tensor, smallest: float, draws: Draws) -> Tensor:
    """A random box of smallest..1 of the area and aspect 3/4..4/3, resampled (bilinear) to the old size."""
    n, _, height, width = x.shape
    area = smallest + (1 - smallest) * draws.uniform()
    aspect = torch.exp((2 * draws.uniform() - 1) * torch.log(torch.tensor(4 / 3)).item())
    box_width = torch.sqrt(area * aspect).clamp_(max=1.0)
    box_height = torch.sqrt(area / aspect).clamp_(max=1.0)
    theta = torch.zeros(n, 2, 3, device=x.device, dtype=x.dtype)
    theta[:, 0, 0], theta[:, 1, 1] = box_width, box_height
    theta[:, 0, 2] = (2 * draws.uniform() - 1) * (1 - box_width)
    theta[:, 1, 2] = (2 * draws.uniform() - 1) * (1 - box_height)
    grid = F.affine_grid(theta, [n, x.shape[1], height, width], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def color_jitter(x: Tensor, strength: float, draws: Draws) -> Tensor:
    """Brightness, contrast and saturation by factors 1 - strength..1 + strength; colour images only."""
    from kornia.enhance import adjust_contrast, adjust_saturation

    if x.shape[1] != 3:
        raise ConfigError(f"augmentation color_jitter needs 3 channels; these images have {x.shape[1]}")

    def factor() -> Tensor:
        return 1 + strength * (2 * draws.uniform() - 1)

    x = (x * factor()[:, None, None, None]).clamp(0, 1)
    return adjust_saturation(adjust_contrast(x, factor()), factor()).clamp(0, 1)  # type: ignore[no-any-return]


STEPS: dict[str, Step] = {
    "pad_crop": Step("bytes", 4, 1, pad_crop),
    "flip": Step("bytes", None, 0, flip),
    "random_resized_crop": Step("unit", 0.08, 0.0001, random_resized_crop),
    "color_jitter": Step("unit", 0.4, 0.0, color_jitter),
    "cutout": Step("normalized", 8, 1, cutout),
}
_BELOW_ONE = ("random_resized_crop", "color_jitter")  # numbers that are fractions; the others are whole pixels


class Augment:
    """Parsed steps. ConfigError for an unknown step, a number that is not allowed, or steps of an earlier phase after a later one."""

    def __init__(self, steps: Sequence[str] = ()) -> None:
        parsed = [_parse(text) for text in steps]
        order: tuple[Phase, ...] = ("bytes", "unit", "normalized")
        phases = [order.index(step.phase) for step, _ in parsed]
        if phases != sorted(phases):
            raise ConfigError(f"augmentation {list(steps)}: the order must be {', '.join(STEPS)} (bytes, then [0, 1], then normalized)")
        self._steps = parsed

    def run(self, phase: Phase, x: Tensor, draws: Draws) -> Tensor:
        for step, number in self._steps:
            if step.phase == phase:
                x = step.apply(x, number, draws)
        return x


def _parse(text: str) -> tuple[Step, float]:
    name, colon, number = text.partition(":")
    if name not in STEPS:
        raise unknown("augmentation", name, STEPS)
    step = STEPS[name]
    if not colon:
        return step, step.default if step.default is not None else 0.0
    if step.default is None:
        raise ConfigError(f"augmentation {text!r}: {name} takes no number")
    high = 1.0 if name in _BELOW_ONE else 1024.0
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not step.low <= value <= high or (name not in _BELOW_ONE and value != int(value)):
        raise ConfigError(f"augmentation {text!r}: allowed: {'a whole number' if high > 1 else 'a number'} from {step.low:g} to {high:g}")
    return step, value
