"""Training of methods that need a teacher: refused without one, and trained with one."""

from pathlib import Path

import pytest
import torch
from tests.training.recipes import TEXT, short, state

import bitfold
from bitfold.errors import ConfigError
from bitfold.methods.lcr_bnn import GAMMA

FLOAT = TEXT.replace('"adabin"', '"float"')


def test_methods_that_need_a_teacher(tmp_path: Path) -> None:
    text = TEXT.replace('"adabin"', '"lcr_bnn"') + 'options = { base = "dir_net", alpha = 1e6 }\n'
    with pytest.raises(ConfigError, match=r"stage.0: method 'lcr_bnn' .* needs a teacher; .* teacher.run=FOLDER"):
        bitfold.train(short(text=text), tmp_path / "alone", quiet=True)
    bitfold.train(short("stage.epochs=1", text=FLOAT), tmp_path / "float", quiet=True)
    teacher = f'[teacher]\nrun = "{tmp_path / "float"}"\nweight = 0.0\n[[stage]]'
    run = bitfold.train(short("stage.epochs=1", text=text.replace("[[stage]]", teacher)), tmp_path / "run", quiet=True)
    gamma = state(run.path)[GAMMA]
    assert gamma.shape == (1, 5) and (gamma != 1).all()
    graph = bitfold.export(run.model(), torch.zeros(1, 1, 8, 8))
    assert graph.save(tmp_path / "m.bitfold") > 0
