"""Which images a recipe trains on and which it is tested on."""

import torch
from tests.training.recipes import short

from bitfold.data import load
from bitfold.training.loaders import test_loader as held_loader  # not a test
from bitfold.training.loaders import train_loader


def test_holdout_takes_the_place_of_the_test_set() -> None:
    recipe = short("data.holdout=300", "data.train_limit=5000", "data.test_limit=5000")
    kept, held = train_loader(recipe, None).dataset, held_loader(recipe, None).dataset
    train = load("digits")
    assert (len(kept), len(held), held.split) == (901, 300, "holdout")
    assert torch.equal(torch.cat([torch.as_tensor(kept.images), torch.as_tensor(held.images)]), torch.as_tensor(train.images))


def test_limits_apply_to_what_the_holdout_leaves() -> None:
    recipe = short("data.holdout=300")  # train_limit 200, test_limit 100
    kept, held, train = train_loader(recipe, None).dataset, held_loader(recipe, None).dataset, load("digits")
    assert torch.equal(kept.labels, train.labels[:200]) and torch.equal(held.labels, train.labels[901:1001])


def test_without_holdout_the_test_set_is_the_official_one() -> None:
    recipe = short("data.test_limit=5000")
    assert torch.equal(held_loader(recipe, None).dataset.labels, load("digits", "test").labels)
