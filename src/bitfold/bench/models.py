"""Whole networks: bitfold's engine on the low-bit network against every peer on its float twin, one run, all in turn.

The low-bit network runs three times: on float pictures, and on pictures as bytes with an integer first layer of 16 and of 8 bits.
Weights are untrained: latency does not depend on their values, and every row says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

import bitfold
from bitfold import models
from bitfold.bench import peers, rows
from bitfold.bench.check import check
from bitfold.bench.peers._base import Subject
from bitfold.bench.peers.pytorch import threads as torch_threads
from bitfold.bench.rows import Row
from bitfold.bench.timing import compare, rest
from bitfold.errors import ExportError
from bitfold.ir.graph import Graph

DEFAULT = ("resnet18_imagenet", "vgg_small", "resnet20")
STEM_BITS = (16, 8)  # of the first layer's weights, where the pictures are bytes
MEAN, STD = 0.5, 0.125  # of the bytes: random pictures within -4 and 4 are not cut off
LOADS = 15  # rounds of loads: a load is slow, and slower engines take half a second each
CALIBRATION = 8  # inputs from which int8 peers take their ranges


@dataclass(frozen=True)
class Entry:
    """A contestant ready to run, or the reason why it does not."""

    name: str
    call: Callable[[], Any] | None
    reason: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    first: Callable[[], Any] | None = None  # from the path of its file to the first output


def run(
    names: Sequence[str] = DEFAULT,
    peer_names: Sequence[str] | None = None,
    method: str = "bireal",
    threads: int = 1,
    batch: int = 1,
    repeats: int = 50,
    say: Callable[[str], None] = lambda words: None,
) -> list[Row]:
    """Rows of every model: the low-bit network (also on bytes) and the float twin in the engine, and the twin in each peer (default: all).

    A peer that is missing, fails or answers wrongly has a row with its reason and no time.
    """
    chosen = list(peer_names) if peer_names is not None else [name for name in peers.names() if peers.serves(name, "binary", "binary")]
    for name in chosen:
        peers.get(name)  # an unknown peer is refused before the work begins
    stamp = rows.stamp()
    made = []
    for name in names:
        with TemporaryDirectory() as folder:
            entries = _entries(name, chosen, method, threads, batch, Path(folder), say)
            say(f"{name}: timing {sum(e.call is not None for e in entries)} contestants")
            with torch_threads(threads):
                times = compare({e.name: e.call for e in entries if e.call is not None}, repeats, rest=rest(threads))
                say(f"{name}: timing loads")
                loads = [load_entry(e) for e in entries if e.call is not None and e.first is not None]
                load_times = compare(
                    {e.name: e.call for e in loads if e.call is not None}, min(repeats, LOADS), max_time=30.0, rest=rest(threads)
                )
        for subject, found, timings in ((name, entries, times), (f"{name}, load and first output", loads, load_times)):
            made += [
                Row(
                    bench="models",
                    subject=subject,
                    contestant=e.name,
                    threads=threads,
                    batch=batch,
                    timing=timings.get(e.name),
                    reason=e.reason,
                    details={"weights": "untrained", **e.details},
                    **stamp,
                )
                for e in found
            ]
    return made


def _entries(
    name: str, chosen: Sequence[str], method: str, threads: int, batch: int, folder: Path, say: Callable[[str], None]
) -> list[Entry]:
    """All contestants of one model, their results checked against PyTorch's."""
    shape = input_shape(name)
    rng = np.random.default_rng(0)
    x = pictures(rng, batch, shape)
    calibration = tuple(pictures(rng, batch, shape) for _ in range(CALIBRATION))
    twin, low_bit = untrained(name), untrained(name, method)
    say(f"{name}: exporting and verifying {method}")
    graph = bitfold.export(low_bit, torch.from_numpy(x))
    subject = Subject(twin, x, calibration, threads, folder, graph)
    with torch.inference_mode():
        want = twin(torch.from_numpy(x)).numpy()
    entries = [low_bit_entry(low_bit, x, threads, f"bitfold {method}", graph, folder)]
    entries += [bytes_entry(low_bit, x, threads, f"bitfold {method}, bytes, {bits}-bit stem", bits, folder) for bits in STEM_BITS]
    entries.append(float_entry(twin, x, want, threads, folder))
    for peer in chosen:
        say(f"{name}: preparing {peer}")
        entries.append(peer_entry(peer, subject, want))
    return entries


def load_entry(entry: Entry) -> Entry:
    """The same contestant from its file on, in a process that has imported it before; the file lies in the system's cache."""
    assert entry.call is not None and entry.first is not None
    try:
        problem = check(entry.first(), entry.call(), "float32").problem
    except Exception as error:  # foreign code
        problem = f"{type(error).__name__}: {error}"
    kept: dict[str, Any] = {key: entry.details[key] for key in ("precision", "form", "size_bytes") if key in entry.details}
    return Entry(entry.name, None if problem else entry.first, problem, {**kept, "file": "cached"})


