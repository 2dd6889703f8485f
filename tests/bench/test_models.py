from dataclasses import replace

import numpy as np
import pytest
import torch

from bitfold.bench import models, peers
from bitfold.bench.models import Entry, bytes_entry, float_entry, input_shape, load_entry, low_bit_entry, peer_entry, pictures, untrained
from bitfold.bench.peers._base import Prepared, Subject
from bitfold.errors import ConfigError


@pytest.mark.slow
def test_every_contestant_of_the_digits_network_has_a_time_or_a_reason():
    both = models.run(["digits_cnn"], repeats=5)
    made = [row for row in both if row.subject == "digits_cnn"]
    loads = {row.contestant: row for row in both if row.subject == "digits_cnn, load and first output"}
    assert len(made) + len(loads) == len(both)
    assert {"bitfold bireal", "bitfold float32"} < set(loads) and "pytorch" not in loads
    assert all(row.reason is None and row.timing is not None and row.details["file"] == "cached" for row in loads.values())
    stems = [f"bitfold bireal, bytes, {bits}-bit stem" for bits in models.STEM_BITS]
    assert [row.contestant for row in made] == [
        "bitfold bireal",
        *stems,
        "bitfold float32",
        *(p for p in peers.names() if p != "onnxruntime_2bit"),
    ]
    for row in made:
        assert (row.timing is None) == (row.reason is not None), row
    mine = {row.contestant: row for row in made}
    assert mine["bitfold bireal"].timing is not None and mine["bitfold float32"].timing is not None
    assert mine["bitfold bireal"].details["accumulators_differ"] == 0
    assert mine["bitfold bireal"].details["size_bytes"] < mine["bitfold float32"].details["size_bytes"] / 8
    assert all(row.details["weights"] == "untrained" for row in made)


def test_an_unknown_peer_is_refused_before_any_work():
    with pytest.raises(ConfigError, match="unknown peer"):
        models.run(["digits_cnn"], ["tensorlow"], say=lambda words: pytest.fail(words))


class FakePeer:
    PRECISION = "float32"

    def __init__(self, reason=None, output=None):
        self.reason, self.output = reason, output

    def available(self):
        return self.reason

    def prepare(self, subject):
        if self.output is None:
            raise RuntimeError("no such operator\nat line 3")
        return Prepared(lambda: self.output, "fake")


def test_a_peer_that_is_missing_fails_or_lies_keeps_its_row_with_the_reason(monkeypatch, tmp_path):
    want = np.ones((1, 3), np.float32)
    subject = Subject(torch.nn.Identity(), want, (), 1, tmp_path)

    def entry(peer: FakePeer) -> Entry:
        monkeypatch.setattr(peers, "get", lambda name: peer)
        return peer_entry("fake", subject, want)

    assert entry(FakePeer(reason="not installed: x")).reason == "not installed: x"
    assert entry(FakePeer()).reason == "RuntimeError: no such operator"
    wrong = entry(FakePeer(output=2 * want))
    assert wrong.call is None and "wrong result" in str(wrong.reason)
    lost = entry(FakePeer(output=np.nan * want))
    assert lost.call is None and lost.reason == "output is not finite" and "cosine" not in lost.details  # a row could not hold NaN
    right = entry(FakePeer(output=want))
    assert right.call is not None and right.reason is None and right.details["form"] == "fake"


def test_the_engines_entries_check_themselves(rng):
    x = pictures(rng, 1, input_shape("digits_cnn"))
    twin = untrained("digits_cnn")
    want = twin(torch.from_numpy(x)).detach().numpy()
    assert float_entry(twin, x, want, threads=1).call is not None
    assert "wrong result" in str(float_entry(twin, x, want + 1, threads=1).reason)
    assert low_bit_entry(untrained("digits_cnn", "bireal"), x, 1, "low").details["accumulators_differ"] == 0


def test_bytes_are_the_same_pictures_and_a_first_layer_that_cannot_take_them_is_a_reason(rng):
    x = pictures(rng, 2, input_shape("digits_cnn"))
    assert bytes_entry(untrained("digits_cnn", "bireal"), x, 1, "bytes", 8).details["accumulators_differ"] == 0
    twin = untrained("digits_cnn")
    entry = bytes_entry(twin, x, 1, "bytes", 16)
    assert entry.call is not None
    assert np.abs(entry.call() - twin(torch.from_numpy(x)).detach().numpy()).max() < 0.1 * np.abs(entry.call()).max()
    relu = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Conv2d(1, 4, 3)).eval()
    refused = bytes_entry(relu, x, 1, "bytes", 8)
    assert refused.call is None and "export" in str(refused.reason).lower()


def test_a_load_starts_at_the_file_and_must_give_the_same_output(rng, tmp_path):
    x = pictures(rng, 1, input_shape("digits_cnn"))
    entry = low_bit_entry(untrained("digits_cnn", "bireal"), x, 1, "low", folder=tmp_path)
    assert entry.first is not None and entry.call is not None
    assert np.array_equal(entry.first(), entry.call())
    load = load_entry(entry)
    assert load.call is entry.first and load.reason is None and load.details["precision"] == "low-bit"
    wrong = load_entry(replace(entry, first=lambda: entry.call() + 1))
    assert wrong.call is None and "wrong result" in str(wrong.reason)
    (tmp_path / "low.bitfold").unlink()
    assert "FileNotFoundError" in str(load_entry(entry).reason)


def test_untrained_networks_repeat_and_keep_momentum():
    a, b = untrained("digits_cnn", "bireal"), untrained("digits_cnn", "bireal")
    assert all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert {m.momentum for m in a.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.1}
    assert not a.training


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 7, 9)])
def test_pictures_have_the_shape_and_a_mean_that_varies(rng, shape):
    x = pictures(rng, 50, shape)
    assert x.shape == (50, *shape) and x.dtype == np.float32
    assert x.mean(axis=(2, 3)).std() > 0.1  # white noise of 8x8 pixels would give 0.06 and less
