"""CIFAR-10 and CIFAR-100 in the official binary layout (Krizhevsky 2009): records of label bytes, then 3072 bytes in R, G, B planes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bitfold.data.dataset import Dataset
from bitfold.data.locate import base_folder, find
from bitfold.errors import DataError

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Source:
    folder: str
    label_bytes: int  # the last one is the class
    records: int  # per official file
    md5: dict[str, str]  # file -> published digest
    md5_sure: bool  # the digests were compared with the real files
    files: dict[str, tuple[str, ...]]  # split -> files
    class_file: str
    class_names: tuple[str, ...]  # used when class_file is missing
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    how: str


SOURCES: dict[str, _Source] = {
    "cifar10": _Source(
        folder="cifar-10-batches-bin",
        label_bytes=1,
        records=10_000,
        md5={
            "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
            "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
            "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
            "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
            "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
            "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
        },
        md5_sure=True,
        files={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        class_file="batches.meta.txt",
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        mean=(0.49139968, 0.48215841, 0.44653091),
        std=(0.24703223, 0.24348513, 0.26158784),
        how="To get it: download https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz and unpack it in FOLDER",
    ),
    "cifar100": _Source(
        folder="cifar-100-binary",
        label_bytes=2,  # coarse, fine
        records=50_000,
        md5={"train.bin": "6172c7755cfe09b2fe270c85cebc1b15", "test.bin": "4499cfba6c016c1be1438163640a0898"},
        md5_sure=False,  # known from one public source only, so a mismatch is no reason to refuse a file
        files={"train": ("train.bin",), "test": ("test.bin",)},
        class_file="fine_label_names.txt",
        class_names=tuple(f"class {i}" for i in range(100)),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        how="To get it: download https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz and unpack it in FOLDER",
    ),
}


def load(name: str, split: str, root: str | Path | None) -> Dataset:
    """CIFAR-10 files of the official length must have the published checksums; others are taken with ``official`` false."""
    source = SOURCES[name]
    base = base_folder(name, root, source.how)
    parts, official = [], True
    for file in source.files[split]:
        path = find(name, base, (source.folder, "."), (file,), source.how)
        records, digest = read_records(path, source.label_bytes, source.records, source.how)
        if digest != source.md5[file]:
            official = False
            if source.md5_sure and len(records) == source.records:
                raise DataError(f"{path}: checksum {digest} is not the published {source.md5[file]}: the file is damaged. {source.how}")
        parts.append(records)
    records = np.concatenate(parts)
    labels = records[:, source.label_bytes - 1]
    if labels.max() >= len(source.class_names):
        raise DataError(
            f"{path}: label {labels.max()} in record {labels.argmax()}; allowed: 0 to {len(source.class_names) - 1}. {source.how}"
        )
    return Dataset(
        name=name,
        split=split,
        images=torch.from_numpy(records[:, source.label_bytes :].reshape(-1, 3, 32, 32).copy()),
        labels=torch.from_numpy(labels.astype(np.int64)),
        class_names=_class_names(path.with_name(source.class_file), source.class_names),
        mean=source.mean,
        std=source.std,
        official=official,
        source=str(base),
    )


def blank(name: str) -> Dataset:
    """The data set without its images: shape, class names and normalisation, which need no files."""
    source = SOURCES[name]
    images, labels = torch.empty((0, 3, 32, 32), dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
    return Dataset(name, "test", images, labels, source.class_names, source.mean, source.std)


def read_records(path: Path, label_bytes: int, most: int, how: str) -> tuple[np.ndarray, str]:
    """uint8 (records, label_bytes + 3072) and the md5 of the file, which must hold 1..most whole records."""
    size, record = path.stat().st_size, label_bytes + _PIXELS
    if size % record != 0 or not 1 <= size // record <= most:
        raise DataError(
            f"{path}: {size} bytes; expected a multiple of {record}, at most {most * record}: truncated or another format. {how}"
        )
    try:
        content = path.read_bytes()
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {e}. {how}") from e
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, record), hashlib.md5(content).hexdigest()


def _class_names(path: Path, default: tuple[str, ...]) -> tuple[str, ...]:
    """The names beside the images, if the file is there and has one line a class."""
    if not path.is_file() or path.stat().st_size > 10_000:
        return default
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return tuple(lines) if len(lines) == len(default) else default
