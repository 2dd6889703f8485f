import json
import random
import struct
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from tests.ir.graphs import graphs, random_graph, random_inputs

from bitfold.errors import BitfoldError, FormatError, GraphError
from bitfold.ir import ops, schema
from bitfold.ir.encoding import Binary, Float
from bitfold.ir.file import MAX_HEADER, file_size
from bitfold.ir.graph import Constant, Graph, TensorType
from bitfold.ir.interpreter import interpret
from bitfold.ir.shorthand import unstacked


def tiny() -> Graph:
    """The example of docs/format.md."""
    rows = np.array([[1, -1, -1, 1, 1, 1, 1, 1, 1, -1], [1] * 10])
    return Graph(
        {"x": TensorType((10,), Float())},
        (
            ops.Quantize(name="fc.act_quant", output="codes", x="x", thresholds="t", encoding=Binary()),
            ops.Linear(name="fc", output="y", x="codes", weight="w", epilogue=ops.Epilogue(mul="m")),
        ),
        ("y",),
        {
            "t": Constant.from_array(np.zeros((1, 1))),
            "m": Constant.from_array(np.array([0.5, 0.25])),
            "w": Constant.from_codes(rows, Binary(scale=(0.5, 0.25))),
        },
        "tiny",
    )


def parts(data: bytes) -> tuple[dict, dict, bytes]:
    """The tensor table, the graph and the tensor bytes of a file."""
    (length,) = struct.unpack("<Q", data[:8])
    table = json.loads(data[8 : 8 + length])
    return table, json.loads(table.pop("__metadata__")["bitfold"]), data[8 + length :]


def join(table, graph, body: bytes) -> bytes:
    """A file of any table and graph, valid or not."""
    inner = graph if isinstance(graph, str) else json.dumps(graph)
    header = (json.dumps({"__metadata__": {"bitfold": inner}, **table}) if isinstance(table, dict) else table).encode()
    header += b" " * (-len(header) % 8 if isinstance(table, dict) else 0)
    return struct.pack("<Q", len(header)) + header + body


def load_bytes(tmp_path: Path, data: bytes) -> Graph:
    path = tmp_path / "case.bitfold"
    path.write_bytes(data)
    return Graph.load(path)


def test_documented_example(tmp_path):
    path = tmp_path / "tiny.bitfold"
    assert tiny().save(path) == path.stat().st_size == file_size(tiny()) == 688
    assert path.read_bytes()[-16:] == bytes.fromhex("00000000 0000003f 0000803e 0602 0000")


@given(graphs())
@settings(max_examples=20, deadline=None)
def test_a_loaded_graph_is_the_saved_one(tmp_path_factory, drawn):
    seed, graph = drawn
    path, again = (tmp_path_factory.mktemp("file") / name for name in ("a.bitfold", "b.bitfold"))
    assert graph.save(path) == path.stat().st_size == file_size(graph)
    loaded = Graph.load(path)
    assert (loaded.nodes, loaded.outputs, dict(loaded.inputs)) == (graph.nodes, graph.outputs, graph.inputs)
    assert (loaded.types, loaded.name, loaded.metadata) == (graph.types, graph.name, graph.metadata)
    assert not any(constant.data.flags.writeable for constant in loaded.constants.values())
    assert list(loaded.inputs) == list(graph.inputs), "the order of inputs is kept"
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()
    inputs = random_inputs(graph, np.random.default_rng(seed))
    for got, expected in zip(interpret(loaded, *inputs), interpret(graph, *inputs), strict=True):
        np.testing.assert_array_equal(got, expected)
    with safetensors.safe_open(path, "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    found = dict(unstacked(tensors))
    assert found.keys() == graph.constants.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, graph.constants[name].data)


def layered() -> Graph:
    """Two layers whose names, values and constants are what export makes."""
    ones = [Constant.from_array(np.full(3, value)) for value in (0.5, 1.0, 2.0, 3.0)]
    weight = Constant.from_codes(np.ones((3, 3), int), Binary())
    return Graph(
        {"x": TensorType((3,), Binary())},
        (
            ops.Linear(name="a.fc", output="a.fc", x="x", weight="a.fc.weight", epilogue=ops.Epilogue("a.fc.mul", "a.fc.bias")),
            ops.TwoSlope(name="act", output="act", x="a.fc", neg="act.neg", pos="act.pos"),
            ops.Add(name="a", output="sum", a="act", b="a.fc"),
        ),
        ("sum",),
        dict(zip(("a.fc.mul", "a.fc.bias", "act.neg", "act.pos", "a.fc.weight"), (*ones, weight), strict=True)),
    )


