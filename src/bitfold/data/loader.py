"""Batches as a pure function: batch k of epoch e depends on (seed, e, k) alone, and each process takes its part of it."""

import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from bitfold.data.augment import Augment
from bitfold.data.dataset import Dataset
from bitfold.data.draws import Draws, permutation
from bitfold.errors import ConfigError, unknown

# name -> (mean, std) of values in [0, 1]; "dataset" means the data set's own
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NORMALIZE: dict[str, tuple[tuple[float, ...], tuple[float, ...]] | None] = {
    "dataset": None,
    "imagenet": _IMAGENET,  # what most CIFAR code of papers uses, too
    "unit": ((0.0,), (1.0,)),  # values stay in [0, 1]
    "signed": ((0.5,), (0.5,)),  # values in [-1, 1]
}


class Batch(NamedTuple):
    inputs: Tensor  # float32 (n, channels, height, width), normalised
    labels: Tensor  # int64 (n,)
    indices: Tensor  # int64 (n,): which samples of the data set


class Loader:
    """Makes batches on the device where the data set's labels are.

    batch_size: of all processes together; must be a multiple of world_size. shuffle: a new order each epoch, else the order of the
    data set. drop_last: leave out the last batch if it is not full. A batch that is not full is split as evenly as can be, the first
    ranks get one more sample; a rank's part may be empty.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        augment: Sequence[str] = (),
        normalize: str = "dataset",
        rank: int = 0,
        world_size: int = 1,
        channels_last: bool = False,
    ) -> None:
        if batch_size < 1 or batch_size % world_size != 0 or not 0 <= rank < world_size:
            raise ConfigError(
                f"loader: batch_size={batch_size}, rank={rank}, world_size={world_size}; batch_size must be a multiple of world_size"
            )
        if drop_last and batch_size > len(dataset):
            raise ConfigError(f"loader: batch_size={batch_size} is above the {len(dataset)} samples of {dataset.name} {dataset.split}")
        if normalize not in NORMALIZE:
            raise unknown("normalization", normalize, NORMALIZE)
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self._shuffle, self._rank, self._world_size = shuffle, rank, world_size
        full, rest = divmod(len(dataset), batch_size)
        self._batches = full + (1 if rest and not drop_last else 0)
        self._augment = Augment(augment)
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        mean, std = NORMALIZE[normalize] or (dataset.mean, dataset.std)
        channels = dataset.image_shape[0]
        if len(mean) not in (1, channels):
            raise ConfigError(f"loader: normalize={normalize!r} is for {len(mean)} channels; {dataset.name} has {channels}")
        self.mean, self.std = mean, std
        shift = torch.tensor(mean, device=self.device)
        scale = torch.tensor(std, device=self.device)
        self._shift, self._scale = shift.view(1, -1, 1, 1), scale.view(1, -1, 1, 1)

    def over(self, dataset: Dataset) -> "Loader":
        """The same batches, normalised alike, of a data set with as many samples of the same shape."""
        if len(dataset) != len(self.dataset) or dataset.image_shape != self.dataset.image_shape:
            raise ConfigError(
                f"loader: {len(dataset)} samples of {dataset.image_shape} in place of {len(self.dataset)} of {self.dataset.image_shape}"
            )
        twin = copy.copy(self)
        twin.dataset = dataset
        return twin

    @property
    def device(self) -> torch.device:
        return self.dataset.labels.device

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._batches

    def __iter__(self) -> Iterator[Batch]:
        """The batches of epoch 0: the way to evaluate."""
        return self.epoch(0)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches ``start``.. of an epoch. Streamed images are read one batch ahead."""
        order = self._order(epoch)
        ks = range(start, len(self))
        if isinstance(self.dataset.images, Tensor):
            for k in ks:
                yield self._make(epoch, *self._fetch(order, k))
            return
        with ThreadPoolExecutor(1) as reader:
            ahead = [reader.submit(self._fetch, order, k) for k in ks[:1]]
            for k in ks:
                images, indices = ahead.pop().result()
                if k + 1 < len(self):
                    ahead.append(reader.submit(self._fetch, order, k + 1))
                yield self._make(epoch, images, indices)

    def batch(self, epoch: int, k: int) -> Batch:
        """Batch k of an epoch."""
        if not 0 <= k < len(self):
            raise ConfigError(f"loader: batch {k} is not one of 0..{len(self) - 1}")
        return self._make(epoch, *self._fetch(self._order(epoch), k))

    def _order(self, epoch: int) -> Tensor:
        if self._shuffle:
            return permutation(self.seed, epoch, len(self.dataset), self.device)
        return torch.arange(len(self.dataset), device=self.device)

    def _fetch(self, order: Tensor, k: int) -> tuple[Tensor, Tensor]:
        joined = order[k * self.batch_size : (k + 1) * self.batch_size]
        indices = joined.tensor_split(self._world_size)[self._rank]
        images = self.dataset.images
        return images[indices.to(images.device)].to(self.device, non_blocking=True), indices

    def _make(self, epoch: int, images: Tensor, indices: Tensor) -> Batch:
        draws = Draws(self.seed, epoch, indices)
        x = self._augment.run("bytes", images, draws)
        x = x.to(torch.float32) / self.dataset.max_value
        x = self._augment.run("unit", x, draws)
        x = (x - self._shift).div_(self._scale)  # not times a reciprocal: published binary networks tell the last bit
        x = self._augment.run("normalized", x, draws)
        return Batch(x.contiguous(memory_format=self._format), self.dataset.labels[indices], indices)
