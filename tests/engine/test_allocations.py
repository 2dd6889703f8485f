"""No allocation in a call: every malloc of the process is counted, by a small library that is compiled here and preloaded."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.engine.resnet import binary_resnet18

from bitfold.ir import ops
from bitfold.ir.encoding import Float
from bitfold.ir.graph import Graph, TensorType

COMPILER = shutil.which("cc") or shutil.which("gcc")
DOOR = 16  # handles and pointers of the arrays, which the Python door makes for each call, however large the network; 13 when written

COUNT = """
import ctypes, json, sys
import numpy as np
import bitfold

counter = ctypes.CDLL(None).allocations_so_far
counter.restype = ctypes.c_long
found = {}
for file, threads, batch in json.loads(sys.argv[1]):
    net = bitfold.load(file, threads=threads)
    (tensor,) = net._inputs.values()
    inputs, outputs = net._checked((np.zeros((batch, *tensor.shape), np.float32),))
    run = net._native.run
    run(inputs, outputs)
    counts = []
    for _ in range(20):
        before = counter()
        run(inputs, outputs)
        counts.append(counter() - before)
    found[f"{file} {threads} {batch}"] = min(counts)
print(json.dumps(found))
"""


@pytest.mark.native
@pytest.mark.skipif(COMPILER is None or platform.libc_ver()[0] != "glibc", reason="needs a C compiler and glibc")
def test_a_call_allocates_the_same_few_times_whatever_the_network_batch_and_threads(tmp_path: Path, rng: np.random.Generator) -> None:
    library = tmp_path / "count_malloc.so"
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O1", "-o", library, Path(__file__).with_name("count_malloc.c")], check=True)
    one = Graph({"x": TensorType((3,), Float())}, (ops.Abs(name="abs", output="y", x="x"),), ("y",), {})
    one.save(tmp_path / "one.bitfold")
    binary_resnet18(rng, size=32, classes=10).save(tmp_path / "many.bitfold")
    cases = [(str(tmp_path / f"{name}.bitfold"), threads, batch) for name in ("one", "many") for threads in (1, 2) for batch in (1, 40)]
    done = subprocess.run(
        [sys.executable, "-c", COUNT, json.dumps(cases)],
        env=os.environ | {"LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert len(counts) == len(cases) and len(set(counts.values())) == 1, counts
    assert set(counts.values()) <= set(range(DOOR + 1)), counts
