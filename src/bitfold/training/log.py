"""What a run tells while it runs: rows of metrics.jsonl, TensorBoard events, and a progress bar or one line an epoch."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from bitfold.training.checkpoint import replace_atomic
from bitfold.training.run import METRICS


class Log:
    """Used as a context manager. ``rows``: how many rows of an earlier part of this run stay; later ones are dropped and trained again.
    ``active``: False in all processes but the first, which then only count."""

    def __init__(self, folder: Path, rows: int, console: Console | None, *, active: bool) -> None:
        self._file, self._active, self._console = folder / METRICS, active, console
        self.rows = rows
        if active:
            old = self._file.read_text(encoding="utf-8").splitlines(keepends=True) if self._file.is_file() else []
            replace_atomic(self._file, lambda f: f.write("".join(old[:rows]).encode()))
            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=rows + 1)
        self._bars = _progress(console) if console is not None and console.is_terminal else None
        self._epochs: TaskID | None = None
        self._batches: TaskID | None = None

    def __enter__(self) -> "Log":
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()
        if self._active:
            self._events.close()

    def stage(self, title: str, epochs: int, epochs_done: int, steps_per_epoch: int) -> None:
        """A stage begins, or goes on after ``epochs_done`` epochs."""
        if self._bars is not None:
            for task in (self._epochs, self._batches):
                if task is not None:
                    self._bars.remove_task(task)
            self._epochs = self._bars.add_task(title, total=epochs, completed=epochs_done, note="")
            self._batches = self._bars.add_task("batches", total=steps_per_epoch, note="")
        elif self._console is not None:
            self._console.print(f"{title}: {epochs} epochs of {steps_per_epoch} steps", highlight=False, soft_wrap=True)

    def batch(self, done: int) -> None:
        """``done`` batches of the present epoch are through."""
        if self._bars is not None and self._batches is not None:
            self._bars.update(self._batches, completed=done)

    def epoch(self, row: dict[str, Any], seconds_left: float) -> None:
        """Stores the epoch's row and shows it."""
        self.rows += 1
        if not self._active:
            return
        with open(self._file, "a", encoding="utf-8") as f:
            f.write(json.dumps(row) + "\n")
        for name, value in row.items():
            if isinstance(value, int | float):
                self._events.add_scalar(name, value, self.rows)
        self._events.flush()
        if self._bars is not None and self._epochs is not None:
            self._bars.update(self._epochs, completed=row["epoch"], note=_note(row))
        elif self._console is not None:
            self._console.print(
                f"epoch {row['epoch']:>3}  {_note(row)}  {row['seconds']:.1f} s, {clock(seconds_left)} left",
                highlight=False,
                soft_wrap=True,
            )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def _note(row: dict[str, Any]) -> str:
    parts = [f"lr {row['lr']:.3g}", f"train {row['train_loss']:.4f} {row['train_accuracy']:.2f} %"]
    if "test_accuracy" in row:
        parts.append(f"test {row['test_loss']:.4f} {row['test_accuracy']:.2f} %")
    if "flip_rate" in row:
        parts.append(f"flips {100 * row['flip_rate']:.2f} %")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """h:mm:ss"""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}"
