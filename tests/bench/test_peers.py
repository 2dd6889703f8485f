import os

import numpy as np
import pytest
import torch
from torch import nn

from bitfold.bench import peers
from bitfold.bench.check import check
from bitfold.bench.peers import pytorch
from bitfold.bench.peers._base import Subject, missing, no_telemetry
from bitfold.errors import ConfigError


@pytest.fixture
def subject(rng, tmp_path) -> Subject:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8), nn.Flatten(), nn.Linear(8 * 36, 10))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(0.3 * rng.standard_normal(p.shape)))
    x = rng.standard_normal((1, 3, 6, 6)).astype(np.float32)
    calibration = tuple(rng.standard_normal((1, 3, 6, 6)).astype(np.float32) for _ in range(4))
    return Subject(model.eval(), x, calibration, threads=1, folder=tmp_path)


@pytest.mark.parametrize("name", peers.names())
def test_peer_gives_the_float_networks_answer(name, subject):
    peer = peers.get(name)
    reason = peer.available()
    if reason is not None:
        pytest.skip(reason)
    with torch.no_grad():
        want = subject.model(torch.from_numpy(subject.x)).numpy()
    prepared = peer.prepare(subject)
    result = check(prepared.call(), want, peer.PRECISION)
    assert result.problem is None, result
    assert prepared.note
    first = prepared.call().copy()
    assert np.array_equal(first, prepared.call())


def test_every_peer_states_its_precision():
    assert {"pytorch", "onnxruntime_float32", "onnxruntime_int8", "openvino_float32", "openvino_int8"} <= set(peers.names())
    assert {peers.get(name).PRECISION for name in peers.names()} == {"float32", "int8"}


def test_unknown_peer_is_suggested():
    with pytest.raises(ConfigError, match="did you mean 'pytorch'"):
        peers.get("pytorhc")


def test_a_missing_package_is_the_reason():
    assert missing("numpy") is None
    assert "surely_not_a_package" in str(missing("numpy", "surely_not_a_package"))


def test_torch_threads_are_restored_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), pytorch.threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_environment_is_restored(monkeypatch):
    monkeypatch.setenv("CI", "perhaps")
    with no_telemetry():
        assert os.environ["CI"] == "true"
    assert os.environ["CI"] == "perhaps"
    monkeypatch.delenv("CI")
    with no_telemetry():
        assert os.environ["CI"] == "true"
    assert "CI" not in os.environ
