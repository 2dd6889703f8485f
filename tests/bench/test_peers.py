import gc
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import bitfold
from bitfold._core import detected_isa
from bitfold.bench import peers
from bitfold.bench.check import check
from bitfold.bench.peers import pytorch
from bitfold.bench.peers._base import Subject, missing, no_telemetry
from bitfold.bench.shapes import Shape, build
from bitfold.bench.timing import compare
from bitfold.errors import ConfigError, ExportError
from bitfold.layers.quant import QuantConv2d
from bitfold.quantizers.sign import Sign

LOW_BIT = [name for name in peers.names() if peers.get(name).PRECISION == "low-bit"]
BINARY = [name for name in LOW_BIT if peers.serves(name, "binary", "binary")]


@pytest.fixture
def subject(rng, tmp_path) -> Subject:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.PReLU(8), nn.Flatten(), nn.Linear(8 * 36, 10))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(0.3 * rng.standard_normal(p.shape)))
    x = rng.standard_normal((1, 3, 6, 6)).astype(np.float32)
    calibration = tuple(rng.standard_normal((1, 3, 6, 6)).astype(np.float32) for _ in range(4))
    return Subject(model.eval(), x, calibration, threads=1, folder=tmp_path)


@pytest.mark.parametrize("name", [name for name in peers.names() if name not in LOW_BIT])
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
    assert {"pytorch", "onnxruntime_float32", "onnxruntime_int8", "openvino_float32", "openvino_int8", "openvino_binary"} <= set(
        peers.names()
    )
    assert {peers.get(name).PRECISION for name in peers.names()} == {"float32", "int8", "low-bit"}


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


@pytest.fixture
def low_bit(subject, tmp_path) -> Subject:
    torch.manual_seed(0)
    model = bitfold.apply(bitfold.models.create("digits_cnn"), "bireal").eval()
    x = np.random.default_rng(0).standard_normal((1, 1, 8, 8)).astype(np.float32)
    return Subject(subject.model, x, (), threads=1, folder=tmp_path, graph=bitfold.export(model, torch.from_numpy(x)))


@pytest.mark.parametrize("name", BINARY)
def test_low_bit_peer_gives_the_graphs_answer(name, low_bit):
    peer = peers.get(name)
    reason = peer.available()
    if reason is not None:
        pytest.skip(reason)
    assert low_bit.graph is not None
    result = check(peer.prepare(low_bit).call(), bitfold.load(low_bit.graph)(low_bit.x), peer.PRECISION)
    assert result.problem is None and result.max_difference < 1e-4, result


def test_openvinos_binary_convolution_takes_what_it_computes_rightly(low_bit):
    peer = peers.get("openvino_binary")
    if peer.available() is not None:
        pytest.skip(peer.available())
    twelve = nn.Sequential(QuantConv2d(12, 16, 3, act_quant=Sign(), weight_quant=Sign())).eval()
    x = np.zeros((1, 12, 4, 4), np.float32)
    graph = bitfold.export(twelve, torch.from_numpy(x))
    with pytest.raises(ExportError, match="12 input channels"):
        peer.prepare(replace(low_bit, x=x, graph=graph))
    with pytest.raises(ExportError, match="a float network alone"):
        peer.prepare(replace(low_bit, graph=None))


@pytest.mark.parametrize("weight", ["2 bit", "ternary"])
def test_matmulnbits_is_the_layer_of_the_graph(weight, subject):
    peer = peers.get("onnxruntime_2bit")
    if peer.available() is not None:
        pytest.skip(peer.available())
    case = build(Shape("a block that is not full", 300, 12, 1, 0, weight=weight, act="8 bit", batch=5))
    x = np.clip(case.x, -1.95, 1.95)  # beyond 2 the graph's quantiser cuts off
    try:
        prepared = peer.prepare(replace(subject, x=x, graph=case.graph))
    except Exception as error:
        if "bits" in str(error):
            pytest.skip(f"this ONNX Runtime has no 2-bit weights: {error}")
        raise
    want = bitfold.interpret(case.graph, x)
    result = check(prepared.call(), want, "low-bit")
    assert result.problem is None and result.max_difference < 0.02, result


def test_matmulnbits_refuses_what_it_cannot_hold(low_bit):
    peer = peers.get("onnxruntime_2bit")
    with pytest.raises(ExportError, match="allowed: Quantize, Linear"):
        peer.prepare(low_bit)
    four = build(Shape("four bits", 64, 8, 1, 0, weight="4 bit", act="8 bit"))
    with pytest.raises(ExportError, match="allowed: codes from -2 to 1"):
        peer.prepare(replace(low_bit, x=four.x, graph=four.graph))
    acts = build(Shape("two bits", 64, 8, 1, 0, weight="2 bit", act="2 bit"))
    with pytest.raises(ExportError, match="allowed: 8 bits"):
        peer.prepare(replace(low_bit, x=acts.x, graph=acts.graph))


def test_pytorch_limited_to_avx2_answers_and_times_itself_in_its_own_process(subject, monkeypatch):
    peer = peers.get("pytorch_avx2")
    if "avx2" not in detected_isa() and "avx512" not in detected_isa():
        pytest.skip("not an x86 CPU with AVX2")
    prepared = peer.prepare(subject)  # also where the CPU has nothing beyond AVX2, and available() says so
    with torch.no_grad():
        want = subject.model(torch.from_numpy(subject.x)).numpy()
    assert check(prepared.call(), want, "float32").problem is None
    assert prepared.note.startswith("own process, eager, ") and prepared.note.endswith("AVX2")
    asked: list[int] = []
    own_clock = type(prepared.call).round
    monkeypatch.setattr(type(prepared.call), "round", lambda self, loops: asked.append(loops) or own_clock(self, loops))
    times = compare({"avx2": prepared.call}, repeats=5)
    assert times["avx2"].min_us > 0 and asked[-5:] == 5 * [times["avx2"].loops]
    process = prepared.call.process
    del prepared, times
    gc.collect()
    assert process.poll() == 0


@pytest.mark.slow
def test_a_limit_that_pytorch_does_not_take_is_an_error(subject, monkeypatch):
    peer = peers.get("pytorch_avx2")
    monkeypatch.setitem(peer.LIMITS, "ATEN_CPU_CAPABILITY", "default")
    with pytest.raises(RuntimeError, match=r"PyTorch took (DEFAULT|NO AVX) in a process that was limited to AVX2"):
        peer.prepare(subject)


def test_without_wider_instructions_pytorch_avx2_is_the_plain_row(monkeypatch):
    peer = peers.get("pytorch_avx2")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert "the row pytorch is this row" in peer.available()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert peer.available() is None


def test_larq_says_why_it_does_not_run():
    assert "reference kernels" in peers.get("larq").available()
