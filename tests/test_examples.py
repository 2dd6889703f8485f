"""The scripts in examples/ run as a user would run them, one after the other."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bitfold import data

EXAMPLES = Path(__file__).parents[1] / "examples"
WITHOUT_TORCH = "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def python(*arguments: str | Path) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.native
def test_train_then_classify_a_folder(tmp_path: Path) -> None:
    out = python(EXAMPLES / "train_and_export.py", tmp_path / "digits.bitfold", "4")
    assert "\n  0 of " in out and out.splitlines()[-1].endswith(f"{(tmp_path / 'digits.bitfold').stat().st_size:,} bytes")
    accuracy = float(out.partition("engine ")[2].rpartition("engine ")[2].split(" %")[0])
    assert accuracy > 90, out

    test = data.load("digits", "test")
    (tmp_path / "pictures").mkdir()
    for i in range(100):
        pixels = np.round(np.asarray(test.images[i, 0]) * (255 / test.max_value)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i:03}.png")
    rows = [
        line.split("\t")
        for line in python(
            "-c", WITHOUT_TORCH, EXAMPLES / "classify_folder.py", tmp_path / "digits.bitfold", tmp_path / "pictures"
        ).splitlines()
    ]
    assert [name for name, *_ in rows] == [f"{i:03}.png" for i in range(100)]
    right = sum(label == test.class_names[test.labels[i]] for i, (_, label, _) in enumerate(rows))
    assert right >= accuracy - 8, "the same accuracy, on fewer images"
