"""What a call costs besides its steps: ``python benchmarks/calls.py [--repeats 200]``.

A network of one 8x8 binary Linear behind a one-bit quantiser, called from Python; minimum and median over repeats of 1,000 calls.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

import bitfold
from bitfold.ir import ops
from bitfold.ir.encoding import Binary, Float
from bitfold.ir.graph import Constant, Graph, TensorType

CALLS = 1000


def tiny() -> Graph:
    rng = np.random.default_rng(0)
    constants = {
        "t": Constant.from_array(np.zeros((1, 1), np.float32)),
        "w": Constant.from_codes(rng.integers(0, 2, (8, 8)) * 2 - 1, Binary()),
        "mul": Constant.from_array(np.ones(8, np.float32)),
    }
    nodes = (
        ops.Quantize(name="sign", output="bits", x="x", thresholds="t", encoding=Binary()),
        ops.Linear(name="fc", output="y", x="bits", weight="w", epilogue=ops.Epilogue(mul="mul")),
    )
    return Graph({"x": TensorType((8,), Float())}, nodes, ("y",), constants)


def nanoseconds(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """(minimum, median) of one call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        for _ in range(CALLS):
            call()
        times.append((time.perf_counter_ns() - start) / CALLS)
    return min(times), statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    repeats = parser.parse_args().repeats
    x, out = np.ones((1, 8), np.float32), np.empty((1, 8), np.float32)
    for threads in (1, 2):
        net = bitfold.load(tiny(), threads=threads)
        steps = sum(step.microseconds for step in net.profile(x, repeats=1000)) * 1e3
        print(f"{threads} threads; steps: {steps:.0f} ns, clock included")
        for name, call in (
            ("empty function", lambda: None),
            ("net(x)", lambda net=net: net(x)),
            ("net(x, out=y)", lambda net=net: net(x, out=out)),
        ):
            least, median = nanoseconds(call, repeats)
            print(f"  {name:16s} {least:7.0f} ns, median {median:.0f} ns")


if __name__ == "__main__":
    main()
