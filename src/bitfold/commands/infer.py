"""``bitfold run``: a folded network on one image or array, with the engine alone (no PyTorch)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import bitfold
from bitfold.errors import ConfigError
from bitfold.ir.graph import Graph

TOP = 5


def run_file(file: Path, source: Path, threads: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Outputs (n, ...) and the best classes of every sample as rows. ``source``: .npy with network inputs, else an image."""
    graph = Graph.load(file)
    (shape,) = (t.shape for t in graph.inputs.values())
    x = _array(source, shape) if source.suffix == ".npy" else _image(source, shape, graph.metadata, graph.takes_bytes)
    outputs = bitfold.load(graph, threads=threads)(x)
    return outputs, _rows(outputs, graph.metadata.get("classes", "").split("\n"))


def write_npy(path: Path, array: np.ndarray) -> None:
    np.save(path, array, allow_pickle=False)


def _array(source: Path, shape: tuple[int, ...]) -> np.ndarray:
    if not source.is_file():
        raise ConfigError(f"input file {str(source)!r} not found")
    try:
        x = np.load(source, allow_pickle=False)
    except ValueError as e:
        raise ConfigError(f"{source} is not a .npy array of numbers: {e}") from e
    if x.shape == shape:
        x = x[None]
    if x.shape[1:] != shape:
        raise ConfigError(f"{source} has shape {x.shape}; the network takes {shape}, with or without a batch axis in front")
    return np.ascontiguousarray(x)


def _image(source: Path, shape: tuple[int, ...], metadata: Mapping[str, str], takes_bytes: bool) -> np.ndarray:
    """(1, channels, height, width): resized; float32, scaled to [0, 1] and normalised as the file's metadata say, or bytes as they are."""
    from PIL import Image, UnidentifiedImageError

    if "mean" not in metadata or "std" not in metadata or len(shape) != 3 or shape[0] not in (1, 3):
        raise ConfigError(f"{source}: this network does not say how to prepare an image; give it a .npy array of shape {shape}")
    try:
        with Image.open(source) as image:
            pixels = image.convert("L" if shape[0] == 1 else "RGB").resize((shape[2], shape[1]), Image.Resampling.BILINEAR)
            x = np.asarray(pixels).reshape(shape[1], shape[2], shape[0])
    except (OSError, UnidentifiedImageError) as e:
        raise ConfigError(f"{source} is neither a .npy array nor an image: {e}") from e
    if takes_bytes:
        scaled = np.rint(x * (int(metadata.get("max_value", "255")) / 255)).astype(np.uint8)  # itself, where 255 is 1.0
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])
    mean, std = (np.array(metadata[key].split(), dtype=np.float32) for key in ("mean", "std"))
    return np.ascontiguousarray(((x.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)[None], dtype=np.float32)


def _rows(outputs: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    rows = []
    for sample, scores in enumerate(outputs.reshape(len(outputs), -1)):
        for rank, index in enumerate(np.argsort(-scores, kind="stable")[:TOP]):
            name = classes[index] if len(classes) == scores.size else str(index)
            rows.append({"sample": sample, "rank": rank + 1, "class": name, "score": float(scores[index])})
    return rows
