"""Checkpoints that survive a kill at any moment: written beside, flushed to disk, then renamed over the old one."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor

from bitfold.errors import TrainingError

VERSION = 1


def save_atomic(path: Path, state: dict[str, Any]) -> None:
    """``torch.save`` of tensors, numbers, text, lists and dicts alone, so that ``weights_only=True`` reads it."""
    replace_atomic(path, lambda f: torch.save({"version": VERSION, **state}, f))


def replace_atomic(path: Path, write: Any) -> None:
    """Calls ``write(file)`` on a temporary neighbour; ``path`` then holds either the old bytes or all the new ones."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as f:
        write(f)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: Path) -> dict[str, Any]:
    """The state on the CPU. Raises TrainingError where the file is not a checkpoint of this version."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # torch raises many kinds for a broken file
        raise TrainingError(f"checkpoint {path} cannot be read: {e}") from e
    if state.get("version") != VERSION:
        raise TrainingError(f"checkpoint {path} has version {state.get('version')}; this bitfold reads {VERSION}")
    return state


def rng_state(fabric: Fabric) -> dict[str, Tensor]:
    """The random generators of every process, rank first: cpu (ranks, bytes), cuda (ranks, bytes) where there is a GPU."""
    states = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(fabric.device)
    return {name: gather(fabric, s).cpu() for name, s in states.items()}


def set_rng_state(fabric: Fabric, states: dict[str, Tensor]) -> None:
    saved = len(states["cpu"])
    if saved != fabric.world_size:
        raise TrainingError(f"the checkpoint was written by {saved} processes; resume it with as many, not {fabric.world_size}")
    torch.set_rng_state(states["cpu"][fabric.global_rank])
    if fabric.device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"][fabric.global_rank], fabric.device)


def gather(fabric: Fabric, value: Tensor) -> Tensor:
    """(ranks, *value.shape), on every process."""
    if fabric.world_size == 1:
        return value.unsqueeze(0)
    mine = value.to(fabric.device)
    parts = [torch.empty_like(mine) for _ in range(fabric.world_size)]
    dist.all_gather(parts, mine)
    return torch.stack(parts)
