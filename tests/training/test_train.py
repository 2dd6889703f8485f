"""The loop on digits: what a run leaves behind, stages, averaging, options."""

import json
from pathlib import Path

import pytest
import torch
from tests.training.recipes import TWO_STAGES, short, state
from torch import nn

from bitfold.errors import ConfigError, TrainingError
from bitfold.training.evaluate import evaluate
from bitfold.training.loaders import test_loader as make_test_loader
from bitfold.training.run import Run
from bitfold.training.state import carry_over
from bitfold.training.train import train


def test_a_run_folder_is_complete_and_repeats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = short("stage.compile=false", "data.train_limit=120")
    run = train(recipe, tmp_path / "a", accelerator="cpu")
    assert {p.name for p in run.path.iterdir()} == {
        "recipe.toml",
        "run.json",
        "metrics.jsonl",
        "checkpoint.pt",
        "model.safetensors",
        "tensorboard",
    }
    assert run.recipe == recipe and run.finished
    rows = run.metrics
    assert [r["epoch"] for r in rows] == [1, 2] and rows[0]["lr"] > rows[1]["lr"]
    assert set(rows[0]["flips"]) == {f"blocks.{i}.conv" for i in range(5)} and 0 < rows[0]["flip_rate"] < 1
    assert rows[-1]["test_accuracy"] == evaluate(run.model(), make_test_loader(recipe, None))["accuracy"]
    facts = json.loads((run.path / "run.json").read_text())
    assert facts["seed"] == 5 and facts["recipe_hash"] == recipe.hash and facts["data"]["input_shape"] == [1, 8, 8]
    assert facts["result"] == rows[-1] and facts["versions"]["torch"] == torch.__version__ and facts["machine"]["cpu"]
    assert any(p.name.startswith("events") for p in (run.path / "tensorboard").iterdir())
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 3 and "epoch   2" in printed[2] and "flips" in printed[2]  # not a terminal: one line an epoch
    with pytest.raises(ConfigError, match="already holds a run"):
        train(recipe, tmp_path / "a")
    with pytest.raises(ConfigError, match="differs from the recipe to resume"):
        train(short("seed=1"), tmp_path / "a", resume=True, accelerator="cpu")
    assert train(recipe, tmp_path / "a", resume=True, accelerator="cpu").path == run.path  # finished: nothing to do
    again = train(recipe, tmp_path / "b", accelerator="cpu", quiet=True, eval_every=2)  # looks at the test set change nothing
    assert ["test_accuracy" in r for r in again.metrics] == [False, True]
    assert (again.path / "model.safetensors").read_bytes() == (run.path / "model.safetensors").read_bytes()


def test_stages_hand_their_weights_on(tmp_path: Path) -> None:
    recipe = short("data.train_limit=40", "stage.0.epochs=1", "stage.1.lr=1e-12", text=TWO_STAGES)
    with pytest.raises(ConfigError, match=r"stage.1.init = 'previous': 22 tensors do not match .*act1.*init_except"):
        train(short("data.train_limit=40", "stage.1.method=adabin", text=TWO_STAGES), tmp_path / "x", accelerator="cpu", quiet=True)
    run = train(recipe, tmp_path / "a", accelerator="cpu", quiet=True)
    assert [r["stage"] for r in run.metrics] == [0, 1]
    fresh = train(
        short("data.train_limit=40", "stage.0.epochs=1", "stage.1.lr=1e-12", "stage.1.init=scratch", text=TWO_STAGES),
        tmp_path / "b",
        accelerator="cpu",
        quiet=True,
    )
    first = train(short("data.train_limit=40", "stage.epochs=1", "stage.method=float"), tmp_path / "c", accelerator="cpu", quiet=True)
    key = "blocks.0.conv.weight"
    assert torch.allclose(state(run.path)[key], state(first.path)[key], atol=1e-6)
    assert not torch.allclose(state(fresh.path)[key], state(first.path)[key], atol=1e-3)


def test_carry_over_names_what_differs() -> None:
    old, new = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2), nn.PReLU())
    before = new[1].weight.clone()
    with pytest.raises(ConfigError, match=r"1\.weight: shape \(1, 3\) before, \(2, 3\) now.*init_except"):
        carry_over(old.state_dict(), new, ("2.*",), "stage.1")
    carry_over(old.state_dict(), new, ("2.*", "1.*"), "stage.1")
    assert torch.equal(new[0].weight, old[0].weight) and torch.equal(new[1].weight, before)


def test_ema_keeps_the_average(tmp_path: Path) -> None:
    plain = train(short("data.train_limit=80", "stage.epochs=1"), tmp_path / "a", accelerator="cpu", quiet=True)
    averaged = train(short("data.train_limit=80", "stage.epochs=1", "stage.ema=0.5"), tmp_path / "b", accelerator="cpu", quiet=True)
    key = "linear.weight"
    assert not torch.equal(state(plain.path)[key], state(averaged.path)[key])
    accuracy = evaluate(averaged.model(), make_test_loader(averaged.recipe, None))["accuracy"]
    assert averaged.metrics[-1]["test_accuracy"] == accuracy


def test_bf16_grad_clip_and_teacher_run(tmp_path: Path) -> None:
    teacher = train(short("data.train_limit=80", "stage.epochs=1", "stage.method=float"), tmp_path / "t", accelerator="cpu", quiet=True)
    sets = ["data.train_limit=80", "stage.epochs=1", "stage.precision=bf16", "stage.grad_clip=0.5", "stage.label_smoothing=0.1"]
    sets += [f"teacher.run={teacher.path}", "teacher.weight=0.5", "teacher.temperature=2.0"]
    run = train(short(*sets), tmp_path / "s", accelerator="cpu", quiet=True, eval_every=5)
    assert run.metrics[-1]["train_loss"] > 0 and "test_accuracy" in run.metrics[-1]


def test_unfinished_and_broken_runs_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no recipe\.toml in it"):
        Run.load(tmp_path)
    (tmp_path / "recipe.toml").write_text(short().toml())
    with pytest.raises(TrainingError, match="not finished"):
        Run.load(tmp_path).model()
    (tmp_path / "checkpoint.pt").write_bytes(b"junk")
    with pytest.raises(TrainingError, match="cannot be read"):
        train(short(), tmp_path, resume=True, accelerator="cpu", quiet=True)


def test_mistakes_show_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage\.0: .*'maxuot'.*'maxout'"):
        train(short("stage.options.maxuot=true"), tmp_path / "a", accelerator="cpu", quiet=True)
    with pytest.raises(ConfigError, match="num_classes = 3, but digits has 10"):
        train(short("model.options.num_classes=3"), tmp_path / "b", accelerator="cpu", quiet=True)
