"""No allocation in a call, whatever the network, batch and threads.

Every malloc of the process is counted, by a small library that is compiled here and preloaded.
"""

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
RETURNED = 1  # the memory of the new array, which is the caller's; a small one comes out of NumPy's own store

COUNT = """
import ctypes, json, sys
import numpy as np
import bitfold

counter = ctypes.CDLL(None).allocations_so_far
counter.restype = ctypes.c_long
found = []
for file, threads, batch in json.loads(sys.argv[1]):
    net = bitfold.load(file, threads=threads)
    (tensor,) = net._inputs.values()
    x = np.zeros((batch, *tensor.shape), np.float32)
    y = net(x)
    for name, call in (("new", lambda: net(x)), ("out", lambda: net(x, out=y))):
        call()
        counts = []
        for _ in range(20):
            before = counter()
            call()
            counts.append(counter() - before)
        found.append((name, file, threads, batch, min(counts)))
print(json.dumps(found))
"""


@pytest.mark.native
@pytest.mark.skipif(COMPILER is None or platform.libc_ver()[0] != "glibc", reason="needs a C compiler and glibc")
def test_a_call_allocates_nothing_but_its_output(tmp_path: Path, rng: np.random.Generator) -> None:
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
    found = json.loads(done.stdout)
    assert len(found) == 2 * len(cases)
    for case in found:
        name, *_, count = case
        assert count <= (RETURNED if name == "new" else 0), case
