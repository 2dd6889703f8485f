"""``bitfold demo``: train, fold, verify, run, compare. Real digits, a binary network and its float twin, in about a minute."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import bitfold
from bitfold.bench import rows
from bitfold.bench.models import Entry, input_shape, low_bit_entry, peer_entry, pictures, untrained
from bitfold.bench.peers import pytorch
from bitfold.bench.peers._base import Subject
from bitfold.bench.timing import Timing, compare
from bitfold.commands.study import FLOAT_ENGINE, FLOAT_TORCH, LOW_BIT, Study, report, study
from bitfold.errors import BitfoldError
from bitfold.report.content import Comparison, Contestant, Report
from bitfold.report.page import duration, kilobytes, render
from bitfold.training.run import Run

RECIPES = {"low-bit": "adabin_digits_cnn_digits", "float": "float_digits_cnn_digits"}
BIG = "resnet18_imagenet"
BIG_TORCH, BIG_BINARY = "PyTorch, float", "bitfold, binary (bireal)"

Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Big:
    """ImageNet ResNet-18 with untrained weights: contestants by name, and the times of those that ran."""

    entries: dict[str, Entry]
    times: dict[str, Timing]


def demo(out: Path, seed: int = 0, threads: int = 1, console: Console | None = None, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Writes model.bitfold, result.json, report.html and the two runs to ``out``; prints the table; returns what result.json holds.

    ``threads``: of every contestant of the comparisons. ``overrides``: changes to both recipes, as for --set. Training takes one thread:
    layers this small gain little from a second one, and on a busy machine two threads wait for each other many times longer.
    """
    shown = console if console is not None else Console(highlight=False)

    def say(words: str) -> None:
        shown.print(f"- {words}", soft_wrap=True)

    begun = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    with pytorch.threads(1):
        twin = _train("float", out, [*overrides, f"seed={seed}"], say)
        low_bit = _train("low-bit", out, [*overrides, f"seed={seed}"], say)
    trained = time.perf_counter()
    found = study(low_bit, twin, None, threads, say)
    found.graph.save(out / "model.bitfold")
    shown.print(str(found.verification), soft_wrap=True)
    big = _big(threads, say)
    result = {**_result(found, big, seed), "training_seconds": round(trained - begun, 1), "seconds": round(time.perf_counter() - begun, 1)}
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (out / "report.html").write_text(render(_report(found, big)), encoding="utf-8")
    shown.print(_digits_table(found))
    shown.print(_big_table(big))
    shown.print(f"{out}: report.html, model.bitfold and result.json written; {result['seconds']:.0f} s in all", soft_wrap=True)
    if not found.verification.ok:
        raise BitfoldError("demo: the exported network does not compute what was trained; see the lines of verify above")
    return result


def _train(kind: str, out: Path, overrides: list[str], say: Say) -> Run:
    folder = out / f"run-{kind}"
    if (folder / "recipe.toml").is_file():  # a run of an earlier demo
        shutil.rmtree(folder)
    recipe = bitfold.load_recipe(RECIPES[kind], overrides)
    epochs = sum(stage.epochs for stage in recipe.stage)
    say(f"training {recipe.model.name} on {recipe.data.name}, {kind} ({recipe.stage[-1].method}), {epochs} epochs")
    run: Run = bitfold.train(recipe, folder)
    return run


def _big(threads: int, say: Say) -> Big:
    """ImageNet ResNet-18, float in PyTorch and binary in the engine; results checked, times interleaved."""
    say("ImageNet ResNet-18, 224x224, for its latency alone: building, exporting, verifying")
    x = pictures(np.random.default_rng(0), 1, input_shape(BIG))
    twin = untrained(BIG)
    with torch.inference_mode():
        want = twin(torch.from_numpy(x)).numpy()
    float_ = peer_entry("pytorch", Subject(twin, x, (), threads, Path()), want)
    entries = {BIG_TORCH: float_, BIG_BINARY: low_bit_entry(untrained(BIG, "bireal"), x, threads, BIG_BINARY)}
    say("ImageNet ResNet-18: timing")
    with pytorch.threads(threads):
        times = compare({name: e.call for name, e in entries.items() if e.call is not None}, repeats=15, max_time=20.0)
    return Big(entries, times)


def _result(found: Study, big: Big, seed: int) -> dict[str, Any]:
    """result.json: accuracies in per cent, latencies of one image in microseconds (medians), sizes in bytes."""
    low, twin = found.times[LOW_BIT], found.times[FLOAT_TORCH]
    engine = found.times.get(FLOAT_ENGINE)
    return {
        "recipe": found.run.recipe.name,
        "seed": seed,
        "threads": found.threads,
        "test_images": found.verification.images,
        "accuracy_low_bit": found.accuracy_low_bit,
        "accuracy_float": found.accuracy_float,
        "accumulators": found.verification.accumulators,
        "accumulators_differ": found.verification.accumulators_differ,
        "codes_flipped": found.verification.flipped,
        "file_bytes": found.file_bytes,
        "file_bytes_float": found.file_bytes_float,
        "latency_us_low_bit": low.median_us,
        "latency_us_float": twin.median_us,
        "latency_us_float_engine": engine.median_us if engine is not None else None,
        "speed_up": twin.median_us / low.median_us,
        "imagenet_resnet18_untrained": {
            name: {"latency_us": big.times[name].median_us} if name in big.times else {"reason": entry.reason}
            for name, entry in big.entries.items()
        },
        **rows.stamp(),
    }


def _report(found: Study, big: Big) -> Report:
    contestants = tuple(
        Contestant(name, None, e.details.get("size_bytes"), big.times.get(name), e.reason if e.reason else str(e.details.get("form", "")))
        for name, e in big.entries.items()
    )
    lead = (
        "A binary network trained on two thirds of scikit-learn's scanned digits with AdaBin, folded into one packed file, proven equal "
        "to what was trained, and run by bitfold's engine; tested on the last third. Its float twin had the same recipe."
    )
    title = f"ImageNet ResNet-18, 224x224, batch 1, threads: {found.threads}. UNTRAINED weights: latency and size only"
    return report(found, "Digits in one bit: the demo of bitfold", lead, (Comparison(title, contestants),))


def _digits_table(found: Study) -> Table:
    base = found.times[FLOAT_TORCH].median_us
    table = Table("digits, one 8x8 image", "test accuracy", "file", "time per image", "speed-up", title=f"threads: {found.threads}")
    for name, accuracy, size in (
        (FLOAT_TORCH, found.accuracy_float, None),
        (FLOAT_ENGINE, found.accuracy_float, found.file_bytes_float),
        (LOW_BIT, found.accuracy_low_bit, found.file_bytes),
    ):
        timing = found.times.get(name)
        cells = [f"{accuracy:.2f} %", kilobytes(size) if size is not None else ""]
        cells += [duration(timing.median_us), f"{base / timing.median_us:.1f} x"] if timing is not None else ["", found.notes[name]]
        table.add_row(name, *cells)
    return table


def _big_table(big: Big) -> Table:
    table = Table("ImageNet ResNet-18, one 224x224 image", "file", "time per image", "speed-up", title="UNTRAINED weights: latency only")
    for name, entry in big.entries.items():
        size = entry.details.get("size_bytes")
        cells = [kilobytes(size) if size is not None else ""]
        if name in big.times and BIG_TORCH in big.times:
            cells += [duration(big.times[name].median_us), f"{big.times[BIG_TORCH].median_us / big.times[name].median_us:.1f} x"]
        else:
            cells += ["", entry.reason or ""]
        table.add_row(name, *cells)
    return table
