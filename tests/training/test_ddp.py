"""Two processes under torchrun train like one process with the joined batch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from tests.training.recipes import short, state

from bitfold.training.train import train

# float32 sums in another order: the gradient of a batch is the mean of two halves'. Measured after two steps: 1.2e-7. Over many steps
# such differences grow, as they do between any two machines.
TOLERANCE = 2e-6

SETS = ("stage.epochs=1", "model.options.width=4", "stage.method=float", "stage.lr=0.02", "data.train_limit=80")

SCRIPT = """
import sys, warnings
from bitfold.training.train import train
from tests.training.recipes import short

warnings.simplefilter('error')
run = train(short(*sys.argv[2].split()), sys.argv[1], accelerator="cpu", quiet=True, checkpoint_steps=2)
"""


def test_two_processes_equal_one_with_the_joined_batch(tmp_path: Path) -> None:
    """The model has BatchNorm, whose statistics are taken over both processes. Float, because a weight near a decision may flip."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    argv = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run([*argv, str(tmp_path / "two"), " ".join(SETS)], env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    one = train(short(*SETS), tmp_path / "one", accelerator="cpu", quiet=True)
    a, b = state(tmp_path / "one"), state(tmp_path / "two")
    assert a.keys() == b.keys()
    worst = max(float((a[name].double() - b[name].double()).abs().max()) for name in a)
    assert worst <= TOLERANCE, worst
    two = type(one).load(tmp_path / "two")
    assert [r["epoch"] for r in two.metrics] == [1] and two.facts["processes"] == 2
    for key in ("train_loss", "test_loss"):
        assert np.isclose(two.metrics[0][key], one.metrics[0][key], rtol=0, atol=1e-5)
    assert two.metrics[0]["test_accuracy"] == one.metrics[0]["test_accuracy"]
