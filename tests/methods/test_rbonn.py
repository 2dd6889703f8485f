"""rbonn.md, section 9: rows 6 to 8, and what one step leaves to the next: across zero_grad, checkpoints and processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.methods.resuming import check_resuming
from tests.training.recipes import short, state
from torch import Tensor, nn

import bitfold
from bitfold.errors import ConfigError
from bitfold.ir.interpreter import interpret
from bitfold.layers.activations import RPReLU
from bitfold.methods import get
from bitfold.methods.base import Method
from bitfold.quantizers.rbonn import RBONNWeight
from bitfold.quantizers.rsign import RSign
from bitfold.training.train import train


def net() -> nn.Module:
    stem = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardtanh()]
    body = [nn.Conv2d(8, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.Hardtanh(), nn.Conv2d(5, 5, 3, bias=False), nn.BatchNorm2d(5)]
    return nn.Sequential(*stem, *body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4))


def applied(**fields: object) -> tuple[nn.Module, Method]:
    torch.manual_seed(0)
    method = get("rbonn", **fields)
    return bitfold.apply(net(), method), method


def steps(model: nn.Module, method: Method, n: int, forget: bool = False) -> None:
    """``n`` steps of SGD; ``forget`` clears what the step before left, as zeroing gradients before the forward does in released code."""
    generator = torch.Generator().manual_seed(1)
    groups = [{**g, "lr": 0.1 * g.get("lr_scale", 1.0)} for g in method.param_groups(model, 1e-3)]
    optimizer = torch.optim.SGD([g for g in groups if g["params"]], lr=0.1, momentum=0.9)
    for i in range(n):
        x, y = torch.randn(8, 3, 6, 6, generator=generator), torch.randint(0, 4, (8,), generator=generator)
        if forget:
            for m in quantizers(model):
                m.memory.zero_()
        method.before_step(model, i / n)
        F.cross_entropy(model(x), y).backward()
        method.after_backward(model, i / n)
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(model, (i + 1) / n)


def quantizers(model: nn.Module) -> list[RBONNWeight]:
    return [m for m in model.modules() if isinstance(m, RBONNWeight)]


@pytest.mark.parametrize("backtrack", ["code", "code_fixed_rank", "paper"])
def test_row_6_evaluation_does_not_know_the_backtracking(backtrack: str) -> None:
    model, method = applied(backtrack=backtrack)
    steps(model, method, 3)
    x = torch.randn(4, 3, 6, 6)
    y = model.eval()(x)
    for q in quantizers(model):
        nn.init.normal_(q.u)
        q.memory.normal_()
        q.tau = 0.1
    assert torch.equal(model(x), y)
    assert not torch.equal(model.train()(x), y)


@pytest.mark.parametrize("backtrack", ["code", "code_fixed_rank"])
def test_row_7_without_the_gradient_before_it_is_off(backtrack: str) -> None:
    """Bit for bit; with it, the weights and the steps u go elsewhere."""
    off, method = applied(backtrack="off")
    steps(off, method, 5)
    forgetful, method = applied(backtrack=backtrack)
    steps(forgetful, method, 5, forget=True)
    active, method = applied(backtrack=backtrack)
    steps(active, method, 5)
    kept = off.state_dict()
    assert not any(".u" in name or "memory" in name for name in kept)
    assert all(torch.equal(kept[name], forgetful.state_dict()[name]) for name in kept)
    assert not torch.equal(kept["3.weight"], active.state_dict()["3.weight"])
    for model, moved in ((forgetful, False), (active, True)):
        assert all(bool((q.u != torch.tensor(0.2)).any()) == moved for q in quantizers(model))


@pytest.mark.native
def test_row_8_export_knows_the_size_of_a_scale_alone(rng: np.random.Generator) -> None:
    """s -> -s changes nothing; slopes of BatchNorm of both signs; a filter with s = 0 is dead but legal (section 6)."""
    model, method = applied()
    steps(model, method, 3)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight)
            nn.init.normal_(m.bias)
    nn.init.zeros_(quantizers(model)[0].s[1])
    x = torch.tensor(rng.normal(size=(8, 3, 6, 6)), dtype=torch.float32)
    graph = bitfold.export(model, x[:1])
    report = bitfold.verify(model, graph, x)
    assert report.accumulators_differ == 0 and len(report.layers) == 2
    expected = model.eval()(x).detach().numpy()
    np.testing.assert_allclose(bitfold.load(graph)(x.numpy()), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    with torch.no_grad():
        for q in quantizers(model):
            q.s.neg_()
    flipped = bitfold.export(model, x[:1])
    assert np.array_equal(interpret(flipped, x.numpy()), interpret(graph, x.numpy()))
    assert all(np.array_equal(graph.constants[n].data, flipped.constants[n].data) for n in graph.constants)


def test_structure_is_reactnets() -> None:
    model, _ = applied()
    assert isinstance(model[3].act_quant, RSign) and [type(model[i]) for i in (2, 5)] == [RPReLU, RPReLU]
    assert model[3].weight_quant.u.flatten().tolist() == pytest.approx([0.2] * 5)
    first, _ = applied(weights="real")
    missing = model.load_state_dict(first.state_dict(), strict=False).missing_keys  # step 1 leads into step 2; s and u stay at their start
    assert all(".weight_quant." in name for name in missing) and missing


def test_groups_of_parameters() -> None:
    model, method = applied()
    decayed, free, slow = method.param_groups(model, 1e-3)
    assert [id(p) for p in slow["params"]] == [id(q.u) for q in quantizers(model)]
    assert (slow["lr_scale"], slow["weight_decay"], free["weight_decay"], decayed["weight_decay"]) == (0.1, 0.0, 0.0, 1e-3)
    assert [id(p) for p in decayed["params"]] == [id(model[i].weight) for i in (0, 3, 6, 10)]
    assert {id(q.s) for q in quantizers(model)} <= {id(p) for p in free["params"]}


@pytest.mark.parametrize("backtrack", ["code_fixed_rank", "paper"])
def test_training_resumes_bit_for_bit(tmp_path: Path, backtrack: str) -> None:
    """What a step leaves to the next is in the checkpoint: trap 4 is not ours."""
    _, states = check_resuming(tmp_path, "stage.method=rbonn", f"stage.options.backtrack={backtrack}", "stage.options.tau=0.5")
    for name in states[0]["model"]:
        if name.endswith("memory"):
            assert any(bool(s["model"][name].any()) for s in states), name
        if name.endswith(".u"):
            assert any(bool((s["model"][name] != torch.tensor(0.2)).any()) for s in states), name


SCRIPT = """
import sys, warnings
import torch
from bitfold.methods.rbonn import RBONN
from bitfold.training.train import train
from tests.training.recipes import short

