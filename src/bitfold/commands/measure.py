"""A finished run as one row: exported, verified on its whole test set, timed; with how it was trained and what each epoch gave."""

import statistics
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bitfold
from bitfold.bench import rows
from bitfold.bench.models import file_size
from bitfold.bench.rows import Row
from bitfold.bench.timing import compare
from bitfold.commands.runs import export_run
from bitfold.export.report import VerifyReport
from bitfold.ir.embedded import embedded_cost
from bitfold.ir.graph import Graph
from bitfold.training.evaluate import evaluate
from bitfold.training.loaders import test_loader
from bitfold.training.run import Run

PER_EPOCH = ("stage", "epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "flip_rate", "seconds")


def measure(path: Path, data: Path | None, limit: int | None, say: Callable[[str], None] = lambda words: None) -> list[Row]:
    """One row. ``timing``: one image, engine, one thread; the accuracies are those of the last epoch's weights on the run's whole test
    set. ``limit``: images of it that ``verify`` compares code by code. Where it does not pass, ``reason`` says so, nothing is timed."""
    run = Run.load(path)
    model = run.model()
    say("exporting")
    graph = export_run(path)
    batches = list(test_loader(run.recipe, data))
    images = torch.cat([batch.inputs for batch in batches])[:limit].contiguous()
    say(f"verifying on {len(images):,} images")
    found: VerifyReport = bitfold.verify(model, graph, images)
    net, x = bitfold.load(graph, threads=1), np.ascontiguousarray(images[:1].numpy())
    say("accuracy of PyTorch and of the engine")
    results = {"torch": evaluate(model, batches), "engine": evaluate(net, batches)}
    say("timing")
    timing = compare({"engine": lambda: net(x)})["engine"] if found.ok else None
    return [
        Row(
            bench="run",
            subject=run.recipe.name,
            contestant=f"bitfold {run.recipe.stage[-1].method}",
            threads=1,
            batch=1,
            timing=timing,
            reason=None if found.ok else "verify: " + "; ".join(line.strip() for line in str(found).splitlines()[1:]),
            details={**_details(run), **_proof(found, results), **_costs(graph)},
            **rows.stamp(),
        )
    ]


def _details(run: Run) -> dict[str, Any]:
    seconds = [row["seconds"] for row in run.metrics]
    return {
        "recipe": tomllib.loads(run.recipe.toml()),
        "recipe_hash": run.recipe.hash,
        "trained": {name: value for name, value in run.facts.items() if name not in ("data", "result")},
        "train_seconds": round(sum(seconds), 3),
        "epoch_seconds": statistics.median(seconds) if seconds else None,  # an imported run has no epochs
        "epochs": [{name: row[name] for name in PER_EPOCH if name in row} for row in run.metrics],
    }


def _proof(found: VerifyReport, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Accuracies in per cent, and the counts of ``verify``."""
    checked = {name: value for name, value in found.to_dict().items() if name not in ("layers", "accuracy", "accuracy_torch")}
    return {
        "test_images": results["engine"]["count"],
        "accuracy": results["engine"]["accuracy"],
        "accuracy_torch": results["torch"]["accuracy"],
        "verify": checked,
    }


def _costs(graph: Graph) -> dict[str, Any]:
    costs = bitfold.summary(graph)
    totals = {"bops": costs.bops, "flops": costs.flops, "ops": costs.ops, "parameters": costs.parameters}
    return {"file_bytes": file_size(graph), **totals, "embedded": embedded_cost(graph).to_dict()}
