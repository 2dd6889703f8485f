"""Data sets as resident bytes, a loader whose batches are pure functions, and augmentation on the device.

train = data.load("cifar10", split="train", root="~/data")      # or BITFOLD_DATA=~/data
loader = data.Loader(train.to("cuda"), 128, seed=0, augment=("pad_crop:4", "flip"))
for batch in loader.epoch(3): ...                               # batch.inputs, batch.labels, batch.indices
"""

from pathlib import Path
from typing import Any

from bitfold.data.augment import STEPS as AUGMENTATIONS
from bitfold.data.augment import Augment as Augment
from bitfold.data.dataset import Dataset as Dataset
from bitfold.data.loader import NORMALIZE as NORMALIZE
from bitfold.data.loader import Batch as Batch
from bitfold.data.loader import Loader as Loader
from bitfold.errors import ConfigError, unknown

_NAMES = ("cifar10", "cifar100", "digits", "fashion_mnist", "folder", "mnist")
_SPLITS = ("train", "test")

__all__ = ["AUGMENTATIONS", "NORMALIZE", "Augment", "Batch", "Dataset", "Loader", "load", "names"]


def names() -> list[str]:
    """The data sets that ``load`` knows; it also takes the path of a folder of images."""
    return list(_NAMES)


def load(name: str, split: str = "train", root: str | Path | None = None, **options: Any) -> Dataset:
    """One split ("train" or "test") of a data set.

    root: the folder that holds the files; without it the environment variable BITFOLD_DATA. "digits" needs neither. A name that is a
    path of an existing folder means "folder" with that root. options: only "folder" has any, see ``bitfold.data.folder.load``.
    Raises ConfigError for an unknown name or option, DataError for files that are missing or broken.
    """
    if split not in _SPLITS:
        raise unknown("split", split, _SPLITS)
    if name not in _NAMES:
        if not Path(name).expanduser().is_dir():
            raise unknown("data set (or folder of images)", name, _NAMES)
        if root is not None:
            raise ConfigError(f"data set {name!r} is a folder of images itself; root={str(root)!r} has no meaning here")
        name, root = "folder", Path(name)
    if name == "folder":
        from bitfold.data import folder

        return folder.load(split, root, **options)
    if options:
        raise ConfigError(f"data set {name!r} takes no options; got {', '.join(sorted(options))}")
    if name == "digits":
        from bitfold.data import digits

        return digits.load(split)
    if name.startswith("cifar"):
        from bitfold.data import cifar

        return cifar.load(name, split, root)
    from bitfold.data import idx

    return idx.load(name, split, root)
