"""The folder of a run: recipe, facts, metrics, checkpoint and final weights; and how to get the trained network back from it."""

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import nn

import bitfold
from bitfold import models
from bitfold.errors import ConfigError, TrainingError
from bitfold.methods import get
from bitfold.methods._apply import apply
from bitfold.methods.base import Method
from bitfold.training.checkpoint import replace_atomic
from bitfold.training.recipe import Recipe, Stage, parse

RECIPE, FACTS, METRICS, CHECKPOINT, WEIGHTS = "recipe.toml", "run.json", "metrics.jsonl", "checkpoint.pt", "model.safetensors"

OF_A_START = ("started", "command", "commit", "versions", "machine", "processes", "device")  # what a resume may change


def make_method(stage: Stage, where: str) -> Method:
    """The stage's method; ConfigError names the recipe's key."""
    try:
        return get(stage.method, **stage.options)
    except ConfigError as e:
        raise ConfigError(f"{where}: {e}") from e


def build_model(recipe: Recipe, stage: int) -> nn.Module:
    """A new model as stage ``stage`` trains it: random weights, the method's quantisers in place."""
    spec = recipe.stage[stage]
    return apply(models.create(recipe.model.name, **recipe.model.options), make_method(spec, f"stage.{stage}"), spec.keep_float)


@dataclass(frozen=True)
class Run:
    """A finished (or interrupted) training run on disk."""

    path: Path

    @staticmethod
    def load(path: str | Path) -> "Run":
        """Raises ConfigError where ``path`` is not the folder of a run."""
        run = Run(Path(path))
        if not (run.path / RECIPE).is_file():
            raise ConfigError(f"{path} is not a run: there is no {RECIPE} in it; `bitfold train RECIPE --out {path}` makes one")
        return run

    @cached_property
    def recipe(self) -> Recipe:
        return parse((self.path / RECIPE).read_text(encoding="utf-8"), str(self.path / RECIPE))

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Seed, versions, machine, dates, command, data shape: what run.json holds."""
        facts: dict[str, Any] = json.loads((self.path / FACTS).read_text(encoding="utf-8"))
        return facts

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One row an epoch, in order."""
        file = self.path / METRICS
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []

    @property
    def finished(self) -> bool:
        return (self.path / WEIGHTS).is_file()

    def model(self) -> nn.Module:
        """The trained network in evaluation mode, on the CPU. Raises TrainingError while the run is not finished."""
        if not self.finished:
            raise TrainingError(
                f"{self.path} has no {WEIGHTS}: the run is not finished; `bitfold train {self.path / RECIPE} --resume` goes on"
            )
        model = build_model(self.recipe, len(self.recipe.stage) - 1)
        try:
            model.load_state_dict(load_file(self.path / WEIGHTS))
        except RuntimeError as e:
            raise TrainingError(f"{self.path / WEIGHTS} does not fit the recipe beside it: {e}") from e
        return model.eval()


def write_weights(path: Path, model: nn.Module) -> None:
    """All parameters and buffers as safetensors, atomically."""
    # copies, because safetensors refuses tensors that share memory
    data = save({name: t.detach().cpu().contiguous().clone() for name, t in model.state_dict().items()})
    replace_atomic(path, lambda f: f.write(data))


def write_json(path: Path, table: dict[str, Any]) -> None:
    data = (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()
    replace_atomic(path, lambda f: f.write(data))


def gather_facts(recipe: Recipe) -> dict[str, Any]:
    """What is needed to say later where a result comes from."""
    return {
        "recipe": recipe.name,
        "recipe_hash": recipe.hash,
        "seed": recipe.seed,
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": now(),
        "commit": _commit(),
        "versions": {
            "bitfold": bitfold.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # with the build: +cpu, +cu130
            **_versions("numpy", "lightning-fabric"),
        },
        "machine": {
            "system": platform.platform(),
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def after_resume(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """``facts`` of this start; where the folder has some of an earlier start, those, with this start added to their "resumes"."""
    if not (folder / FACTS).is_file():
        return facts
    first = Run(folder).facts
    again = {name: facts[name] for name in OF_A_START if name in facts}
    return {**first, "resumes": [*first.get("resumes", []), again]}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _commit() -> str | None:
    """The commit of the source tree that bitfold runs from, with "+changes" if tracked files differ; None for an installed package."""
    root = Path(bitfold.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode != 0:
        return None
    changed = subprocess.run([*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
