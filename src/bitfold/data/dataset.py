"""What ``load`` returns: all images of one split in memory, as bytes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from bitfold.errors import ConfigError


class Images(Protocol):
    """Images on demand: what a tensor is, as far as ``Loader`` needs it (see ``folder.ImageFiles``)."""

    @property
    def shape(self) -> Sequence[int]: ...

    @property
    def device(self) -> torch.device: ...

    def __getitem__(self, indices: Tensor) -> Tensor: ...

    def select(self, indices: Tensor) -> "Images": ...


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split. A value v of ``images`` stands for v / max_value in [0, 1]; ``mean`` and ``std`` are those of the training images then."""

    name: str
    split: str  # "train" or "test"
    images: Tensor | Images  # uint8 (n, channels, height, width)
    labels: Tensor  # int64 (n,)
    class_names: tuple[str, ...]
    mean: tuple[float, ...]  # per channel
    std: tuple[float, ...]
    max_value: int = 255
    official: bool = False  # the files have the published checksums
    source: str = ""  # where the images came from

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)"""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def to(self, device: torch.device | str) -> "Dataset":
        """Resident images and labels on ``device``; streamed images stay where they are, batches follow the labels."""
        images = self.images.to(device) if isinstance(self.images, Tensor) else self.images
        return replace(self, images=images, labels=self.labels.to(device))

    def head(self, n: int) -> "Dataset":
        """The first n samples (all if there are fewer)."""
        return self.select(torch.arange(min(n, len(self)), device=self.labels.device))

    def before_last(self, n: int) -> "Dataset":
        """All but the last n samples; with ``last(n)`` it makes up the whole."""
        self._check_holdout(n)
        return self.head(len(self) - n)

    def last(self, n: int) -> "Dataset":
        """The last n samples, as the split "holdout". ``mean`` and ``std`` stay those of all training images, these included."""
        self._check_holdout(n)
        return replace(self.select(torch.arange(len(self) - n, len(self), device=self.labels.device)), split="holdout")

    def _check_holdout(self, n: int) -> None:
        """ConfigError where nothing would be left, or where a class would be missing on either side (files sorted by class)."""
        if not 0 < n < len(self):
            raise ConfigError(f"data.holdout = {n}; allowed for {self.name}: 1 to {len(self) - 1}")
        every = set(self.labels.tolist())
        for part, labels in (("kept", self.labels[:-n]), ("held out", self.labels[-n:])):
            missing = sorted(every - set(labels.tolist()))
            if missing:
                names = ", ".join(self.class_names[i] for i in missing[:5])
                raise ConfigError(f"data.holdout = {n}: the images {part} lack {len(missing)} classes of {self.name} ({names} ...)")

    def select(self, indices: Tensor) -> "Dataset":
        """The samples ``indices``, in that order."""
        at = indices.to(self.images.device)
        images = self.images[at] if isinstance(self.images, Tensor) else self.images.select(at)
        return replace(self, images=images, labels=self.labels[indices])
