"""The example of docs/guide/methods.md works as printed, found by its file name."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bitfold
from bitfold import methods
from bitfold.ir.encoding import Ternary, values
from bitfold.methods.base import Method

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "methods.md"


def test_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, mixed = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "twn.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.setitem(sys.modules, "bitfold.methods.twn", None)  # forgotten again after the test
    del sys.modules["bitfold.methods.twn"]
    assert "twn" in methods.names() and methods.describe("twn").fields[-1].default == 0.7
    model = bitfold.apply(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 6), nn.Linear(6, 2)), methods.get("twn", threshold=0.5))
    layer = model[1]
    encoding = layer.weight_quant.encoding(layer.weight)
    assert isinstance(encoding, Ternary)
    expected = values(encoding, layer.weight_quant.codes(layer.weight).numpy())
    np.testing.assert_allclose(layer.weight_quant(layer.weight).detach().numpy(), expected, atol=1e-6)
    model(torch.randn(3, 4)).sum().backward()
    assert layer.weight.grad is not None
    exec(mixed, {})  # the second example: methods put together


def test_every_hook_is_named() -> None:
    hooks = [name for name, value in vars(Method).items() if callable(value) and not name.startswith("_")]
    text = GUIDE.read_text(encoding="utf-8")
    assert len(hooks) >= 9 and [h for h in hooks if f"`{h}(" not in text] == []