warnings.simplefilter('error')
kept = RBONN.after_step

def keep(self, model, progress):
    kept(self, model, progress)
    torch.save(model.state_dict(), f'{sys.argv[1]}.rank{torch.distributed.get_rank()}.pt')

RBONN.after_step = keep
train(short(*sys.argv[2].split()), sys.argv[1], accelerator='cpu', quiet=True)
"""


@pytest.mark.slow
def test_two_processes_backtrack_alike_and_as_one_does(tmp_path: Path) -> None:
    """Trap 2: with several processes the released code never backtracks. Two steps, the second with what the first left."""
    sets = ("stage.epochs=1", "model.options.width=4", "stage.method=rbonn", "stage.lr=0.02", "data.train_limit=80")
    (tmp_path / "script.py").write_text(SCRIPT)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    argv = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(tmp_path / "script.py")]
    done = subprocess.run([*argv, str(tmp_path / "two"), " ".join(sets)], env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks: list[dict[str, Tensor]] = [torch.load(tmp_path / f"two.rank{r}.pt") for r in (0, 1)]
    assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in ranks[0])
    train(short(*sets), tmp_path / "one", accelerator="cpu", quiet=True)
    one = state(tmp_path / "one")
    for name in one:
        if name.endswith("weight_quant.memory"):  # of the joined batch, not of half of it; a sign may fall the other way
            assert one[name].norm() > 0 and (ranks[0][name] - one[name]).norm() < 0.05 * one[name].norm(), name
        if name.endswith("weight_quant.u"):
            assert torch.allclose(ranks[0][name], one[name], rtol=0, atol=1e-5), name
    assert any(bool((t != t.flatten()[0]).any()) for name, t in ranks[0].items() if name.endswith("weight_quant.u"))


def test_refusals() -> None:
    for bad in ({"lam": -1.0}, {"tau": 0.0}, {"tau": 1.0}):
        with pytest.raises(ConfigError, match="allowed: lam >= 0"):
            get("rbonn", **bad)
