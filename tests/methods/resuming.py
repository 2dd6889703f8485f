"""A short run, resumed from its checkpoints."""

from pathlib import Path
from typing import Any

import torch
from tests.training.recipes import short

from bitfold.training import checkpoint
from bitfold.training.run import Run
from bitfold.training.train import train


def check_resuming(tmp_path: Path, *sets: str) -> tuple[Run, list[dict[str, Any]]]:
    """Trains 4 steps, then again from the checkpoints after 1 and 3; every end must have the same bytes. The run and all 4 checkpoints."""
    recipe = short("model.options.width=4", "data.train_limit=160", "stage.epochs=1", *sets)
    saved: list[bytes] = []
    real = checkpoint.save_atomic

    def keep(path: Path, state: dict[str, object]) -> None:
        real(path, state)
        saved.append(path.read_bytes())

    checkpoint.save_atomic = keep
    try:
        whole = train(recipe, tmp_path / "whole", accelerator="cpu", checkpoint_steps=1, quiet=True)
    finally:
        checkpoint.save_atomic = real
    assert len(saved) == 4
    states = []
    for i, data in enumerate(saved):
        folder = tmp_path / str(i)
        folder.mkdir()
        (folder / "recipe.toml").write_bytes((whole.path / "recipe.toml").read_bytes())
        (folder / "checkpoint.pt").write_bytes(data)
        states.append(checkpoint.load(folder / "checkpoint.pt"))
        if i % 2 == 0:
            torch.manual_seed(i)  # whatever happened before must not matter
            resumed = train(recipe, folder, resume=True, accelerator="cpu", quiet=True)
            assert (resumed.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes(), i
    return whole, states