def test_short_forms_are_those_of_the_documentation(tmp_path):
    layered().save(tmp_path / "m.bitfold")
    table, graph, _ = parts((tmp_path / "m.bitfold").read_bytes())
    assert list(table) == ["a.fc.{mul,bias}", "act.{neg,pos}", "a.fc.weight"] and table["act.{neg,pos}"]["shape"] == [2, 3]
    assert graph["nodes"] == [
        {"type": "Linear", "name": "a.fc", "weight": ".", "epilogue": {"mul": ".", "bias": "."}},
        {"type": "TwoSlope", "name": "act", "neg": ".", "pos": "."},
        {"type": "Add", "name": "a", "output": "sum", "b": ".fc"},
    ]
    assert Graph.load(tmp_path / "m.bitfold").nodes == layered().nodes


def test_long_forms_are_read_too(tmp_path):
    """Files whose nodes say everything and whose constants have a tensor each."""
    layered().save(tmp_path / "m.bitfold")
    table, graph, body = parts((tmp_path / "m.bitfold").read_bytes())
    graph["nodes"] = json.loads(json.dumps([schema.encode(node, ops.Node | type(node)) for node in layered().nodes]))
    whole, at = {}, 0
    for name in ("a.fc.mul", "a.fc.bias", "act.neg", "act.pos"):
        whole[name] = {"dtype": "F32", "shape": [3], "data_offsets": [at, at + 12]}
        at += 12
    loaded = load_bytes(tmp_path, join({**whole, "a.fc.weight": table["a.fc.weight"]}, graph, body))
    assert loaded.nodes == layered().nodes
    loaded.save(tmp_path / "again.bitfold")
    assert (tmp_path / "again.bitfold").read_bytes() == (tmp_path / "m.bitfold").read_bytes()


@pytest.mark.parametrize("bad", [".x", "{a,b}", "__x"])
def test_names_that_mean_something_else_in_the_file_are_refused(bad):
    graph = layered()
    with pytest.raises(GraphError, match="allowed: 1 to"):
        replace(graph, nodes=(*graph.nodes, ops.Abs(name=bad, output="y", x="sum")), outputs=("y",))


def test_files_rewritten_by_other_tools_are_read(tmp_path):
    graph = tiny()
    graph.save(tmp_path / "a.bitfold")
    with safetensors.safe_open(tmp_path / "a.bitfold", "numpy") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    safetensors.numpy.save_file(tensors, tmp_path / "b.bitfold", metadata)
    x = np.ones((1, 10), np.float32)
    np.testing.assert_array_equal(interpret(Graph.load(tmp_path / "b.bitfold"), x), interpret(graph, x))


