"""scikit-learn's digits: 1,797 real scans of 8x8 pixels with values 0..16, bundled with that package (Alpaydin & Kaynak 1998, UCI)."""

import torch

from bitfold.data.dataset import Dataset
from bitfold.data.draws import bits


def load(split: str) -> Dataset:
    """A third of each class, drawn once and for ever, is "test" (596 scans); the others are "train" (1,201)."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    images = torch.from_numpy(raw.images).to(torch.uint8)[:, None]
    labels = torch.from_numpy(raw.target).to(torch.int64)
    rank = bits(1998, 0, torch.arange(len(labels)), 0)
    test = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(10):
        members = torch.nonzero(labels == label).flatten()
        test[members[torch.argsort(rank[members])[: len(members) // 3]]] = True
    chosen = test if split == "test" else ~test
    return Dataset(
        name="digits",
        split=split,
        images=images[chosen],
        labels=labels[chosen],
        class_names=tuple("0123456789"),
        mean=(0.3053,),
        std=(0.3757,),
        max_value=16,
        official=True,
        source="scikit-learn",
    )
