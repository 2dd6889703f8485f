"""The data of a recipe as loaders."""

from pathlib import Path
from typing import Any

import torch

from bitfold.data import Dataset, Loader, load
from bitfold.errors import ConfigError
from bitfold.layers.layout import memory_format
from bitfold.training.recipe import Recipe

TEST_BATCH = 500


def train_loader(recipe: Recipe, root: str | Path | None, device: torch.device | str = "cpu", rank: int = 0, processes: int = 1) -> Loader:
    """Shuffled, augmented batches of the training split; each process takes its part of every batch. ``root``: folder of data sets."""
    spec = recipe.data
    data = _split(recipe, "train", root, spec.train_limit).to(device)
    if processes > 1 and not spec.drop_last and len(data) % spec.batch_size:
        raise ConfigError("data.drop_last = false: the last batch cannot be shared evenly by several processes; set data.drop_last=true")
    return Loader(
        data,
        spec.batch_size,
        seed=recipe.seed,
        drop_last=spec.drop_last,
        augment=spec.augment,
        normalize=spec.normalize,
        rank=rank,
        world_size=processes,
        channels_last=memory_format(device, any(s.compile for s in recipe.stage)) is torch.channels_last,
    )


def test_loader(recipe: Recipe, root: str | Path | None, device: torch.device | str = "cpu") -> Loader:
    """The test split, or with ``holdout`` what stands for it, in its own order, whole, without augmentation; normalised as in training."""
    data = _split(recipe, "test", root, recipe.data.test_limit).to(device)
    return Loader(
        data,
        TEST_BATCH,
        shuffle=False,
        drop_last=False,
        normalize=recipe.data.normalize,
        channels_last=memory_format(device, any(s.compile for s in recipe.stage)) is torch.channels_last,
    )


def data_facts(loader: Loader) -> dict[str, Any]:
    """What a run remembers about its data, so that its network can be exported and used without them."""
    data = loader.dataset
    return {
        "images": len(data),
        "input_shape": list(data.image_shape),
        "class_names": list(data.class_names),
        "max_value": data.max_value,
        "mean": list(loader.mean),
        "std": list(loader.std),
        "official": data.official,
        "source": data.source,
    }


def _split(recipe: Recipe, split: str, root: str | Path | None, limit: int | None) -> Dataset:
    holdout = recipe.data.holdout
    data = load(recipe.data.name, split if holdout is None else "train", root, **recipe.data.options)
    if holdout is not None:
        data = data.before_last(holdout) if split == "train" else data.last(holdout)
    classes = recipe.model.options.get("num_classes", data.num_classes)
    if classes < data.num_classes:
        raise ConfigError(f"model.options.num_classes = {classes}, but {recipe.data.name} has {data.num_classes} classes")
    return data if limit is None else data.head(limit)
