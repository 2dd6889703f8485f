"""What the commands do with the folder of a run: evaluate, export, verify, summarise."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import bitfold
from bitfold import models
from bitfold.data import Batch, Loader
from bitfold.engine.liveness import liveness
from bitfold.errors import ConfigError, unknown
from bitfold.export.report import VerifyReport
from bitfold.ir.graph import Graph
from bitfold.training.evaluate import evaluate
from bitfold.training.loaders import test_loader
from bitfold.training.run import Run


def evaluate_run(path: Path, data: Path | None) -> dict[str, Any]:
    """One row of metrics of the run's final weights on its test set."""
    run = Run.load(path)
    return {"run": run.recipe.name, **evaluate(run.model(), test_loader(run.recipe, data))}


def evaluate_file(path: Path, data: Path | None, file: Path, threads: int) -> dict[str, Any]:
    """The same by the engine, of what was exported from the run; a file that takes bytes gets the data set's own."""
    run = Run.load(path)
    graph = Graph.load(file)
    loader = test_loader(run.recipe, data)
    batches = ((_as_taken(graph, loader, batch), batch.labels) for batch in loader)
    return {"run": run.recipe.name, "file": str(file), **evaluate(bitfold.load(graph, threads=threads), batches)}


def _as_taken(graph: Graph, loader: Loader, batch: Batch) -> torch.Tensor:
    """The pictures of a batch as the graph takes them: normalised floats, or bytes."""
    return loader.dataset.images[batch.indices] if graph.takes_bytes else batch.inputs


def integer_stem(input_: str, stem_bits: int | None) -> int | None:
    """The bits of the integer stem that the options ask for; None for a float32 input."""
    if input_ not in ("float32", "uint8"):
        raise unknown("--input", input_, ("float32", "uint8"))
    if input_ == "float32" and stem_bits is not None:
        raise ConfigError("--stem-bits belongs to --input uint8")
    return None if input_ == "float32" else stem_bits or 16


def export_run(path: Path, stem_bits: int | None = None) -> Graph:
    """The run's network as a graph; its metadata say where it comes from and how to prepare an image.

    ``stem_bits``: the graph takes the data set's bytes, and its first layer has integer weights of so many bits.
    """
    run = Run.load(path)
    data = run.facts["data"]
    stem: dict[str, Any] = {}
    if stem_bits is not None:
        stem = {"input": "uint8", "stem_bits": stem_bits, **{key: data[key] for key in ("mean", "std", "max_value")}}
    graph: Graph = bitfold.export(run.model(), torch.zeros(1, *data["input_shape"]), name=run.recipe.name, **stem)
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
    stem_bits: int | None = None,
) -> VerifyReport:
    """The result of ``bitfold.verify`` on the first ``limit`` of the run's test images. ``graph``: what ``export_run`` made of it, else
    it is made with ``stem_bits``."""
    run = Run.load(path)
    batches, found = [], 0
    loader = test_loader(run.recipe, data)
    graph = graph if graph is not None else export_run(path, stem_bits)
    for batch in loader:
        batches.append(batch)
        found += len(batch.labels)
        if limit is not None and found >= limit:
            break
    images = torch.cat([_as_taken(graph, loader, b) for b in batches])[:limit]
    labels = torch.cat([b.labels for b in batches])[:limit]
    return bitfold.verify(run.model(), graph, images, labels=labels, progress=progress)


def summarize(what: str, image: str, alive: bool = False) -> str:
    """The summary of a ``.bitfold`` file, a run or a float model by its name; ``image``: input shape of the latter.

    A file's ends with the memory of its activations in the engine; ``alive``: with what is alive at each step (files and runs).
    """
    path = Path(what)
    if path.is_file():
        graph = Graph.load(path)
        found = liveness(graph)
        return f"{bitfold.summary(graph)}\n" + (f"\n{found}" if alive else found.total())
    if path.is_dir():
        run = Run.load(path)
        text = str(bitfold.summary(run.model(), tuple(run.facts["data"]["input_shape"])))
        return f"{text}\n\n{liveness(export_run(path))}" if alive else text
    if alive:
        raise ConfigError(f"--liveness shows the engine's memory: expected a run or a .bitfold file, got {what!r}")
    try:
        shape = tuple(int(n) for n in image.split(","))
    except ValueError as e:
        raise ConfigError(f"--image {image!r}: expected whole numbers with commas, for example 3,32,32") from e
    return str(bitfold.summary(models.create(what), shape))
