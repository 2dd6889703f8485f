"""What the commands do with the folder of a run: evaluate, export, verify, summarise."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import bitfold
from bitfold import models
from bitfold.errors import ConfigError
from bitfold.export.report import VerifyReport
from bitfold.ir.graph import Graph
from bitfold.training.evaluate import evaluate
from bitfold.training.loaders import test_loader
from bitfold.training.run import Run


def evaluate_run(path: Path, data: Path | None) -> dict[str, Any]:
    """One row of metrics of the run's final weights on its test set."""
    run = Run.load(path)
    return {"run": run.recipe.name, **evaluate(run.model(), test_loader(run.recipe, data))}


def export_run(path: Path) -> Graph:
    """The run's network as a graph; its metadata say where it comes from and how to prepare an image."""
    run = Run.load(path)
    data = run.facts["data"]
    graph: Graph = bitfold.export(run.model(), torch.zeros(1, *data["input_shape"]), name=run.recipe.name)
    origin = {
        "recipe": run.recipe.name,
        "recipe_hash": run.recipe.hash,
        "method": run.recipe.stage[-1].method,
        "commit": str(run.facts["commit"]),
        "classes": "\n".join(data["class_names"]),
        "mean": " ".join(map(repr, data["mean"])),
        "std": " ".join(map(repr, data["std"])),
    }
    return replace(graph, metadata={**graph.metadata, **origin})


def verify_run(
    path: Path,
    data: Path | None,
    limit: int | None,
    graph: Graph | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """The result of ``bitfold.verify`` on the first ``limit`` of the run's test images. ``graph``: what ``export_run`` made of it."""
    run = Run.load(path)
    batches, found = [], 0
    for batch in test_loader(run.recipe, data):
        batches.append(batch)
        found += len(batch.labels)
        if limit is not None and found >= limit:
            break
    images = torch.cat([b.inputs for b in batches])[:limit]
    labels = torch.cat([b.labels for b in batches])[:limit]
    graph = graph if graph is not None else export_run(path)
    return bitfold.verify(run.model(), graph, images, labels=labels, progress=progress)


def summarize(what: str, image: str) -> Any:
    """The summary of a ``.bitfold`` file, a run or a float model by its name; ``image``: input shape of the latter."""
    path = Path(what)
    if path.is_file():
        return bitfold.summary(Graph.load(path))
    if path.is_dir():
        run = Run.load(path)
        return bitfold.summary(run.model(), tuple(run.facts["data"]["input_shape"]))
    try:
        shape = tuple(int(n) for n in image.split(","))
    except ValueError as e:
        raise ConfigError(f"--image {image!r}: expected whole numbers with commas, for example 3,32,32") from e
    return bitfold.summary(models.create(what), shape)
