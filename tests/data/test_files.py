"""Files in official layouts, written by the tests: what is read, and how missing, damaged and hostile ones are refused."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitfold import data
from bitfold.data import idx
from bitfold.errors import BitfoldError, ConfigError, DataError


def write_idx(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray, suffix: str = ".gz") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, dims, array in (("images-idx3", 3, images), ("labels-idx1", 1, labels)):
        content = bytes((0, 0, 8, dims)) + struct.pack(f">{dims}I", *array.shape) + array.tobytes()
        path = folder / f"{prefix}-{stem}-ubyte{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)


def write_cifar10(root: Path, rng: np.random.Generator, n: int = 7) -> dict[str, np.ndarray]:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    written = {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        records = rng.integers(0, 256, (n, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())
        written[name] = records
    return written


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "mnist"), ("fashion_mnist", "fashion-mnist")])
def test_idx_files_are_read(tmp_path: Path, rng: np.random.Generator, name: str, folder: str, suffix: str) -> None:
    images, labels = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8), rng.integers(0, 10, 5, dtype=np.uint8)
    write_idx(tmp_path / folder, "train", images, labels, suffix)
    write_idx(tmp_path / folder, "t10k", images[::-1], labels[::-1], suffix)
    train, test = data.load(name, "train", tmp_path), data.load(name, "test", tmp_path)
    assert train.image_shape == (1, 28, 28) and train.num_classes == 10
    np.testing.assert_array_equal(train.images[:, 0].numpy(), images)
    np.testing.assert_array_equal(test.labels.numpy(), labels[::-1])
    assert not train.official  # 5 images are no official file, and nothing claims that they are


def test_cifar10_files_are_read_in_order(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_cifar10(tmp_path, rng)
    (tmp_path / "cifar-10-batches-bin/batches.meta.txt").write_text("\n".join(f"c{i}" for i in range(10)) + "\n\n")
    monkeypatch.setenv("BITFOLD_DATA", str(tmp_path))
    train = data.load("cifar10")
    records = np.concatenate([written[f"data_batch_{i}"] for i in range(1, 6)])
    np.testing.assert_array_equal(train.labels.numpy(), records[:, 0])
    np.testing.assert_array_equal(train.images.numpy().reshape(35, 3072), records[:, 1:])
    assert train.class_names[:2] == ("c0", "c1") and train.image_shape == (3, 32, 32) and not train.official


def test_cifar100_takes_the_fine_label(tmp_path: Path, rng: np.random.Generator) -> None:
    records = rng.integers(0, 256, (4, 3074), dtype=np.uint8)
    records[:, 0], records[:, 1] = [19, 1, 2, 3], [99, 50, 0, 7]
    (tmp_path / "cifar-100-binary").mkdir()
    (tmp_path / "cifar-100-binary/test.bin").write_bytes(records.tobytes())
    test = data.load("cifar100", "test", tmp_path)
    assert test.labels.tolist() == [99, 50, 0, 7] and test.num_classes == 100
    np.testing.assert_array_equal(test.images.numpy().reshape(4, 3072), records[:, 2:])


def test_a_missing_data_set_says_where_it_looked_and_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BITFOLD_DATA", raising=False)
    with pytest.raises(DataError, match=r"'cifar10'.*BITFOLD_DATA.*download https://www.cs.toronto.edu"):
        data.load("cifar10")
    with pytest.raises(DataError, match=r"root names .*nowhere.* not a folder"):
        data.load("mnist", root=tmp_path / "nowhere")
    with pytest.raises(DataError) as e:
        data.load("mnist", root=tmp_path)
    for part in ("mnist/train-images-idx3-ubyte.gz", "MNIST/raw/train-images-idx3-ubyte", str(tmp_path), "ossci-datasets"):
        assert part in str(e.value)


def test_unknown_names_splits_and_options(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'cifar10'"):
        data.load("cifar01")
    with pytest.raises(ConfigError, match="unknown split 'val'"):
        data.load("digits", "val")
    with pytest.raises(ConfigError, match="takes no options; got size"):
        data.load("digits", size=3)
    with pytest.raises(ConfigError, match="has no meaning"):
        data.load(str(tmp_path), root=tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "not an IDX file"),
        (struct.pack(">IIII", 2049, 5, 28, 28), "not an IDX file"),
        (struct.pack(">IIII", 2051, 0, 28, 28), "header says shape"),
        (struct.pack(">IIII", 2051, 2**32 - 1, 28, 28), "header says shape"),
        (struct.pack(">IIII", 2051, 5, 2**31, 2**31), "header says shape"),
        (struct.pack(">IIII", 2051, 1_000_000, 28, 28), "the file has 784"),
        (struct.pack(">IIII", 2051, 2, 28, 28), "the file has 784"),
    ],
)
def test_hostile_idx_headers(tmp_path: Path, header: bytes, message: str) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(header + bytes(784)) if header else gzip.compress(b""))
    with pytest.raises(DataError, match=message):
        idx.read_idx(path, 3, "")


def test_idx_with_bytes_left_over_labels_out_of_range_and_counts_that_differ(tmp_path: Path, rng: np.random.Generator) -> None:
    images, labels = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8), np.array([0, 1, 2, 3, 10], dtype=np.uint8)
    write_idx(tmp_path / "mnist", "train", images, labels, "")
    with pytest.raises(DataError, match="label 10; allowed: 0 to 9"):
        data.load("mnist", root=tmp_path)
    write_idx(tmp_path / "mnist", "train", images, labels[:4], "")
    with pytest.raises(DataError, match="5 images but 4 labels"):
        data.load("mnist", root=tmp_path)
    path = tmp_path / "mnist/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match="the file has more"):
        data.load("mnist", root=tmp_path)


def test_a_file_of_official_size_must_have_the_published_checksum(tmp_path: Path) -> None:
    write_idx(tmp_path / "mnist", "t10k", np.zeros((10_000, 28, 28), np.uint8), np.zeros(10_000, np.uint8))
    with pytest.raises(DataError, match=r"checksum .* is not the published 2646ac647ad5339dbf082846283269ea: the file is damaged"):
        data.load("mnist", "test", tmp_path)


@given(cut=st.integers(0, 400), flips=st.lists(st.tuples(st.integers(0, 399), st.integers(1, 255)), max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_gz_files_give_a_data_error_or_a_valid_array(tmp_path: Path, cut: int, flips: list[tuple[int, int]]) -> None:
    content = np.random.default_rng(0).integers(0, 3, (3, 28, 28), dtype=np.uint8)
    whole = bytearray(gzip.compress(struct.pack(">IIII", 2051, 3, 28, 28) + content.tobytes(), mtime=0))
    for at, value in flips:
        whole[at % len(whole)] ^= value
    path = tmp_path / "x.gz"
    path.write_bytes(whole[: len(whole) - cut] if cut < len(whole) else b"")
    try:
        array, _ = idx.read_idx(path, 3, "")
    except DataError as e:
        assert str(path) in str(e)
    else:
        np.testing.assert_array_equal(array, content)  # the gzip checksum lets no other content through


@pytest.mark.parametrize("change", ["truncated", "empty", "too long", "label"])
def test_damaged_cifar_files(tmp_path: Path, rng: np.random.Generator, change: str) -> None:
    write_cifar10(tmp_path, rng)
    path = tmp_path / "cifar-10-batches-bin/test_batch.bin"
    content = bytearray(path.read_bytes())
    if change == "truncated":
        content = content[:-1]
    elif change == "empty":
        content = bytearray()
    elif change == "label":
        content[3073] = 10
    path.write_bytes(content)
    if change == "too long":
        os.truncate(path, 3073 * 10_001)  # sparse
    expected = "label 10 in record 1" if change == "label" else "bytes; expected a multiple of 3073"
    with pytest.raises(BitfoldError, match=expected):
        data.load("cifar10", "test", tmp_path)


SHARED = os.environ.get("BITFOLD_DATA")


@pytest.mark.shared
@pytest.mark.skipif(not SHARED, reason="BITFOLD_DATA is not set: no real data sets here")
@pytest.mark.parametrize(("name", "train", "test", "official"), [("cifar10", 50_000, 10_000, True), ("mnist", 60_000, 10_000, True)])
def test_the_real_files(name: str, train: int, test: int, official: bool) -> None:
    for split, count in (("train", train), ("test", test)):
        part = data.load(name, split)
        assert len(part) == count and part.official is official
        if split == "train":
            values = part.images.numpy().astype(np.float32) / 255
            np.testing.assert_allclose(values.mean(axis=(0, 2, 3)), part.mean, atol=2e-4)
            np.testing.assert_allclose(values.std(axis=(0, 2, 3)), part.std, atol=2e-4)
