"""``bitfold.train``: runs a recipe's stages on CPU or GPU, alone or as one of several processes (``torchrun``)."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn

from bitfold.data import Loader
from bitfold.errors import ConfigError, TrainingError
from bitfold.layers.layout import keep_channels_last, memory_format
from bitfold.methods._taps import Taps
from bitfold.methods.base import Features, Forward, Method
from bitfold.tasks.classification import Totals, cross_entropy, distill
from bitfold.training import checkpoint
from bitfold.training.evaluate import count
from bitfold.training.flips import flip_rates, weight_codes
from bitfold.training.loaders import data_facts, test_loader, train_loader
from bitfold.training.log import Log
from bitfold.training.nonfinite import locate
from bitfold.training.optim import Average, Optimizers
from bitfold.training.recipe import Recipe, Stage
from bitfold.training.run import (
    CHECKPOINT,
    FACTS,
    RECIPE,
    WEIGHTS,
    Run,
    after_resume,
    build_model,
    gather_facts,
    make_method,
    now,
    write_json,
    write_weights,
)
from bitfold.training.schedule import lr_factor, progress
from bitfold.training.state import State, carry_over
from bitfold.training.sync_bn import synchronise


@dataclass(frozen=True)
class _Job:
    """What stays the same for the whole run."""

    recipe: Recipe
    folder: Path
    fabric: Fabric
    train: Loader
    test: Loader
    teacher: nn.Module | None
    log: Log
    checkpoint_steps: int
    eval_every: int


def train(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    data: str | Path | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    checkpoint_steps: int = 500,
    eval_every: int = 1,
    quiet: bool = False,
) -> Run:
    """Trains ``recipe`` and returns its run.

    ``out``: folder of the run (default ``runs/<recipe name>``). ``resume``: go on after the last checkpoint, or begin if there is none;
    on a CPU the result is then the same, bit for bit, as that of an uninterrupted run. ``data``: folder of data sets (default
    ``BITFOLD_DATA``). ``accelerator``/``devices``: as for Lightning Fabric; under ``torchrun`` every process takes its share of each batch.
    ``checkpoint_steps``: optimiser steps between checkpoints, besides the one after each epoch. ``eval_every``: epochs between
    evaluations on the test set; the last epoch of a stage is always evaluated. Raises ConfigError, DataError, TrainingError.
    """
    folder = Path(out) if out is not None else Path("runs") / recipe.name
    fabric = _make_fabric(accelerator, devices)
    saved = _prepare(recipe, folder, resume, fabric)
    if (folder / WEIGHTS).is_file():
        return Run.load(folder)
    for i, stage in enumerate(recipe.stage):
        method = make_method(stage, f"stage.{i}")  # every mistake in a method's options shows before the first epoch
        if method.needs_teacher and recipe.teacher is None:
            raise ConfigError(
                f"stage.{i}: method {stage.method!r} with these options needs a teacher; train its float network and set "
                "teacher.run=FOLDER teacher.weight=0"
            )
    batches = train_loader(recipe, data, fabric.device, fabric.global_rank, fabric.world_size)
    tests = test_loader(recipe, data, fabric.device)
    if fabric.global_rank == 0:
        facts = {"data": data_facts(batches), "processes": fabric.world_size, "device": str(fabric.device)}
        write_json(folder / FACTS, after_resume(folder, {**gather_facts(recipe), **facts}))
    console = None if quiet or fabric.global_rank else Console(stderr=True)
    log = Log(folder, saved["rows"] if saved else 0, console, active=fabric.global_rank == 0)
    teacher = Run.load(recipe.teacher.run).model().to(fabric.device) if recipe.teacher is not None else None
    job = _Job(recipe, folder, fabric, batches, tests, teacher, log, checkpoint_steps, eval_every)
    with log:
        _run_stages(job, saved)
    return Run.load(folder)


def _make_fabric(accelerator: str, devices: int) -> Fabric:
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun started this process and says how many there are
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
    strategy = "ddp" if devices > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1 else "auto"
    fabric = Fabric(accelerator=accelerator, devices=devices, strategy=strategy)
    fabric.launch()
    return fabric


def _prepare(recipe: Recipe, folder: Path, resume: bool, fabric: Fabric) -> dict[str, Any] | None:
    """Makes the folder or checks the one to resume; returns the last checkpoint, if there is one."""
    exists = (folder / RECIPE).is_file()
    fabric.barrier()
    if exists and not resume:
        raise ConfigError(f"{folder} already holds a run; resume it (--resume) or choose another folder (--out)")
    if exists and Run.load(folder).recipe.hash != recipe.hash:
        raise ConfigError(
            f"{folder / RECIPE} differs from the recipe to resume; give that file itself, with the same --set, or another --out"
        )
    if fabric.global_rank == 0 and not exists:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.replace_atomic(folder / RECIPE, lambda f: f.write(recipe.toml().encode()))
    fabric.barrier()
    return checkpoint.load(folder / CHECKPOINT) if (folder / CHECKPOINT).is_file() else None


def _run_stages(job: _Job, saved: dict[str, Any] | None) -> None:
    """All stages that are left, then the final weights."""
    first = saved["stage"] if saved is not None else 0
    model: nn.Module | None = None
    for i in range(first, len(job.recipe.stage)):
        model = _train_stage(job, i, model, saved if i == first else None)
    assert model is not None
    if job.fabric.global_rank == 0:
        facts = Run.load(job.folder).facts
        write_json(job.folder / FACTS, {**facts, "finished": now(), "result": Run.load(job.folder).metrics[-1]})
        write_weights(job.folder / WEIGHTS, model)
    job.fabric.barrier()


def _train_stage(job: _Job, index: int, previous: nn.Module | None, saved: dict[str, Any] | None) -> nn.Module:
    """Trains one stage from the start or from a checkpoint; returns its model."""
    stage, fabric = job.recipe.stage[index], job.fabric
    torch.manual_seed(1000 * job.recipe.seed + index)
    model = build_model(job.recipe, index)
    if previous is not None and saved is None and stage.init == "previous":
        carry_over(previous.state_dict(), model, stage.init_except, f"stage.{index}")
    model = model.to(fabric.device, memory_format=memory_format(fabric.device, stage.compile))  # type: ignore[call-overload]
    if not stage.compile:
        keep_channels_last(model)
    if fabric.world_size > 1:
        synchronise(model)
        torch.manual_seed(1000 * job.recipe.seed + index + 7919 * (fabric.global_rank + 1))  # dropout differs between processes
    method = make_method(stage, f"stage.{index}")
    average = Average(model, stage.ema) if stage.ema is not None else None
    state = State(index, model, Optimizers(stage, method, model), average, weight_codes(model))
    if saved is not None:
        state.restore(fabric, saved)
    paths = method.taps(model)
    taps = Taps(model, paths, f"stage.{index}, method {stage.method!r}")
    teacher_taps = Taps(job.teacher, paths, f"stage.{index}, teacher") if job.teacher is not None else None
    network = fabric.setup_module(torch.compile(model) if stage.compile else model)
    step = _Step(job, stage, method, state, network, taps, teacher_taps)
    job.log.stage(f"stage {index + 1}/{len(job.recipe.stage)} {stage.method}", stage.epochs, state.step // len(job.train), len(job.train))
    while state.step < stage.epochs * len(job.train):
        _train_epoch(job, stage, state, step)
    for used in (taps, teacher_taps):
        if used is not None:
            used.remove()
    if average is not None:
        average.swap(model)
    return model


def _train_epoch(job: _Job, stage: Stage, state: State, step: Callable[[Tensor, Tensor], float]) -> None:
    """The rest of the present epoch, its evaluation, row and checkpoint."""
    steps = len(job.train)
    epoch, begin = divmod(state.step, steps)
    clock = _Clock(state)
    state.model.train()
    norm = 0.0
    earlier = sum(s.epochs for s in job.recipe.stage[: state.stage])
    for i, (x, y, _) in enumerate(job.train.epoch(earlier + epoch, begin), begin):
        norm = step(x, y)
        job.log.batch(i + 1)
        if state.step % job.checkpoint_steps == 0 and i + 1 < steps:
            clock.tick()
            _save(job, state)
    row: dict[str, Any] = {
        "stage": state.stage,
        "epoch": epoch + 1,
        "lr": stage.lr * lr_factor(stage, state.step - 1, steps),
        "grad_norm": norm,
    }
    row |= {f"train_{k}": v for k, v in _reduced(job.fabric, state.totals).items() if k in ("loss", "accuracy")}
    if (epoch + 1) % job.eval_every == 0 or epoch + 1 == stage.epochs:
        row |= {f"test_{k}": v for k, v in _evaluate(job, state).items() if k != "count"}
    codes = weight_codes(state.model)
    rates = flip_rates(state.codes, codes)
    if rates:
        row |= {"flip_rate": rates.pop(""), "flips": rates}
    clock.tick()
    row["seconds"] = round(state.epoch_seconds, 3)
    state.codes, state.totals, state.epoch_seconds = codes, Totals(), 0.0
    job.log.epoch(row, state.seconds / (epoch + 1) * (stage.epochs - epoch - 1))
    _save(job, state)


@dataclass
class _Step:
    """One optimiser step of a stage."""

    job: _Job
    stage: Stage
    method: Method
    state: State
    network: nn.Module  # the state's model, possibly compiled and wrapped for several processes
    taps: Taps
    teacher_taps: Taps | None

    def __post_init__(self) -> None:
        self.parameters = [p for g in self.state.optimizer.param_groups for p in g["params"]]
        self.total_steps = self.stage.epochs * len(self.job.train)

    def __call__(self, x: Tensor, y: Tensor) -> float:
        """Trains on one batch; returns the norm of the gradient before clipping."""
        state, stage, steps = self.state, self.stage, len(self.job.train)
        at = progress(stage, state.step, steps)
        self.method.before_step(state.model, at)
        state.optimizer.set_lr(lr_factor(stage, state.step, steps), at)
        loss, outputs = self.loss(self.network, x, y)
        self.job.fabric.backward(loss)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        value = float(norm)
        if not torch.isfinite(norm + loss.detach()):
            self._stop(x, y)
        if stage.grad_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, stage.grad_clip, norm)
        self.method.after_backward(state.model, at)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step += 1
        self.method.after_step(state.model, progress(stage, state.step, steps))
        if state.average is not None:
            state.average.update(state.model)
        state.totals.add(outputs.detach(), y, loss)
        return value

    def loss(self, network: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, outputs) of one batch."""
        spec = self.job.recipe.teacher
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.stage.precision == "bf16"):
            outputs = network(x)
            target = None
            if self.job.teacher is not None:
                with torch.no_grad():
                    target = self.job.teacher(x)
        task_loss = cross_entropy(outputs, y, self.stage.label_smoothing)
        if spec is not None and target is not None:
            task_loss = distill(task_loss, outputs, target, spec.weight, spec.temperature)
        seen = Features(self.taps.values, self.teacher_taps.values if self.teacher_taps is not None else {})
        return self.method.loss(self.state.model, Forward((x, y), outputs, target, task_loss, seen)), outputs

    def _stop(self, x: Tensor, y: Tensor) -> None:
        self.state.optimizer.zero_grad()
        where = locate(self.state.model, lambda: self.loss(self.state.model, x, y)[0])
        epoch, i = divmod(self.state.step, len(self.job.train))
        raise TrainingError(
            f"stage {self.state.stage}, epoch {epoch + 1}, batch {i + 1}: the loss or its gradient is not finite; it began in {where}. "
            "Try a lower lr, grad_clip or warmup_epochs; the last checkpoint is from before this step"
        )


