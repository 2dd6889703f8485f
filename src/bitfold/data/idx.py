"""MNIST and Fashion-MNIST: the IDX files, as distributed (.gz) or unpacked.

LeCun, Cortes, Burges 1998; Xiao, Rasul, Vollgraf 2017, arXiv 1708.07747.
"""

import gzip
import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bitfold.data.dataset import Dataset
from bitfold.data.locate import base_folder, find
from bitfold.errors import DataError

_MAX_IMAGES = 1_000_000  # above it a header is taken for damaged
_SIZE = 28


@dataclass(frozen=True)
class _Source:
    folders: tuple[str, ...]
    class_names: tuple[str, ...]
    mean: float
    std: float
    md5: dict[str, str]  # published digests of the unpacked files
    how: str


_FILES = "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz"
SOURCES: dict[str, _Source] = {
    "mnist": _Source(
        folders=("mnist", "MNIST/raw", "."),
        class_names=tuple("0123456789"),
        mean=0.1307,
        std=0.3081,
        md5={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        how=f"To get it: download {_FILES} from https://ossci-datasets.s3.amazonaws.com/mnist/ into FOLDER/mnist",
    ),
    "fashion_mnist": _Source(
        folders=("fashion-mnist", "fashion_mnist", "FashionMNIST/raw"),
        class_names=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        mean=0.2860,
        std=0.3530,
        md5={
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
        how=f"To get it: download {_FILES} from https://github.com/zalandoresearch/fashion-mnist into FOLDER/fashion-mnist",
    ),
}
_OFFICIAL_COUNT = {"train": 60_000, "test": 10_000}


def load(name: str, split: str, root: str | Path | None) -> Dataset:
    """Files of the official number of images must have the published checksums; other numbers are taken with ``official`` false."""
    source = SOURCES[name]
    base = base_folder(name, root, source.how)
    prefix = "train" if split == "train" else "t10k"
    contents, official = [], True
    for stem, dims in ((f"{prefix}-images-idx3-ubyte", 3), (f"{prefix}-labels-idx1-ubyte", 1)):
        path = find(name, base, source.folders, (stem + ".gz", stem), source.how)
        array, digest = read_idx(path, dims, source.how)
        if digest != source.md5[stem]:
            official = False
            if len(array) == _OFFICIAL_COUNT[split]:
                raise DataError(f"{path}: checksum {digest} is not the published {source.md5[stem]}: the file is damaged. {source.how}")
        contents.append(array)
    images, labels = contents
    if len(images) != len(labels):
        raise DataError(f"{base}: {name} {split} has {len(images)} images but {len(labels)} labels. {source.how}")
    if labels.max(initial=0) >= len(source.class_names):
        raise DataError(f"{base}: {name} {split} has label {labels.max()}; allowed: 0 to {len(source.class_names) - 1}. {source.how}")
    return Dataset(
        name=name,
        split=split,
        images=torch.from_numpy(images)[:, None],
        labels=torch.from_numpy(labels).to(torch.int64),
        class_names=source.class_names,
        mean=(source.mean,),
        std=(source.std,),
        official=official,
        source=str(base),
    )


def read_idx(path: Path, dims: int, how: str) -> tuple[np.ndarray, str]:
    """The uint8 array of an IDX file of 1 (labels) or 3 (28x28 images) dimensions, and the md5 of the unpacked bytes.

    The header's counts are compared with limits and with the file's length before anything is allocated.
    """
    expected = f"an IDX file of bytes with {dims} dimension{'s' if dims > 1 else ''}"
    header_size = 4 + 4 * dims
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as f:
            header = f.read(header_size)
            if len(header) < header_size or header[:4] != bytes((0, 0, 8, dims)):
                raise DataError(f"{path}: not {expected}: it begins with {header[:4].hex(' ')!r}. {how}")
            shape = struct.unpack(f">{dims}I", header[4:])
            if not 1 <= shape[0] <= _MAX_IMAGES or shape[1:] not in ((), (_SIZE, _SIZE)):
                raise DataError(f"{path}: header says shape {shape}; allowed: 1 to {_MAX_IMAGES:,} items of {_SIZE}x{_SIZE} pixels. {how}")
            body, size = bytearray(), int(np.prod(shape, dtype=np.int64))
            while len(body) <= size and (chunk := f.read(1 << 20)):  # grows with what is really there
                body += chunk
    except (OSError, EOFError, zlib.error) as e:
        raise DataError(f"{path}: cannot be read: {e}. {how}") from e
    if len(body) != size:
        raise DataError(f"{path}: header says {size} bytes, the file has {'more' if len(body) > size else len(body)}. {how}")
    digest = hashlib.md5(header)
    digest.update(body)
    return np.frombuffer(body, dtype=np.uint8).reshape(shape), digest.hexdigest()
