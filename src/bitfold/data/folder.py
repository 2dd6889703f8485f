"""Any folder of images, one subfolder a class, found through Hugging Face ``datasets`` and resized with Pillow.

ROOT/train/<class>/*.jpg and ROOT/test/<class>/*.jpg       (validation, valid or val also serve as "test")
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitfold.data.dataset import Dataset
from bitfold.data.locate import base_folder
from bitfold.errors import ConfigError, DataError, unknown

_HOW = "Expected ROOT/train/<class>/*.jpg (or .png ...) and ROOT/test/<class>/*.jpg"
_SPLIT_FOLDERS = {"train": ("train", "training"), "test": ("test", "validation", "valid", "val")}
_STATISTICS = {1: ((0.5,), (0.5,)), 3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}  # 3: ImageNet's


@dataclass(frozen=True)
class Options:
    """``size``: side of the square images, in pixels; ``channels``: 3 or 1 (grey); ``resident``: read all at once, else batch by batch."""

    size: int
    channels: int = 3
    resident: bool = True

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size <= 4096:
            raise ConfigError(f"folder of images: size={self.size!r}; allowed: 1 to 4096 pixels")
        if self.channels not in _STATISTICS or type(self.channels) is not int:
            raise ConfigError(f"folder of images: channels={self.channels!r}; allowed: 1, 3")
        if type(self.resident) is not bool:
            raise ConfigError(f"folder of images: resident={self.resident!r}; allowed: true, false")


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Pictures read when asked for: ``files[indices]`` is uint8 (n, channels, size, size) in host memory."""

    paths: tuple[str, ...]
    options: Options
    threads: int = 4  # Pillow decodes without Python's lock

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.paths), self.options.channels, self.options.size, self.options.size

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def select(self, indices: Tensor) -> "ImageFiles":
        return replace(self, paths=tuple(self.paths[i] for i in indices.tolist()))

    def __getitem__(self, indices: Tensor) -> Tensor:
        with ThreadPoolExecutor(self.threads) as pool:
            pictures = list(pool.map(lambda i: read_picture(self.paths[i], self.options), indices.tolist()))
        return torch.from_numpy(np.stack(pictures)) if pictures else torch.empty((0, *self.shape[1:]), dtype=torch.uint8)


def read_picture(path: str, options: Options) -> np.ndarray:
    """uint8 (channels, size, size): the shorter side resized to ``size`` (bilinear with antialiasing), then the centre cut out."""
    from PIL import Image

    size = options.size
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            rgb = picture.convert("RGB" if options.channels == 3 else "L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:  # what Pillow raises for broken and hostile files
        raise DataError(f"{path}: not a readable picture: {e}") from e
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = rgb.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return np.asarray(square).reshape(size, size, options.channels).transpose(2, 0, 1)


def load(split: str, root: str | Path | None, **options: Any) -> Dataset:
    """The images of one split. ``options``: see ``Options``; size is needed. Labels count the class names of the training folder."""
    allowed = list(Options.__dataclass_fields__)
    for name in options:
        if name not in allowed:
            raise unknown("option of a folder of images", name, allowed)
    if "size" not in options:
        raise ConfigError("folder of images: the option size (pixels) is missing")
    parsed = Options(**options)
    base = base_folder("folder", root, _HOW)
    found_names, paths, labels = _scan(base, split)
    class_names = found_names if split == "train" else _scan(base, "train")[0]
    for name in found_names:
        if name not in class_names:
            raise DataError(f"{base}: class {name!r} of {split} is not a class of train: {', '.join(class_names)}")
    number = torch.tensor([class_names.index(name) for name in found_names])
    files = ImageFiles(paths, parsed)
    mean, std = _STATISTICS[parsed.channels]
    return Dataset(
        name="folder",
        split=split,
        images=files[torch.arange(len(paths))] if parsed.resident else files,
        labels=number[torch.tensor(labels)],
        class_names=class_names,
        mean=mean,
        std=std,
        source=str(base),
    )


def _scan(base: Path, split: str) -> tuple[tuple[str, ...], tuple[str, ...], list[int]]:
    """(class names, paths of pictures, their labels) of a split."""
    import datasets

    candidates = [base / name for name in _SPLIT_FOLDERS[split]]
    folder = next((c for c in candidates if c.is_dir()), None)
    if folder is None:
        raise DataError(f"folder of images: none of these folders exists: {', '.join(map(str, candidates))}. {_HOW}")
    quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="bitfold-data-") as cache:  # the table is small: paths and labels
        try:
            table = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=cache, drop_labels=False)
        except Exception as e:  # datasets raises many kinds; all of them mean that there is nothing usable
            raise DataError(f"{folder}: no pictures found: {type(e).__name__}: {e}. {_HOW}") from e
        finally:
            if not quiet:
                datasets.enable_progress_bars()
        table = table.cast_column("image", datasets.Image(decode=False))
        class_names = tuple(table.features["label"].names)
        paths, labels = tuple(row["path"] for row in table["image"]), list(table["label"])
        del table
    return class_names, paths, labels
