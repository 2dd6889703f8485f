"""What needs a process of its own: every instruction set of this CPU gives the same bits; forks; no PyTorch; a quick import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bitfold import _core

ROOT = Path(__file__).parents[2]
ISAS = ["scalar", "avx2", "avx512"] if _core.detected_isa() in ("avx2", "avx512") else ["scalar", "neon"]
AVAILABLE = ISAS[: ISAS.index(_core.detected_isa()) + 1]

HASHES = """
import hashlib, sys
import numpy as np
from tests.engine.resnet import binary_resnet18
from tests.ir.graphs import random_graph, random_inputs
import bitfold

digest = hashlib.sha256()
def run(graph, inputs, threads):
    y = bitfold.load(graph, threads=threads)(*inputs)
    for a in y if isinstance(y, tuple) else (y,):
        digest.update(str((a.dtype, a.shape)).encode() + np.ascontiguousarray(a + 0).tobytes())  # + 0: -0.0 is 0.0

for seed in range(40):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    run(graph, random_inputs(graph, rng, 3), 1 + seed % 2)
rng = np.random.default_rng(1)
run(binary_resnet18(rng, size=32, classes=10), [rng.standard_normal((1, 3, 32, 32)).astype(np.float32)], 1)
print(bitfold._core.active_isa(), digest.hexdigest())
"""


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_instruction_sets_agree() -> None:
    results = {isa: python(HASHES, BITFOLD_ISA=isa, PYTHONPATH=str(ROOT)).split() for isa in AVAILABLE}
    assert [active for active, _ in results.values()] == AVAILABLE, "BITFOLD_ISA chooses the instruction set"
    assert len({digest for _, digest in results.values()}) == 1, results


def test_an_unknown_instruction_set_is_refused() -> None:
    code = "import bitfold, numpy as np; from tests.ir.graphs import random_graph; bitfold.load(random_graph(np.random.default_rng(0)))"
    with pytest.raises(AssertionError, match=r"EngineError.*BITFOLD_ISA=mmx; allowed: scalar, neon, avx2, avx512"):
        python(code, BITFOLD_ISA="mmx", PYTHONPATH=str(ROOT))


FORK = """
import os, sys
import numpy as np
from tests.engine.resnet import binary_resnet18
import bitfold
graph = binary_resnet18(np.random.default_rng(0), size=64, classes=10)
x = np.zeros((1, 3, 64, 64), np.float32)
net = bitfold.load(graph, threads=2)
want = net(x)
child = os.fork()
if child == 0:
    try:
        net(x)
    except bitfold.errors.EngineError as error:
        again = bitfold.load(graph, threads=2)(x)
        os._exit(0 if "fork" in str(error) and np.array_equal(again, want) else 1)
    os._exit(2)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_fork_is_noticed() -> None:
    python(FORK, PYTHONPATH=str(ROOT), PYTHONWARNINGS="ignore")


def test_a_graph_is_summarised_without_torch() -> None:
    code = """
import sys
import numpy as np
import bitfold
from bitfold.ir.encoding import Float
from bitfold.ir.graph import Constant, TensorType
from bitfold.ir.ops import Linear
weight = Constant.from_array(np.ones((2, 3), dtype=np.float32))
nodes = (Linear(name="fc", output="y", x="x", weight="w"),)
graph = bitfold.Graph({"x": TensorType((3,), Float())}, nodes, ("y",), {"w": weight})
assert "fc" in str(bitfold.summary(graph))
print("torch" in sys.modules)
"""
    assert python(code).strip() == "False"
