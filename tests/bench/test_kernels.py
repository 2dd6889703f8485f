import numpy as np
import pytest
import torch

import bitfold
from bitfold.bench import kernels, peers
from bitfold.bench.peers._base import Subject
from bitfold.bench.shapes import CODES, SHAPES, Shape, build
from bitfold.errors import ConfigError

SMALL = (
    Shape("conv", 8, 8, 6, 3),
    Shape("chain", 8, 8, 6, 3, blocks=2),
    Shape("linear", 40, 12, 1, 0, batch=3),
    Shape("stem", 3, 8, 14, 7, stride=2, weight="float", act="float"),
    Shape("depthwise", 8, 8, 6, 3, weight="float", act="float", groups=8),
    Shape("distance", 8, 8, 6, 3, weight="8 bit", act="8 bit", metric="distance"),
)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(kernels, "SHAPES", SMALL)


@pytest.mark.parametrize("shape", SMALL, ids=lambda s: s.name)
def test_rows_name_the_kernel_its_rate_and_its_ceiling(shape, small):
    peak, row = kernels.run([shape.name], peer_names=[], repeats=5)
    assert row.reason is None and row.timing is not None and row.contestant == "bitfold" and row.batch == shape.batch
    net, x = bitfold.load(build(shape).graph), build(shape).x
    assert row.details["kernel"] in {k.kernel for k in net.kernels}
    assert sum(step.operations for step in net.profile(x)) == shape.macs
    assert row.details["gmacs_per_s"] == pytest.approx(shape.macs / row.timing.median_us / 1e3)
    assert row.details["kernel_gmacs_per_s"] > 0 and peak.details[f"{row.details['ceiling']}_gmacs_per_s"] > 0


@pytest.mark.parametrize("act", [*CODES, "float"])
def test_every_pair_of_encodings_is_what_the_interpreter_computes(act):
    for weight in CODES:
        case = build(Shape(f"{weight} x {act}", 8, 5, 4, 3, weight=weight, act=act))
        assert np.allclose(bitfold.load(case.graph)(case.x), bitfold.interpret(case.graph, case.x), atol=1e-5)


def test_the_product_is_one_step_with_its_epilogue():
    case = build(SMALL[1])
    net = bitfold.load(case.graph)
    assert [k.op for k in net.kernels if k.layer.startswith("product")][-1] == "Conv+Add+TwoSlope"
    assert case.twin(torch.from_numpy(case.x)).shape == net(case.x).shape == (1, 8, 6, 6)


def test_peers_run_beside_it_and_none_runs_a_distance(small):
    made = kernels.run(["chain", "distance"], peer_names=["pytorch"], repeats=5)
    assert [(row.subject, row.contestant) for row in made[1:]] == [("chain", "bitfold"), ("chain", "pytorch"), ("distance", "bitfold")]
    assert all(row.timing is not None for row in made[1:])


def test_a_binary_peer_is_compared_with_the_engine(tmp_path):
    if peers.get("openvino_binary").available() is not None:
        pytest.skip(peers.get("openvino_binary").available())
    case = build(SMALL[1])
    entry = kernels.peer_entry("openvino_binary", Subject(case.twin, case.x, (), 1, tmp_path, case.graph), np.zeros(1))
    assert entry.reason is None and entry.details["cosine"] > 0.999


def test_a_binary_linear_layer_runs_in_the_binary_peer_too(tmp_path):
    if peers.get("openvino_binary").available() is not None:
        pytest.skip(peers.get("openvino_binary").available())
    case = build(SMALL[2])
    entry = kernels.peer_entry("openvino_binary", Subject(case.twin, case.x, (), 1, tmp_path, case.graph), np.zeros(1))
    assert entry.reason is None and entry.details["cosine"] > 0.999


def test_a_wrong_result_has_no_time(small, monkeypatch):
    monkeypatch.setattr(kernels, "interpret", lambda graph, x: np.ones((1, 12), np.float32))
    _, row = kernels.run(["linear"], peer_names=[], repeats=5)
    assert row.timing is None and "wrong result" in str(row.reason) and "gmacs_per_s" not in row.details


def test_shapes_are_those_of_the_tables_and_unknown_ones_are_refused():
    assert SHAPES[0].macs == 6 * 56 * 56 * 64 * 64 * 9
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)
    with pytest.raises(ConfigError, match="did you mean 'six Bi-Real blocks 512x7x7'"):
        kernels.run(["six Bi-Real blocks 512x7x8"])
    with pytest.raises(ConfigError, match="did you mean 'pytorch'"):
        kernels.run([], peer_names=["pytorhc"])
