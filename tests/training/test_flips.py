"""Flip rates count changed codes."""

import torch

import bitfold
from bitfold import models
from bitfold.training.flips import flip_rates, weight_codes


def test_counts_exactly_the_weights_that_changed_sign() -> None:
    model = bitfold.apply(models.create("digits_cnn", width=4), "bireal")
    before = weight_codes(model)
    assert set(before) == {f"blocks.{i}.conv" for i in range(5)} and all(c.dtype == torch.int8 for c in before.values())
    with torch.no_grad():
        model.blocks[0].conv.weight[0].neg_()
    rates = flip_rates(before, weight_codes(model))
    total = sum(c.numel() for c in before.values())
    assert rates["blocks.0.conv"] == 0.25 and rates["blocks.1.conv"] == 0.0 and rates[""] == 36 / total


def test_a_float_network_has_no_rate() -> None:
    assert flip_rates({}, weight_codes(models.create("digits_cnn", width=4))) == {}
