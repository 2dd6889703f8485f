"""The embedded data set: sizes, split, statistics."""

import pytest
import torch

from bitfold import data
from bitfold.errors import ConfigError


def test_split_is_stratified_disjoint_and_complete() -> None:
    train, test = data.load("digits", "train"), data.load("digits", "test")
    assert (len(train), len(test)) == (1201, 596)
    counts = torch.bincount(train.labels) + torch.bincount(test.labels)
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # printed in scikit-learn's data set description
    assert torch.equal(torch.bincount(test.labels), counts // 3)
    rows = {tuple(row.tolist()) for row in torch.cat([train.images, test.images]).flatten(1)}
    assert len(rows) == 1797  # no scan is in both parts


def test_values_and_statistics() -> None:
    train = data.load("digits")
    assert train.images.dtype == torch.uint8 and train.image_shape == (1, 8, 8) and train.max_value == 16
    assert int(train.images.max()) == 16
    inputs = data.Loader(train, len(train), shuffle=False).batch(0, 0).inputs
    assert abs(float(inputs.mean())) < 1e-3 and abs(float(inputs.std()) - 1) < 1e-3


def test_head_and_select() -> None:
    test = data.load("digits", "test")
    assert torch.equal(test.head(10).images, test.images[:10]) and len(test.head(10_000)) == 596
    assert torch.equal(test.select(torch.tensor([3, 1])).labels, test.labels[[3, 1]])


def test_holdout_is_the_end_of_the_training_images() -> None:
    train = data.load("digits")
    kept, held = train.before_last(300), train.last(300)
    assert (len(kept), len(held), held.split) == (901, 300, "holdout")
    assert torch.equal(torch.cat([kept.images, held.images]), train.images)


@pytest.mark.parametrize("n", [0, 1201])
def test_holdout_leaves_something_on_both_sides(n: int) -> None:
    with pytest.raises(ConfigError, match=f"data.holdout = {n}; allowed for digits: 1 to 1200"):
        data.load("digits").last(n)


def test_holdout_of_sorted_files_is_refused() -> None:
    train = data.load("digits")
    by_class = train.select(torch.argsort(train.labels))
    with pytest.raises(ConfigError, match=r"the images held out lack 9 classes of digits \(0, 1"):
        by_class.last(100)
