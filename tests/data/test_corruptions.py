"""Corruptions against images that the published code made of the same picture (its CIFAR constants; two libraries' renamed arguments
adapted), and their promises: bytes in, bytes out, the same noise however the images are read."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bitfold.data import Dataset, Loader
from bitfold.data.corruptions import COMMON, NAMES, corrupt
from bitfold.data.frost import fitting, photographs
from bitfold.errors import ConfigError


def picture(size: int = 32, channels: int = 3) -> Tensor:
    i, j = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    planes = [(i * (k + 3) + j * (5 - k) + (i * j) // (4 + k)) % 256 for k in range(channels)]
    return torch.from_numpy(np.stack(planes)[None].astype(np.uint8))


def dataset(images: Tensor, max_value: int = 255) -> Dataset:
    channels = images.shape[1]
    return Dataset(
        "pictures",
        "test",
        images,
        torch.zeros(len(images), dtype=torch.int64),
        ("a", "b"),
        (0.5,) * channels,
        (0.25,) * channels,
        max_value,
    )


def corrupted(images: Tensor, name: str, severity: int, seed: int = 0) -> Tensor:
    data = corrupt(dataset(images), name, severity, seed)
    return data.images[torch.arange(len(data))]


PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")


@pytest.fixture
def frosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package as the published one lays its photographs, but small noise; its code must not run."""
    folder = tmp_path / "imagecorruptions"
    (folder / "frost").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('imported')")
    rng = np.random.default_rng(5)
    for name in PHOTOGRAPHS:  # with an alpha channel, which the published code drops
        pixels = rng.integers(0, 256, (190, 215, 4 if name.endswith("png") else 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "frost" / name)
    monkeypatch.syspath_prepend(tmp_path)
    photographs.cache_clear(), fitting.cache_clear()
    yield folder
    photographs.cache_clear(), fitting.cache_clear()


# severity 1, 3, 5: mean, standard deviation, pixels (5, 31) and (16, 16)
PUBLISHED = {
    "defocus_blur": [
        (120.235, 65.418, [207, 174, 142], [191, 179, 170]),
        (120.28, 62.671, [206, 173, 142], [191, 179, 170]),
        (120.372, 60.63, [204, 171, 141], [191, 179, 170]),
    ],
    "zoom_blur": [
        (119.532, 61.149, [201, 169, 138], [184, 172, 164]),
        (121.616, 60.285, [202, 170, 140], [184, 172, 164]),
        (123.951, 58.826, [202, 170, 141], [183, 171, 163]),
    ],
    "brightness": [
        (130.444, 67.639, [220, 185, 151], [204, 190, 181]),
        (149.432, 67.44, [246, 207, 169], [230, 214, 203]),
        (173.748, 64.687, [255, 214, 175], [255, 237, 225]),
    ],
    "contrast": [
        (120.193, 50.078, [186, 161, 137], [174, 164, 157]),
        (120.196, 26.708, [155, 141, 129], [149, 143, 140]),
        (120.191, 10.027, [134, 128, 124], [131, 128, 128]),
    ],
    "saturate": [
        (136.616, 63.457, [208, 198, 188], [192, 188, 185]),
        (113.044, 68.624, [208, 158, 110], [192, 172, 159]),
        (89.772, 71.129, [208, 104, 3], [192, 136, 98]),
    ],
    "pixelate": [
        (120.748, 66.283, [208, 175, 143], [192, 179, 170]),
        (120.842, 65.641, [208, 175, 143], [185, 173, 164]),
        (121.076, 63.592, [205, 173, 142], [201, 187, 177]),
    ],
    "jpeg_compression": [
        (120.604, 63.168, [195, 182, 140], [185, 176, 169]),
        (120.477, 63.464, [214, 173, 155], [185, 187, 186]),
        (121.317, 62.979, [208, 176, 117], [198, 185, 176]),
    ],
    "gaussian_blur": [
        (120.192, 65.433, [207, 174, 142], [191, 178, 170]),
        (120.187, 61.793, [206, 173, 142], [191, 178, 170]),
        (120.158, 59.563, [206, 172, 142], [191, 178, 170]),
    ],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_as_published(name: str) -> None:
    level = 4 if name == "jpeg_compression" else 1  # JPEG libraries differ among themselves; elsewhere a rounding at a whole number
    for severity, (mean, std, at_edge, inside) in zip((1, 3, 5), PUBLISHED[name], strict=True):
        image = corrupted(picture(), name, severity)[0].double()
        assert image.mean().item() == pytest.approx(mean, abs=0.05 * level)
        assert image.std(correction=0).item() == pytest.approx(std, abs=0.05 * level)
        assert image[:, 5, 31].tolist() == pytest.approx(at_edge, abs=level)
        assert image[:, 16, 16].tolist() == pytest.approx(inside, abs=level)


@pytest.mark.parametrize(
    ("name", "deviations"),
    [  # of bytes around mid-grey, by severity, computed from the constants
        ("gaussian_noise", [255 * c for c in (0.04, 0.06, 0.08, 0.09, 0.10)]),
        ("shot_noise", [255 * (0.5 / c) ** 0.5 for c in (500, 250, 100, 75, 50)]),
        ("impulse_noise", [127.5 * c**0.5 for c in (0.01, 0.02, 0.03, 0.05, 0.07)]),
        ("speckle_noise", [127.5 * c for c in (0.06, 0.1, 0.12, 0.16, 0.2)]),
    ],
)
def test_noise_has_the_published_strength(name: str, deviations: Sequence[float]) -> None:
    grey = torch.full((4, 3, 32, 32), 128, dtype=torch.uint8)
    for severity, expected in enumerate(deviations, 1):
        assert corrupted(grey, name, severity).double().std().item() == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_promises(name: str, rng: np.random.Generator, frosted: Path) -> None:
    images = torch.tensor(rng.integers(0, 256, (5, 3, 20, 24)), dtype=torch.uint8)
    data = corrupt(dataset(images), name, 4, seed=3)
    whole = data.images[torch.arange(5)]
    assert whole.dtype == torch.uint8 and whole.shape == images.shape and not torch.equal(whole, images)
    assert torch.equal(data.labels, torch.zeros(5, dtype=torch.int64)) and len(data) == 5 and data.image_shape == (3, 20, 24)
    some = torch.tensor([4, 1])
    assert torch.equal(data.images[some], whole[some])
    assert torch.equal(data.select(some).images[torch.tensor([1, 0])], whole[[1, 4]])
    batches = [b.inputs for b in Loader(data, 2, shuffle=False, drop_last=False, normalize="unit")]
    assert torch.allclose(torch.cat(batches) * 255, whole.float(), atol=1e-3)
    if name in ("gaussian_noise", "glass_blur", "motion_blur", "snow", "frost", "fog", "elastic_transform"):
        assert not torch.equal(corrupted(images, name, 4, seed=4), whole)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "saturate"])
