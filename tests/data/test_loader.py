"""Batches as pure functions of (seed, epoch, batch), whole or in parts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfold.data import Batch, Dataset, Loader
from bitfold.data.draws import Draws, bits, permutation
from bitfold.errors import ConfigError

AUGMENT = ("pad_crop:2", "flip", "random_resized_crop:0.3", "color_jitter:0.3", "cutout:3")


def dataset(n: int = 37, channels: int = 3, size: int = 6) -> Dataset:
    images = (torch.arange(n * channels * size * size) * 7919 % 256).to(torch.uint8).view(n, channels, size, size)
    return Dataset("toy", "train", images, torch.arange(n) % 5, tuple("abcde"), (0.4,) * channels, (0.2,) * channels)


def equal(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_splitmix64_matches_its_published_sequence() -> None:
    """SplitMix64 seeded with 1234567 gives 6457827717110365317, 3203168211198807973 (the reference implementation's first numbers)."""
    from bitfold.data.draws import _GOLDEN, _mix, _signed

    states = torch.tensor([_signed(1234567 + _GOLDEN), _signed(1234567 + 2 * _GOLDEN)])
    assert [int(x) % 2**64 for x in _mix(states)] == [6457827717110365317, 3203168211198807973]


def test_draws_are_uniform_and_streams_differ() -> None:
    draws = Draws(3, 5, torch.arange(20_000))
    a, b = draws.uniform(), draws.uniform()
    for x in (a, b):
        assert float(x.min()) >= 0 and float(x.max()) < 1
        counts = torch.histc(x, 10, 0, 1)
        assert float((counts - 2000).abs().max()) < 250  # 5 standard deviations are 212
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.03
    assert torch.bincount(Draws(1, 0, torch.arange(9000)).integer(9), minlength=9).min() > 800


def test_draws_depend_on_the_sample_alone_not_on_its_place() -> None:
    whole = bits(1, 2, torch.arange(10), 3)
    assert torch.equal(bits(1, 2, torch.tensor([7, 2]), 3), whole[[7, 2]])
    assert not torch.equal(whole, bits(1, 3, torch.arange(10), 3)) and not torch.equal(whole, bits(2, 2, torch.arange(10), 3))


@given(seed=st.integers(0, 2**40), epoch=st.integers(0, 10_000), n=st.integers(1, 300))
def test_permutation(seed: int, epoch: int, n: int) -> None:
    assert torch.equal(permutation(seed, epoch, n).sort().values, torch.arange(n))


def test_epochs_differ_and_repeat() -> None:
    orders = [torch.cat([b.indices for b in Loader(dataset(), 5, drop_last=False).epoch(e)]).tolist() for e in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1] and sorted(orders[0]) == sorted(orders[1]) == list(range(37))


def test_resuming_in_the_middle_gives_the_same_batches() -> None:
    loader = Loader(dataset(), 5, seed=9, augment=AUGMENT)
    whole = list(loader.epoch(4))
    assert len(whole) == len(loader) == 7
    later = list(Loader(dataset(), 5, seed=9, augment=AUGMENT).epoch(4, start=3))
    assert all(equal(a, b) for a, b in zip(whole[3:], later, strict=True)) and equal(loader.batch(4, 6), whole[6])


@given(world_size=st.sampled_from([1, 2, 3, 4]), per_rank=st.integers(1, 4), epoch=st.integers(0, 3), drop_last=st.booleans())
@settings(max_examples=20, deadline=None)
def test_processes_share_exactly_the_joined_batch(world_size: int, per_rank: int, epoch: int, drop_last: bool) -> None:
    """Augmentation included: joined parts equal the one-process batch bit for bit."""
    options = {"seed": 11, "augment": AUGMENT[:2], "drop_last": drop_last}
    size = world_size * per_rank
    one = list(Loader(dataset(), size, **options).epoch(epoch))
    ranks = [list(Loader(dataset(), size, rank=r, world_size=world_size, **options).epoch(epoch)) for r in range(world_size)]
    for k, joined in enumerate(one):
        parts = [ranks[r][k] for r in range(world_size)]
        assert equal(joined, Batch(*(torch.cat(column) for column in zip(*parts, strict=True))))


def test_all_augmentations_are_independent_of_the_number_of_processes() -> None:
    one = Loader(dataset(), 8, augment=AUGMENT).batch(0, 0).inputs
    parts = [Loader(dataset(), 8, augment=AUGMENT, rank=r, world_size=2).batch(0, 0).inputs for r in (0, 1)]
    torch.testing.assert_close(one, torch.cat(parts), rtol=0, atol=1e-5)  # resampling may sum in another order


def test_drop_last_and_partial_batches() -> None:
    assert [len(b.labels) for b in Loader(dataset(), 10, drop_last=False)] == [10, 10, 10, 7]
    assert [len(b.labels) for b in Loader(dataset(), 10)] == [10, 10, 10]


def test_evaluation_keeps_the_order_and_normalises() -> None:
    batches = list(Loader(dataset(), 10, shuffle=False, drop_last=False))
    assert torch.equal(torch.cat([b.indices for b in batches]), torch.arange(37))
    expected = (dataset().images[:10].double() / 255 - 0.4) / 0.2
    torch.testing.assert_close(batches[0].inputs.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "low", "high"), [("unit", 0, 1), ("signed", -1, 1), ("imagenet", -2.2, 2.7)])
def test_normalizations(name: str, low: float, high: float) -> None:
    inputs = Loader(dataset(), 30, normalize=name).batch(0, 0).inputs
    assert low <= float(inputs.min()) and float(inputs.max()) <= high


def test_channels_last() -> None:
    assert Loader(dataset(), 4, channels_last=True).batch(0, 0).inputs.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 5, "world_size": 2}, "multiple of world_size"),
        ({"batch_size": 4, "world_size": 2, "rank": 2}, "rank=2"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 38}, "above the 37 samples"),
        ({"batch_size": 4, "normalize": "imagnet"}, "did you mean 'imagenet'"),
        ({"batch_size": 4, "augment": ("flop",)}, "did you mean 'flip'"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Loader(dataset(), **options)  # type: ignore[arg-type]


def test_normalisation_for_another_number_of_channels() -> None:
    with pytest.raises(ConfigError, match="is for 3 channels; toy has 1"):
        Loader(dataset(channels=1), 4, normalize="imagenet")
    with pytest.raises(ConfigError, match=r"batch 9 is not one of 0..8"):
        Loader(dataset(), 4).batch(0, 9)