def test_saving_replaces_the_whole_file_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "m.bitfold"
    tiny().save(path)
    before = path.read_bytes()
    mapped = Graph.load(path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        random_graph(np.random.default_rng(0)).save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["m.bitfold"]
    monkeypatch.undo()
    random_graph(np.random.default_rng(0)).save(path)
    assert mapped.constants["m"].data.tolist() == [0.5, 0.25], "a graph in use keeps the file that it mapped"


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Graph.load(tmp_path / "none.bitfold")


def test_loading_does_not_read_weights_into_memory(tmp_path):
    weight = Constant(TensorType((4096, 4096), Binary()), np.zeros((1, 4096, 512), np.uint8))  # 2 MB
    node = ops.Linear(name="fc", output="y", x="x", weight="w")
    Graph({"x": TensorType((4096,), Binary())}, (node,), ("y",), {"w": weight}).save(tmp_path / "m.bitfold")
    tracemalloc.start()
    Graph.load(tmp_path / "m.bitfold")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def edited(**changes):
    """The tiny file with other values in its graph."""

    def edit(table, graph, body):
        return table, {**graph, **changes}, body

    return edit


def tensor(name, **changes):
    """The tiny file with other values in a tensor's entry."""

    def edit(table, graph, body):
        return {**table, name: {**table[name], **changes}}, graph, body

    return edit


def node(index, **changes):
    def edit(table, graph, body):
        graph["nodes"][index] |= changes
        return table, graph, body

    return edit


def stack(name, shape, dtype="F32"):
    """The tiny file with the constant "m" and perhaps others in one tensor of that name."""

    def edit(table, graph, body):
        size = (4 if dtype == "F32" else 1) * int(np.prod(shape))
        table = {"t": table["t"], name: {"dtype": dtype, "shape": shape, "data_offsets": [4, 4 + size]}}
        table["w"] = {"dtype": "U8", "shape": [1, 2, 2], "data_offsets": [4 + size, 8 + size]}
        return table, graph, body[:4] + b"\0\0\0?" * (size // 4) + body[12:]

    return edit


DEEP = "[" * 100_000 + "]" * 100_000
F = {"type": "Float"}
HOSTILE = {
    "version 2": (edited(version=2), "version is 2"),
    "version text": (edited(version="1"), "version is '1'"),
    "unknown operation": (node(0, type="Exec"), "nodes"),
    "operation is a list": (node(0, type=["Conv"]), "nodes"),
    "unknown field": (node(0, shell="rm"), "no field 'shell'"),
    "missing field": (lambda t, g, b: (t, {**g, "nodes": [{"type": "Add", "name": "a", "output": "y"}]}, b), "lacks the field 'b'"),
    "no node before": (lambda t, g, b: (t, {**g, "inputs": []}, b), "lacks the field 'x'"),
    "no output before": (lambda t, g, b: (t, {**g, "nodes": [7, g["nodes"][1]]}, b), "entry 0"),
    "names that grow": (node(0, name="a" * 600, thresholds="." * 600), "lacks the field 'x'"),
    "own name": (node(0, thresholds="."), "'fc.act_quant.thresholds' does not exist"),
    "dot in front": (edited(inputs=[[".x", {"shape": [10], "element": F}]]), "begin with neither a dot"),
    "stack of one": (stack("{m}", [1, 2]), "2 to 8 names"),
    "stack of nine": (stack("{a,b,c,d,e,f,g,h,i}", [9, 2]), "2 to 8 names"),
    "stack of other length": (stack("{m,n}", [3, 2]), "2 to 8 names"),
    "stack of rank 1": (stack("{m,n}", [2]), "2 to 8 names"),
    "stack of codes": (stack("{m,n}", [2, 2], "U8"), "is uint8"),
    "stack with a name twice": (stack("{m,m}", [2, 2]), "'m' stands in two tensors"),
    "stack without a brace": (stack("m,n}", [2, 2]), "names in braces"),
    "stack in a stack": (stack("{{m,n}}", [2, 2]), "do not end in a brace"),
    "stack of no names": (stack("{,}", [2, 2]), "'' stands in two tensors"),
    "metric is a number": (node(1, metric=1), "metric"),
    "unknown metric": (node(1, metric="l2"), "metric is 'l2'"),
    "distance of signs": (node(1, metric="distance"), "Uniform codes of 1 to 8 bits"),
    "unknown encoding": (node(0, encoding={"type": "Int3"}), "encoding"),
    "wrong type": (node(0, x=3), "x: got 3; allowed: str"),
    "bits": (node(0, encoding={"type": "Uniform", "bits": 40, "signed": False}), "bits=40"),
    "huge exponent": (node(0, encoding={"type": "PowerOfTwo", "max_exp": 9_007_199_254_740_992}), "exponents"),
    "huge integer": (node(0, encoding={"type": "Uniform", "bits": 10**30, "signed": False}), "nodes: entry 0: encoding: bits: got 1000"),
    "cycle": (lambda t, g, b: (t, {**g, "nodes": [{**g["nodes"][1], "x": "codes"}, {**g["nodes"][0], "x": "y"}]}, b), "not defined before"),
    "huge input": (edited(inputs=[["x", {"shape": [2**40], "element": F}]]), "elements at most"),
    "negative size": (edited(inputs=[["x", {"shape": [-10], "element": F}]]), "sizes of 1"),
    "input twice": (lambda t, g, b: (t, {**g, "inputs": g["inputs"] * 2}, b), "twice in inputs"),
    "constant twice": (lambda t, g, b: (t, {**g, "constants": g["constants"] + g["constants"][:1]}, b), "twice in constants"),
    "constant without tensor": (
        lambda t, g, b: (t, {**g, "constants": [*g["constants"], ["q", g["constants"][0][1]]]}, b),
        "'q' has no tensor",
    ),
    "tensor without constant": (lambda t, g, b: (t, {**g, "constants": []}, b), "'w' is U8 but not among the constants"),
    "unused tensor": (lambda t, g, b: ({**t, "q": {**t["t"], "data_offsets": [16, 20]}}, g, b + bytes(4)), "'q' is used by no node"),
    "other shape": (lambda t, g, b: (t, {**g, "constants": [["t", g["constants"][0][1]], *g["constants"]]}, b), "data is float32"),
    "stray type": (edited(inputs=[["x", {"type": "TensorType", "shape": [10], "element": F}]]), "no field 'type'"),
    "other dtype": (tensor("t", dtype="I32"), "is I32 but not among"),
    "unknown dtype": (tensor("t", dtype="F8"), "dtype 'F8'"),
    "dtype list": (tensor("t", dtype=["F32"]), "dtype"),
    "huge shape": (tensor("t", shape=[2**31, 2**31, 2**31]), "do not agree"),
    "negative shape": (tensor("t", shape=[-1, -1]), "sizes of 1"),
    "float shape": (tensor("t", shape=[1.0, 1]), "sizes of 1"),
    "boolean shape": (tensor("t", shape=[True, 1]), "sizes of 1"),
    "rank": (tensor("t", shape=[1] * 100), "up to 8"),
    "offsets swapped": (tensor("t", data_offsets=[4, 0]), "do not agree"),
    "offsets negative": (tensor("t", data_offsets=[-4, 0]), "do not agree"),
    "offsets beyond": (tensor("w", data_offsets=[2**60, 2**60 + 4]), "16 at most"),
    "overlap": (tensor("m", data_offsets=[0, 8]), "from 4 on"),
    "hole": (lambda t, g, b: tensor("w", data_offsets=[16, 20])(t, g, b + b"aaaa"), "from 12 on"),
    "bytes after": (lambda t, g, b: (t, g, b + b"aaaa"), "fill 16 of 20"),
    "not aligned": (lambda t, g, b: (json.dumps({"__metadata__": {"bitfold": json.dumps(g)}, **t}).ljust(4001), g, b), "multiple of 4"),
    "bytes missing": (lambda t, g, b: (t, g, b[:-1]), "15 at most"),
    "extra key": (tensor("t", extra=1), "an object of"),
    "entry list": (lambda t, g, b: ({**t, "t": []}, g, b), "an object of"),
    "padding bits": (lambda t, g, b: (t, g, b[:-1] + b"\x80"), "padding bits"),
    "nan": (lambda t, g, b: (t, g, b"\x00\x00\xc0\x7f" + b[4:]), "not finite"),
    "JSON NaN": (lambda t, g, b: (t, json.dumps({**g, "version": float("nan")}), b), "not a JSON number"),
    "JSON overflow": (lambda t, g, b: (t, json.dumps(g).replace("0.25", "1e999"), b), "got inf"),
    "JSON digits": (lambda t, g, b: (t, json.dumps(g).replace("0.25", "9" * 10_000), b), "JSON"),
    "duplicate key": (lambda t, g, b: (t, json.dumps(g)[:-1] + ',"version":1}', b), "twice in an object"),
    "duplicate tensor": (lambda t, g, b: ('{"t": {}, ' + json.dumps(t)[1:], g, b), "twice in an object"),
    "deep graph": (lambda t, g, b: (t, DEEP, b), "JSON"),
    "deep header": (lambda t, g, b: (DEEP, g, b), "JSON"),
    "graph is a list": (lambda t, g, b: (t, "[]", b), "not a JSON object"),
    "header is a list": (lambda t, g, b: ("[1, 2, 3, 4]", g, b), "not a JSON object"),
    "not bitfold": (lambda t, g, b: (json.dumps(t), g, b), "no text 'bitfold'"),
    "metadata list": (lambda t, g, b: (json.dumps({**t, "__metadata__": []}), g, b), "no text 'bitfold'"),
    "surrogate name": (node(0, name="\ud800"), "printable"),
    "surrogate metadata": (edited(metadata=[["a", "\ud800"]]), "not valid Unicode"),
    "metadata number": (edited(metadata=[["a", 1]]), "metadata"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(tmp_path, case):
    edit, message = HOSTILE[case]
    tiny().save(tmp_path / "good.bitfold")
    data = join(*edit(*parts((tmp_path / "good.bitfold").read_bytes())))
    with pytest.raises(FormatError) as caught:
        load_bytes(tmp_path, data)
    assert message in str(caught.value) and len(str(caught.value)) < 1000
    str(caught.value).encode()  # printable everywhere


@pytest.mark.parametrize("data", [b"", b"\x08", b"\xff" * 16, struct.pack("<Q", 2**63) + b"{}" * 8, struct.pack("<Q", 8) + b"\xff" * 8])
def test_damaged_beginnings_are_refused(tmp_path, data):
    with pytest.raises(FormatError):
        load_bytes(tmp_path, data)


def test_header_length_is_capped(tmp_path):
    path = tmp_path / "big.bitfold"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", MAX_HEADER + 8))
        file.truncate(MAX_HEADER + 1000)
    with pytest.raises(FormatError, match=str(MAX_HEADER)):
        Graph.load(path)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A file with one or two random changes: of bits, bytes, length, or of a value anywhere in its JSON."""
    for _ in range(rng.choice([1, 1, 2])):
        kind = rng.randrange(6)
        where = rng.randrange(len(data))
        if kind == 0:
            data = data[:where] + bytes([data[where] ^ 1 << rng.randrange(8)]) + data[where + 1 :]
        elif kind == 1:
            data = data[:where]
        elif kind == 2:
            data = data[:where] + rng.randbytes(rng.randrange(1, 9)) + data[where + rng.randrange(9) :]
        elif kind == 3:
            data = struct.pack("<Q", rng.choice([0, 1, len(data), 2**32, 2**63, rng.randrange(2 * len(data))])) + data[8:]
        else:
            data = with_other_json(data, rng)
        if not data:
            break
    return data


def with_other_json(data: bytes, rng: random.Random) -> bytes:
    """Changes, removes, doubles or swaps values of the tensor table or the graph; leaves what is not a file alone."""
    try:
        table, graph, body = parts(data)
    except (ValueError, KeyError, TypeError, struct.error):
        return data
    target = rng.choice([table, graph, graph, graph])
    places = [(parent, key) for parent in containers(target) for key in (parent if isinstance(parent, dict) else range(len(parent)))]
    if places:
        parent, key = rng.choice(places)
        other, other_key = rng.choice(places)
        values = [0, -1, 1, 2**31, 2**53, 2**70, 1e308, 0.5, None, True, "", "x", "v3", "c1", "Conv", [], {}, [2**20] * 3, F]
        action = rng.randrange(4)
        if action == 0:
            parent[key] = rng.choice(values)
        elif action == 1:
            parent[key] = json.loads(json.dumps(other[other_key]))
        elif action == 2:
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(rng.randrange(len(parent) + 1), json.loads(json.dumps(parent[key])))
    return join(table, graph, body)


def containers(value):
    if isinstance(value, (dict, list)):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from containers(item)


def test_a_thousand_mutated_files(tmp_path, rng):
    """Each is refused with FormatError, or still a valid graph; no other exception, no large allocation, no long run."""
    files = []
    for i in range(20):
        graph = random_graph(np.random.default_rng(i), length=8)
        graph.save(tmp_path / "good.bitfold")
        files.append((tmp_path / "good.bitfold").read_bytes())
    chance = random.Random(int(rng.integers(2**32)))
    refused = 0
    tracemalloc.start()
    for i in range(1000):
        data = mutated(chance.choice(files), chance)
        started = time.process_time()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        try:
            load_bytes(tmp_path, data)
        except FormatError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"mutation {i}: {type(error).__name__}: {error}") from error
        assert time.process_time() - started < 5, f"mutation {i}"
        assert tracemalloc.get_traced_memory()[1] - before < 2_000_000 + 30 * len(data), f"mutation {i}"
    tracemalloc.stop()
    assert 500 < refused < 1000, "most changes must be noticed, some are harmless"
    assert issubclass(FormatError, BitfoldError)