class _Clock:
    """Adds the time since the last tick to the state."""

    def __init__(self, state: State) -> None:
        self.state, self.last = state, time.perf_counter()

    def tick(self) -> None:
        now_s = time.perf_counter()
        self.state.seconds += now_s - self.last
        self.state.epoch_seconds += now_s - self.last
        self.last = now_s


def _evaluate(job: _Job, state: State) -> dict[str, Any]:
    """Metrics on the whole test set: every process takes each world_size-th batch. With the averaged weights where there are some."""
    if state.average is not None:
        state.average.swap(state.model)
    batches = (job.test.batch(0, i) for i in range(job.fabric.global_rank, len(job.test), job.fabric.world_size))
    totals = count(state.model, batches)
    if state.average is not None:
        state.average.swap(state.model)
    return _reduced(job.fabric, totals)


def _reduced(fabric: Fabric, totals: Totals) -> dict[str, Any]:
    sums = fabric.all_reduce(totals.sums.to(fabric.device), reduce_op="sum")
    assert isinstance(sums, Tensor)
    return Totals(sums).result()


def _save(job: _Job, state: State) -> None:
    table = {"recipe": job.recipe.hash, **state.to_checkpoint(job.fabric, job.log.rows)}
    if job.fabric.global_rank == 0:
        checkpoint.save_atomic(job.folder / CHECKPOINT, table)