def low_bit_entry(
    model: nn.Module, x: np.ndarray, threads: int, name: str, graph: Graph | None = None, folder: Path | None = None
) -> Entry:
    """The engine on the low-bit network, exported unless ``graph`` is given; ``verify`` must find no accumulator that differs. With a
    ``folder`` its file is kept there, for ``first``."""
    graph = bitfold.export(model, torch.from_numpy(x)) if graph is None else graph
    result = bitfold.verify(model, graph, torch.from_numpy(x), threads=threads)
    details = {"precision": "low-bit", "size_bytes": file_size(graph), "accumulators_differ": result.accumulators_differ}
    if not result.ok:
        return Entry(name, None, f"wrong result: {result}", details)
    net = bitfold.load(graph, threads=threads)
    details["isa"] = "/".join(sorted({k.isa for k in net.kernels}))
    return Entry(name, lambda: net(x), details=details, first=_from_file(graph, folder, name, x, threads))


def bytes_entry(model: nn.Module, x: np.ndarray, threads: int, name: str, bits: int, folder: Path | None = None) -> Entry:
    """The engine on the low-bit network that takes the pictures ``x`` as bytes and has weights of so many bits in its first layer."""
    try:
        graph = bitfold.export(model, torch.from_numpy(x), input="uint8", mean=MEAN, std=STD, stem_bits=bits)
    except ExportError as error:  # a first layer that is not float, or sums beyond int32
        return Entry(name, None, str(error))
    pixels = np.clip(np.rint(255 * (x * STD + MEAN)), 0, 255).astype(np.uint8)
    return low_bit_entry(model, pixels, threads, name, graph, folder)


def float_entry(twin: nn.Module, x: np.ndarray, want: np.ndarray, threads: int, folder: Path | None = None) -> Entry:
    """The engine on the float twin."""
    graph: Graph = bitfold.export(twin, torch.from_numpy(x))
    net = bitfold.load(graph, threads=threads)
    result = check(net(x), want, "float32")
    details = {"precision": "float32", "size_bytes": file_size(graph), "max_difference": result.max_difference}
    first = _from_file(graph, folder, "float32", x, threads)
    return Entry("bitfold float32", None if result.problem else lambda: net(x), result.problem, details, first)


def _from_file(graph: Graph, folder: Path | None, name: str, x: np.ndarray, threads: int) -> Callable[[], Any] | None:
    if folder is None:
        return None
    path = folder / f"{name}.bitfold"
    graph.save(path)
    return lambda: bitfold.load(path, threads=threads)(x)


def peer_entry(name: str, subject: Subject, want: np.ndarray) -> Entry:
    """A peer on the subject; ``want``: the float twin's output. Low-bit peers are compared with the engine on the low-bit graph."""
    peer = peers.get(name)
    reason = peer.available()
    if reason is not None:
        return Entry(name, None, reason)
    try:
        prepared = peer.prepare(subject)
        low_bit = peer.PRECISION == "low-bit" and subject.graph is not None
        result = check(prepared.call(), bitfold.load(subject.graph)(subject.x) if low_bit else want, peer.PRECISION)
    except Exception as error:  # foreign code fails in its own ways; the row says how
        return Entry(name, None, f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}")
    figures = {"cosine": result.cosine, "max_difference": result.max_difference}
    details = {"precision": peer.PRECISION, "form": prepared.note, **{k: v for k, v in figures.items() if np.isfinite(v)}}
    return Entry(name, None if result.problem else prepared.call, result.problem, details, prepared.first)


def untrained(name: str, method: str | None = None) -> nn.Module:
    """The model, or its low-bit form, with random weights (always the same) and BatchNorm2d statistics of random pictures; in eval mode.

    BatchNorm2d scales are 1/4: at 1 a deep random network is chaotic, any rounding grows from layer to layer, and a right int8
    result could not be told from a wrong one. BatchNorm1d keeps mean 0 and variance 1 for the same reason.
    """
    torch.manual_seed(0)
    model = models.create(name)
    if method is not None:
        model = bitfold.apply(model, method)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0  # the statistics become those of the one batch
        nn.init.constant_(m.weight, 0.25)
    with torch.no_grad():
        model.train()(torch.from_numpy(pictures(np.random.default_rng(1), 8, input_shape(name))))
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
    return model.eval()


def pictures(rng: np.random.Generator, n: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Random float32 (n, *shape): 4x4 patches of random brightness and some noise. White noise alone would vanish in a global mean."""
    channels, height, width = shape
    patches = np.ones((-(-height // 4), -(-width // 4)))
    coarse = np.kron(rng.standard_normal((n, channels, 4, 4)), patches)[:, :, :height, :width]
    return (coarse + 0.5 * rng.standard_normal((n, *shape))).astype(np.float32)


def input_shape(name: str) -> tuple[int, int, int]:
    """(channels, height, width) for a model's default options."""
    if name.endswith("_imagenet"):
        return 3, 224, 224
    return {"digits_cnn": (1, 8, 8), "mlp": (1, 28, 28)}.get(name, (3, 32, 32))


def file_size(graph: Graph) -> int:
    """Bytes of the graph's ``*.bitfold`` file."""
    with TemporaryDirectory() as folder:
        return graph.save(Path(folder) / "m.bitfold")