def test_grey_images_of_any_depth_and_large_ones(name: str, frosted: Path) -> None:
    small = dataset(picture(8, 1) // 16, 16)
    found = corrupt(small, name, 5).images[torch.arange(1)]
    assert found.shape == (1, 1, 8, 8) and found.max() <= 16
    if name != "glass_blur":  # a loop over pixels
        assert corrupted(picture(72), name, 5).shape == (1, 3, 72, 72)  # ImageNet-C's constants


@pytest.mark.parametrize(("size", "severity", "keep", "added"), [(32, 1, 1, 0.2), (32, 5, 0.75, 0.45), (72, 2, 0.8, 0.6)])
def test_frost_is_a_part_of_a_photograph(size: int, severity: int, keep: float, added: float, frosted: Path) -> None:
    """make_cifar_c.py: every fifth pixel of a photograph, a random part of it; make_imagenet_c.py: the whole."""
    images = picture(size).expand(4, -1, -1, -1)
    found = corrupted(images, "frost", severity).numpy()
    places = set()
    for image in found:
        for k, name in enumerate(PHOTOGRAPHS):
            photograph = np.asarray(Image.open(frosted / "frost" / name))[..., :3]
            photograph = photograph[2::5, 2::5] if size == 32 else photograph
            corners = photograph[: photograph.shape[0] - size, : photograph.shape[1] - size]
            first = np.clip(keep * images[0, :, 0, 0].numpy() + added * corners, 0, 255)
            for y, x in np.argwhere((np.abs(first - image[:, 0, 0]) <= 1).all(-1)):
                ice = photograph[y : y + size, x : x + size].transpose(2, 0, 1)
                expected = np.clip(keep * images[0].numpy() + added * ice, 0, 255)
                if (np.abs(expected - 0.5 - image) <= 0.51).all():  # truncated
                    places.add((k, y, x))
    assert len(places) == 4


def test_frost_is_enlarged_for_larger_images(frosted: Path) -> None:
    assert corrupted(picture(256), "frost", 1).shape == (1, 3, 256, 256)
    assert fitting(0, 256, 256, small=False).shape == (257, int(np.ceil(215 * 257 / 190)), 3)


def test_frost_without_its_photographs(frosted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (frosted / "frost" / "frost4.jpg").unlink()
    with pytest.raises(ConfigError, match=r"missing: frost4\.jpg"):
        corrupt(dataset(picture()), "frost", 1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install --no-deps imagecorruptions, or leave frost out: all,-frost"):
        corrupt(dataset(picture()), "frost", 1)  # at once, before an image is read


def test_severities_grow() -> None:
    images = picture().expand(8, -1, -1, -1)
    for name in (
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "defocus_blur",
        "motion_blur",
        "fog",
        "brightness",
        "contrast",
        "pixelate",
    ):
        distance = [(corrupted(images, name, s).double() - images).abs().mean().item() for s in (1, 3, 5)]
        assert distance == sorted(distance), name


def test_what_is_refused() -> None:
    assert len(COMMON) == 15 and len(NAMES) == 18
    with pytest.raises(ConfigError, match="unknown corruption 'gausian_noise'; did you mean 'gaussian_noise'"):
        corrupted(picture(), "gausian_noise", 1)
    with pytest.raises(ConfigError, match="severity 6; allowed: 1 to 5"):
        corrupted(picture(), "fog", 6)
    with pytest.raises(ConfigError, match="1 channels; allowed: 3"):
        corrupted(picture(32, 1), "saturate", 1)
    with pytest.raises(ConfigError, match="allowed: 1 or 3"):
        corrupted(picture(32, 2), "pixelate", 1)
