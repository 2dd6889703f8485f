"""Each augmentation against its slow and obvious twin."""

import pytest
import torch

from bitfold.data.augment import STEPS, Augment, color_jitter, cutout, flip, pad_crop, random_resized_crop
from bitfold.data.draws import Draws
from bitfold.errors import ConfigError

N = 64


def draws() -> Draws:
    return Draws(0, 0, torch.arange(N))


def images(channels: int = 2, height: int = 5, width: int = 7) -> torch.Tensor:
    return torch.arange(1, N * channels * height * width + 1).view(N, channels, height, width)


def test_pad_crop_is_a_shift_with_zeros() -> None:
    x = images()
    y = pad_crop(x, 2, draws())
    again = draws()
    dy, dx = again.integer(5) - 2, again.integer(5) - 2
    assert {*dy.tolist()} == {*dx.tolist()} == {-2, -1, 0, 1, 2}
    for i in range(N):
        for row in range(5):
            for column in range(7):
                r, c = row + int(dy[i]), column + int(dx[i])
                inside = 0 <= r < 5 and 0 <= c < 7
                assert torch.equal(y[i, :, row, column], x[i, :, r, c] if inside else torch.zeros(2, dtype=x.dtype))


def test_flip_mirrors_about_half() -> None:
    x = images()
    y = flip(x, 0, draws())
    mirrored = [torch.equal(b, a.flip(2)) for a, b in zip(x, y, strict=True)]
    assert all(m or torch.equal(a, b) for m, a, b in zip(mirrored, x, y, strict=True))
    assert 16 < sum(mirrored) < 48


@pytest.mark.parametrize("side", [1, 2, 3])
def test_cutout_zeroes_one_square(side: int) -> None:
    y = cutout(images().float(), side, draws())
    zero = y == 0
    assert torch.equal(zero[:, 0], zero[:, 1])
    area = zero[:, 0].sum((1, 2))
    assert int(area.max()) == side * side and int(area.min()) >= (side // 2 if side > 1 else 1)
    rows, columns = zero[:, 0].any(2).sum(1), zero[:, 0].any(1).sum(1)
    assert torch.equal(area, rows * columns)  # a rectangle: the square, cut at the border


def test_random_resized_crop_of_the_whole_area_is_nearly_the_image_and_keeps_constants() -> None:
    ramp = torch.linspace(0, 1, 9).expand(N, 1, 9, 9)
    y = random_resized_crop(ramp, 0.2, draws())
    assert y.shape == ramp.shape and float(y.min()) >= 0 and float(y.max()) <= 1
    assert (y[:, :, :, 1:] >= y[:, :, :, :-1] - 1e-6).all()  # a window of a rising ramp rises
    torch.testing.assert_close(random_resized_crop(torch.full((N, 3, 4, 4), 0.3), 0.1, draws()), torch.full((N, 3, 4, 4), 0.3))


def test_color_jitter_stays_in_range_and_strength_zero_changes_nothing() -> None:
    x = torch.rand(N, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    y = color_jitter(x, 0.5, draws())
    assert float(y.min()) >= 0 and float(y.max()) <= 1 and not torch.allclose(x, y)
    torch.testing.assert_close(color_jitter(x, 0.0, draws()), x, atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="needs 3 channels"):
        color_jitter(x[:, :1], 0.5, draws())


@pytest.mark.parametrize(
    "text", ["pad_crop:0", "pad_crop:x", "pad_crop:1.5", "cutout:inf", "cutout:nan", "color_jitter:1.1", "random_resized_crop:0"]
)
def test_numbers_out_of_range(text: str) -> None:
    with pytest.raises(ConfigError, match=r"allowed: a (whole )?number from"):
        Augment([text])


def test_steps_are_parsed() -> None:
    for name in STEPS:
        Augment([name])
    with pytest.raises(ConfigError, match="flip takes no number"):
        Augment(["flip:1"])
    with pytest.raises(ConfigError, match="the order must be"):
        Augment(["cutout", "flip"])
