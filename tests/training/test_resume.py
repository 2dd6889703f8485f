"""A killed run ends with the same bytes as one that was never stopped."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.recipes import TWO_STAGES, short

from bitfold.training import checkpoint
from bitfold.training.train import train

SETS = ("stage.epochs=3", "model.options.width=4", "stage.0.ema=0.9", "stage.1.init=scratch")

SCRIPT = """
import sys
from bitfold.training.train import train
from tests.training.recipes import TWO_STAGES, short

train(short(*sys.argv[2].split(), text=TWO_STAGES), sys.argv[1], resume=True, accelerator="cpu", checkpoint_steps=2, quiet=True)
"""


def kill_after_checkpoint(out: Path, wait: float) -> int:
    """Trains in a process of its own and kills it ``wait`` seconds after its first new checkpoint, so that the run gets on."""
    saved = out / "checkpoint.pt"
    before = saved.stat().st_mtime_ns if saved.exists() else 0
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, str(out), " ".join(SETS)])
    while child.poll() is None and not (saved.exists() and saved.stat().st_mtime_ns != before):
        time.sleep(0.002)
    time.sleep(wait)
    child.kill()
    return child.wait(timeout=300)


def test_killed_and_resumed_is_bit_identical(tmp_path: Path, rng: np.random.Generator) -> None:
    whole = train(short(*SETS, text=TWO_STAGES), tmp_path / "whole", accelerator="cpu", quiet=True)
    waits = rng.uniform(0.0, 0.2, size=2)
    ends = [kill_after_checkpoint(tmp_path / "killed", wait) for wait in waits]
    assert -signal.SIGKILL in ends, f"no process died: exit statuses {ends}, killed {waits} s after a checkpoint"
    killed = train(short(*SETS, text=TWO_STAGES), tmp_path / "killed", resume=True, accelerator="cpu", quiet=True)
    assert (killed.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()
    resumes = killed.facts["resumes"]
    assert resumes and all(start["started"] >= killed.facts["started"] and start["command"] for start in resumes)
    assert "resumes" not in whole.facts
    same = [{k: v for k, v in row.items() if k != "seconds"} for row in whole.metrics]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in killed.metrics] == same


def test_every_checkpoint_leads_to_the_same_end(tmp_path: Path) -> None:
    """Resuming from each checkpoint in turn, mid-epoch and between stages, without waiting for a lucky kill."""
    sets = ("stage.epochs=1", "model.options.width=4", "data.train_limit=120", "stage.1.init=previous")
    recipe = short(*sets, text=TWO_STAGES)
    saved: list[bytes] = []
    real = checkpoint.save_atomic

    def keep(path: Path, state: dict[str, object]) -> None:
        real(path, state)
        saved.append(path.read_bytes())

    checkpoint.save_atomic = keep  # type: ignore[assignment]
    try:
        whole = train(recipe, tmp_path / "whole", accelerator="cpu", checkpoint_steps=2, quiet=True)
    finally:
        checkpoint.save_atomic = real
    assert len(saved) == 4  # one within and one after each epoch of 3 steps
    for i, data in enumerate(saved):
        folder = tmp_path / str(i)
        folder.mkdir()
        for name in ("recipe.toml", "metrics.jsonl"):
            (folder / name).write_bytes((whole.path / name).read_bytes())
        (folder / "checkpoint.pt").write_bytes(data)
        torch.manual_seed(i)  # whatever happened before must not matter
        resumed = train(recipe, folder, resume=True, accelerator="cpu", quiet=True)
        assert (folder / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes(), i
        assert len(resumed.metrics) == 2


def test_a_torn_write_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    checkpoint.save_atomic(path, {"x": torch.arange(3)})

    def torn(f: object) -> None:
        f.write(b"half")  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoint.replace_atomic(path, torn)
    assert torch.equal(checkpoint.load(path)["x"], torch.arange(3))
