"""Layers alone: blocks of a binary ImageNet ResNet-18, every pair of encodings on one shape, stems and linear layers.

Every contestant runs the whole call, doors included, in turn: bitfold on the low-bit graph, float and int8 peers on the float twin,
low-bit peers on the graph. Results are checked first: bitfold against the NumPy interpreter, peers against PyTorch or bitfold. Rows of
bitfold also hold the rate of the kernel alone, from the engine's profile, and the measured ceiling that it stands under.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from bitfold.bench import peaks, peers, rows
from bitfold.bench.models import CALIBRATION, Entry, peer_entry
from bitfold.bench.peaks import Peaks
from bitfold.bench.peers._base import Subject
from bitfold.bench.peers.pytorch import threads as torch_threads
from bitfold.bench.rows import Row
from bitfold.bench.shapes import SHAPES, Case, Shape, build
from bitfold.bench.timing import compare, rest
from bitfold.engine.engine import Engine, load
from bitfold.errors import unknown
from bitfold.ir.graph import Graph
from bitfold.ir.interpreter import interpret

TOLERANCE = 1e-4  # of the largest output: float epilogues may differ from the interpreter by a few ulp


def run(
    names: Sequence[str] | None = None,
    peer_names: Sequence[str] | None = None,
    threads: int = 1,
    batch: int | None = None,
    repeats: int = 30,
    say: Callable[[str], None] = lambda words: None,
) -> list[Row]:
    """Rows of all SHAPES, or of those whose names are given; ``batch`` in place of the shapes' own. One subject's contestants are timed
    interleaved. The first row holds the measured peaks of the core."""
    chosen = SHAPES if names is None else tuple(_named(name) for name in names)
    wanted = list(peer_names) if peer_names is not None else peers.names()
    for name in wanted:
        peers.get(name)  # an unknown peer is refused before the work begins
    say("measuring the peaks of a core")
    stamp, found = rows.stamp(), peaks.measure()
    made = [] if found is None else [_peak_row(found, stamp)]
    for shape in chosen:
        case = build(shape if batch is None else replace(shape, batch=batch))
        with TemporaryDirectory() as folder:
            made += _subject(case, wanted, threads, repeats, Path(folder), found, stamp, say)
    return made


def _subject(
    case: Case,
    wanted: Sequence[str],
    threads: int,
    repeats: int,
    folder: Path,
    found: Peaks | None,
    stamp: dict[str, Any],
    say: Callable[[str], None],
) -> list[Row]:
    shape, x = case.shape, case.x
    say(f"{shape.name}: checking against the interpreter")
    net = load(case.graph, threads=threads)
    reason = _problem(case.graph, net, x)
    entries = [Entry("bitfold", None if reason else lambda: net(x), reason)]
    calibration = tuple(np.random.default_rng(i + 1).standard_normal(x.shape).astype(np.float32) for i in range(CALIBRATION))
    subject = Subject(case.twin, x, calibration, threads, folder, case.graph)
    with torch.inference_mode():
        want = case.twin(torch.from_numpy(x)).numpy()
    for name in _suited(wanted, shape):
        say(f"{shape.name}: preparing {name}")
        entries.append(peer_entry(name, subject, want))
    say(f"{shape.name}: timing {sum(e.call is not None for e in entries)} contestants")
    with torch_threads(threads):
        times = compare({e.name: e.call for e in entries if e.call is not None}, repeats, max_time=20.0, rest=rest(threads))
    made = []
    for e in entries:
        timing = times.get(e.name)
        details = dict(e.details)
        if timing is not None:
            details["gmacs_per_s"] = shape.macs / timing.median_us / 1e3
            if e.name == "bitfold":
                details |= _kernel(net, x, found)
        row = Row(
            bench="kernels",
            subject=shape.name,
            contestant=e.name,
            threads=threads,
            batch=shape.batch,
            timing=timing,
            reason=e.reason,
            details=details,
            **stamp,
        )
        made.append(row)
    return made


def _suited(wanted: Sequence[str], shape: Shape) -> list[str]:
    """A low-bit peer runs its own encodings; every other peer runs the float twin of anything, but for the L1 distance, which none has."""
    return [name for name in wanted if shape.metric == "product" and peers.serves(name, shape.weight, shape.act)]


def _kernel(net: Engine, x: np.ndarray, found: Peaks | None) -> dict[str, Any]:
    """The products alone: kernel, its rate over all steps that hold one, the memory they move and the ceiling that bounds them."""
    steps = [s for s in net.profile(x, repeats=15) if s.operations]
    us, operations, moved = sum(s.microseconds for s in steps), sum(s.operations for s in steps), sum(s.bytes for s in steps)
    served = next(k for k in net.kernels if k.layer == steps[0].layer)
    details: dict[str, Any] = {
        "kernel": served.kernel,
        "isa": served.isa,
        "fused": served.op,
        "kernel_us": us / len(steps),
        "kernel_gmacs_per_s": operations / us / 1e3,
        "macs_per_byte": operations / moved,
    }
    ceiling = next((kind for family, kind in peaks.CEILING.items() if served.kernel.startswith(family)), None)
    if found is not None and ceiling is not None:
        details |= {"ceiling": ceiling, "of_ceiling": details["kernel_gmacs_per_s"] / found.gmacs[ceiling]}
    return details


def _peak_row(found: Peaks, stamp: dict[str, Any]) -> Row:
    details = {"isa": found.isa, "memory_gb_per_s": found.memory, "cache_gb_per_s": found.cache}
    details |= {f"{kind}_gmacs_per_s": rate for kind, rate in found.gmacs.items()}
    return Row(
        bench="kernels", subject="peaks of one core", contestant="bitfold", threads=1, batch=1, timing=None, details=details, **stamp
    )


def _named(name: str) -> Shape:
    for shape in SHAPES:
        if shape.name == name:
            return shape
    raise unknown("kernel benchmark", name, [s.name for s in SHAPES])


def _problem(graph: Graph, net: Engine, x: np.ndarray) -> str | None:
    """None where the engine computes what the interpreter does."""
    got, want = net(x[:1]), interpret(graph, x[:1])
    assert isinstance(got, np.ndarray) and isinstance(want, np.ndarray)
    worst = float(np.abs(got - want).max() / np.abs(want).max())
    return None if worst <= TOLERANCE else f"wrong result: differs from the interpreter by {worst:.2e} of its range"
