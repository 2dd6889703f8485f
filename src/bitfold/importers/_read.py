"""Reads a PyTorch checkpoint that may come from anywhere: tensors and plain values, or FormatError."""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitfold.errors import ConfigError, FormatError

MAX_BYTES = 1 << 32


@dataclass(frozen=True)
class Checkpoint:
    """``tensors``: the state dict, names as published. ``notes``: the numbers that stand beside it."""

    tensors: dict[str, Tensor]
    notes: dict[str, float]
    size_bytes: int
    sha256: str


def read(path: Path, key: str | None, notes: tuple[str, ...]) -> Checkpoint:
    """``key``: where the state dict stands in the saved dict; None if it is that dict itself. ``notes``: other keys, whose values are
    numbers. Nothing else may be in the file. No code of the file is run (``weights_only``); tensors are not checked yet.
    """
    if not path.is_file():
        raise ConfigError(f"checkpoint {str(path)!r} not found")
    if path.stat().st_size > MAX_BYTES:
        raise FormatError(f"{path} has {path.stat().st_size} bytes; allowed: up to {MAX_BYTES}")
    table = _load(path)
    if not isinstance(table, dict):
        raise FormatError(f"{path} holds a {type(table).__name__}; expected a dict")
    tensors = table if key is None else table.get(key)
    if not isinstance(tensors, dict):
        raise FormatError(f"{path} has no dict under {key!r}; got {', '.join(map(_short, list(table)[:8]))}")
    found = {}
    for name, value in table.items() if key is not None else ():
        if name == key:
            continue
        if name not in notes:
            raise FormatError(f"{path}: unknown entry {_short(name)}; allowed: {', '.join((str(key), *notes))}")
        found[str(name)] = _number(path, name, value)
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise FormatError(f"{path}: entry {_short(name)} is a {type(tensor).__name__}; expected a tensor under a name")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(dict(tensors), found, path.stat().st_size, digest)


def _load(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                    raise FormatError(f"{path} has compressed parts, which torch.save never writes")  # they may unpack to any size
        return torch.load(path, map_location="cpu", weights_only=True)
    except FormatError:
        raise
    except Exception as error:  # what PyTorch raises for a broken file is no closed list
        first = str(error).strip().splitlines() or [""]
        raise FormatError(f"{path} is not a checkpoint of plain tensors: {type(error).__name__}: {first[0][:200]}") from error


def _number(path: Path, name: object, value: object) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FormatError(f"{path}: {_short(name)} is a {type(value).__name__}; expected a number")
    return float(value)


def _short(value: object) -> str:
    return repr(value)[:80]
