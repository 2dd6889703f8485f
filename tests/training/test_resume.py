"""A killed run ends with the same bytes as one that was never stopped."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.recipes import TWO_STAGES, short

from bitfold.training import checkpoint
from bitfold.training.train import train

SETS = ("stage.epochs=3", "model.options.width=4", "stage.0.ema=0.9", "stage.1.init=scratch")

# Imports once, then trains in forked children, which the parent kills: a real process dies, without minutes of imports. Each kill
# comes a random moment after the child's first new checkpoint, so that the run gets on.
SCRIPT = """
import os, signal, sys, time
import bitfold.data, bitfold.methods.adabin, bitfold.methods.bireal, bitfold.models.digits
from bitfold.training.train import train
from tests.training.recipes import TWO_STAGES, short

bitfold.data.load("digits", "train")
out, sets, waits = sys.argv[1], sys.argv[2].split(), [float(w) for w in sys.argv[3].split()]
checkpoint = out + "/checkpoint.pt"
stamp = lambda: os.stat(checkpoint).st_mtime_ns if os.path.exists(checkpoint) else 0
for wait in waits:
    before = stamp()
    child = os.fork()
    if child == 0:
        train(short(*sets, text=TWO_STAGES), out, resume=True, accelerator="cpu", checkpoint_steps=2, quiet=True)
        os._exit(0)
    while stamp() == before and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.002)
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(open(out + "/metrics.jsonl").read().count(chr(10)), os.path.exists(out + "/model.safetensors"))
"""


def test_killed_and_resumed_is_bit_identical(tmp_path: Path, rng: np.random.Generator) -> None:
    whole = train(short(*SETS, text=TWO_STAGES), tmp_path / "whole", accelerator="cpu", quiet=True)
    waits = " ".join(f"{w:.3f}" for w in rng.uniform(0.0, 0.2, size=4))
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    argv = [sys.executable, "-c", SCRIPT, str(tmp_path / "killed"), " ".join(SETS), waits]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=300)
    print(f"killed {waits} s after a checkpoint; epochs finished and end reached each time: {done.stdout.split()}")
    killed = train(short(*SETS, text=TWO_STAGES), tmp_path / "killed", resume=True, accelerator="cpu", quiet=True)
    assert (killed.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()
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
