"""Everything that is known about a trained run: exported, verified, measured against its float twin; and the report of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

import bitfold
from bitfold import models
from bitfold.bench import machine
from bitfold.bench.models import Entry, file_size, float_entry, peer_entry
from bitfold.bench.peers import _base, pytorch
from bitfold.bench.timing import Timing, compare
from bitfold.commands.runs import export_run
from bitfold.data import Loader
from bitfold.engine.engine import LayerProfile
from bitfold.export.report import VerifyReport
from bitfold.ir.graph import Graph
from bitfold.report import run as run_files
from bitfold.report.content import Comparison, Confusion, Contestant, Curve, Layer, Report, Tile, Verification
from bitfold.report.layers import layers
from bitfold.report.page import duration, kilobytes, render
from bitfold.training.evaluate import evaluate
from bitfold.training.loaders import test_loader
from bitfold.training.run import Run

LOW_BIT, FLOAT_ENGINE, FLOAT_TORCH = "bitfold, low-bit", "bitfold, float twin", "PyTorch, float twin"


@dataclass(frozen=True)
class Study:
    """Accuracies in per cent of the whole test set; ``twin_run`` None means that the float twin was not trained and only timed."""

    run: Run
    twin_run: Run | None
    graph: Graph
    verification: VerifyReport
    result: dict[str, Any]  # of the engine on the test set, confusion matrix included
    accuracy_float: float | None
    file_bytes: int
    file_bytes_float: int
    times: dict[str, Timing]
    notes: dict[str, str]
    profile: tuple[LayerProfile, ...]
    reasons: dict[str, str]
    threads: int

    @property
    def accuracy_low_bit(self) -> float:
        """Of the exported file in the engine."""
        return float(self.result["accuracy"])

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        return layers(self.graph, self.profile, self.reasons)


def study(run: Run, twin_run: Run | None, data: Path | None, threads: int, say: Callable[[str], None]) -> Study:
    """Exports and verifies ``run`` on its whole test set, measures accuracy and, interleaved, the latency of one image."""
    model = run.model()
    loader = test_loader(run.recipe, data)
    say("exporting")
    graph = export_run(run.path)
    images, labels = _whole(loader)
    say(f"verifying on {len(images)} test images")
    verification = bitfold.verify(model, graph, images, labels=labels, threads=threads)
    net = bitfold.load(graph, threads=threads)
    result = evaluate(net, loader, confusion=True)
    twin = twin_run.model() if twin_run is not None else models.create(run.recipe.model.name, **run.recipe.model.options).eval()
    say("timing the low-bit network and its float twin")
    x = np.ascontiguousarray(images[:1].numpy())
    entries, size = _float_entries(twin, x, threads)
    entries.append(Entry(LOW_BIT, lambda: net(x)))
    with pytorch.threads(threads):
        times = compare({e.name: e.call for e in entries if e.call is not None}, repeats=200)
    return Study(
        run=run,
        twin_run=twin_run,
        graph=graph,
        verification=verification,
        result=result,
        accuracy_float=evaluate(twin, loader)["accuracy"] if twin_run is not None else None,
        file_bytes=file_size(graph),
        file_bytes_float=size,
        times=times,
        notes={e.name: e.reason if e.reason is not None else str(e.details.get("form", "")) for e in entries},
        profile=tuple(net.profile(x)),
        reasons={k.layer: k.reason for k in net.kernels},
        threads=threads,
    )


def write_report(path: Path, twin: Path | None, out: Path, data: Path | None, threads: int, say: Callable[[str], None]) -> None:
    """``bitfold report``: the page of the run at ``path``; ``twin``: the run of its float twin, if there is one."""
    run = Run.load(path)
    found = study(run, Run.load(twin) if twin is not None else None, data, threads, say)
    stage, model, name = run.recipe.stage[-1], run.recipe.model.name, run.recipe.data.name
    page = report(
        found,
        f"{run.recipe.name}: {found.accuracy_low_bit:.2f} %",
        f"{model} trained on {name} with {stage.method}, folded, verified and run.",
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render(page), encoding="utf-8")


def _whole(loader: Loader) -> tuple[torch.Tensor, torch.Tensor]:
    batches = [loader.batch(0, i) for i in range(len(loader))]
    return torch.cat([b.inputs for b in batches]).contiguous(), torch.cat([b.labels for b in batches])


def _float_entries(twin: nn.Module, x: np.ndarray, threads: int) -> tuple[list[Entry], int]:
    """The float twin in PyTorch and in the engine, checked against each other; and the bytes of its file."""
    with torch.inference_mode():
        want = twin(torch.from_numpy(x)).numpy()
    with TemporaryDirectory() as folder:
        torch_entry = peer_entry("pytorch", _base.Subject(twin, x, (), threads, Path(folder)), want)
    engine = float_entry(twin, x, want, threads)
    entries = [Entry(FLOAT_TORCH, torch_entry.call, torch_entry.reason, torch_entry.details)]
    entries.append(Entry(FLOAT_ENGINE, engine.call, engine.reason, engine.details))
    return entries, int(engine.details["size_bytes"])


def report(found: Study, title: str, lead: str, more: tuple[Comparison, ...] = (), facts: dict[str, str] | None = None) -> Report:
    """The page of a study; ``more``: further comparisons after its own."""
    classes = tuple(str(name) for name in found.run.facts["data"]["class_names"])
    return Report(
        title=title,
        lead=lead,
        tiles=_tiles(found),
        curves=curves(found.run, found.twin_run),
        confusion=Confusion(classes, np.array(found.result["confusion"])),
        layers=found.layers,
        verification=_verification(found.verification),
        comparisons=(_comparison(found), *more),
        recipe=run_files.recipe(found.run.path),
        facts={**run_files.facts(found.run.path), "measured on": machine.one_line(machine.facts()), **(facts or {})},
    )


def curves(run: Run, twin: Run | None) -> tuple[Curve, ...]:
    """Of the runs that have any: imported weights come without."""
    runs = [(run, f"low-bit ({run.recipe.stage[-1].method})"), (twin, "float twin")]
    return tuple(run_files.curve(r.path, name) for r, name in runs if r is not None and r.metrics)


def _comparison(found: Study) -> Comparison:
    accuracy = {FLOAT_TORCH: found.accuracy_float, FLOAT_ENGINE: found.accuracy_float, LOW_BIT: found.accuracy_low_bit}
    size = {FLOAT_ENGINE: found.file_bytes_float, LOW_BIT: found.file_bytes}
    contestants = [
        Contestant(name, accuracy[name], size.get(name), found.times.get(name), found.notes[name])
        for name in (FLOAT_TORCH, FLOAT_ENGINE, LOW_BIT)
    ]
    shape = "x".join(str(n) for n in found.run.facts["data"]["input_shape"])
    trained = "" if found.twin_run is not None else "; the float twin has untrained weights"
    return Comparison(f"{found.run.recipe.name}: one image of {shape}, {_threads(found.threads)}{trained}", tuple(contestants))


def _tiles(found: Study) -> tuple[Tile, ...]:
    v = found.verification
    twin = f"float twin {found.accuracy_float:.2f} %" if found.accuracy_float is not None else "of the exported file, whole test set"
    tiles = [
        Tile("Test accuracy", f"{found.accuracy_low_bit:.2f} %", twin),
        Tile(
            "File",
            kilobytes(found.file_bytes),
            f"float twin {kilobytes(found.file_bytes_float)}: {found.file_bytes_float / found.file_bytes:.1f} times smaller",
        ),
    ]
    low, twin_time = found.times.get(LOW_BIT), found.times.get(FLOAT_TORCH)
    if low is not None and twin_time is not None:
        note = f"PyTorch float {duration(twin_time.median_us)}: {twin_time.median_us / low.median_us:.1f} times faster"
        tiles.append(Tile("One image", duration(low.median_us), note))
    tiles.append(Tile("Accumulators that differ", f"{v.accumulators_differ:,}", f"of {v.accumulators:,}", good=v.accumulators_differ == 0))
    return tuple(tiles)


def _verification(v: VerifyReport) -> Verification:
    figures = {
        "test images": f"{v.images:,}, of them {v.layer_images} for the accumulators",
        "quantised layers": str(len(v.layers)),
        "codes that flipped": f"{v.flipped:,} of {v.codes:,}, by float rounding near a threshold",
        "outputs": f"largest difference {v.max_difference:.3g} of {v.max_output:.3g}",
    }
    if v.top1_agree is not None:
        figures["same class"] = f"{v.top1_agree:,} of {v.images:,} images"
    if v.accuracy is not None and v.accuracy_torch is not None:
        figures["accuracy"] = f"PyTorch {100 * v.accuracy_torch:.2f} %, engine {100 * v.accuracy:.2f} %"
    return Verification(v.accumulators, v.accumulators_differ, figures)


def _threads(n: int) -> str:
    return "1 thread" if n == 1 else f"{n} threads"
