"""A folder of pictures, resident and streamed."""

from pathlib import Path

import pytest
import torch

from bitfold import data
from bitfold.errors import ConfigError, DataError


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Red ants and blue bees, 4 each to train, 2 ants to test; some wide, some grey."""
    from PIL import Image

    colours = {"ant": (250, 10, 10), "bee": (10, 10, 250)}
    for split, label, count in (("train", "ant", 4), ("train", "bee", 4), ("val", "bee", 2)):
        folder = tmp_path / split / label
        folder.mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (12 + 5 * i, 16), colours[label]).save(folder / f"{i}.png")
    return tmp_path


def test_resident_and_streamed_agree(pictures: Path) -> None:
    resident, streamed = (data.load(str(pictures), size=8, resident=r) for r in (True, False))
    assert resident.class_names == ("ant", "bee") and resident.image_shape == streamed.image_shape == (3, 8, 8)
    assert isinstance(resident.images, torch.Tensor) and not isinstance(streamed.images, torch.Tensor)
    for a, b in zip(data.Loader(resident, 3).epoch(1), data.Loader(streamed, 3).epoch(1), strict=True):
        assert torch.equal(a.inputs, b.inputs) and torch.equal(a.labels, b.labels)
    assert torch.equal(resident.head(3).images, streamed.head(3).images[torch.arange(3)])
    red = resident.images[:, 0].float().mean((1, 2)) > 128
    assert torch.equal(red, resident.labels == 0)


def test_labels_of_a_test_split_without_all_classes(pictures: Path) -> None:
    test = data.load("folder", "test", pictures, size=4, channels=1)
    assert test.labels.tolist() == [1, 1] and test.class_names == ("ant", "bee") and test.image_shape == (1, 4, 4)


def test_what_is_missing_or_broken(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"size .* is missing"):
        data.load(str(pictures))
    with pytest.raises(ConfigError, match="did you mean 'resident'"):
        data.load(str(pictures), size=4, residnt=True)
    with pytest.raises(ConfigError, match="size=0; allowed"):
        data.load(str(pictures), size=0)
    (pictures / "train/ant/0.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(DataError, match=r"ant/0.png: not a readable picture"):
        data.load(str(pictures), size=4)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"none of these folders exists: .*empty/train"):
        data.load(str(empty), size=4)
    (empty / "train/ant").mkdir(parents=True)
    with pytest.raises(DataError, match="no pictures found"):
        data.load(str(empty), size=4)


def test_a_class_that_training_lacks(pictures: Path) -> None:
    (pictures / "val/bee").rename(pictures / "val/wasp")
    with pytest.raises(DataError, match="class 'wasp' of test is not a class of train: ant, bee"):
        data.load(str(pictures), "test", size=4)


def test_a_huge_picture_is_refused_before_it_is_decoded(pictures: Path) -> None:
    """A PNG header of 60,000 x 60,000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    (pictures / "train/ant/0.png").write_bytes(bomb)
    with pytest.raises(DataError, match=r"ant/0.png: .*pixels"):
        data.load(str(pictures), size=4)
