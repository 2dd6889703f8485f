"""Progress of a study's runs: a live table on a terminal, a line for every event and every minute elsewhere."""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bitfold.commands.jobs import Job, result
from bitfold.training.log import clock
from bitfold.training.run import METRICS

EVERY_S = 60.0  # between two lines where there is no terminal
LOOK_S = 1.0  # between two looks at the runs' files


@dataclass(frozen=True)
class Progress:
    """Of one run: epochs done and in all, the last test accuracy in per cent, seconds that are left."""

    done: int
    total: int
    accuracy: float | None
    left_s: float | None


class Watch:
    """Used as a context manager around ``jobs.run``."""

    def __init__(self, console: Console, jobs: Sequence[Job], parallel: int) -> None:
        self._console, self._jobs, self._parallel = console, jobs, parallel
        self._live = Live(console=console, refresh_per_second=2) if console.is_terminal else None
        self._last = time.monotonic()

    def __enter__(self) -> "Watch":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.update(Text(""))
            self._live.stop()

    def changed(self, job: Job) -> None:
        """A line for a run that begins or ends."""
        if job.state == "failed":
            self._print(f"{job.name}: failed: {job.reason}")
        elif job.state == "done":
            row = result(job.folder)
            assert row is not None
            self._print(f"{job.name}: {row.details['accuracy']:.2f} %, trained in {clock(row.details['train_seconds'])}")
        elif self._live is None:
            self._print(f"{job.name}: {job.doing}")

    def shown(self) -> None:
        """Draws what runs now, if it is time for it."""
        now = time.monotonic()
        if now - self._last < (LOOK_S if self._live is not None else EVERY_S):
            return
        self._last = now
        running = [(job, progress(job)) for job in self._jobs if job.state == "running"]
        head = self._head(running)
        if self._live is not None:
            self._live.update(Group(Text(head), _table(running)))
            return
        self._print(head)
        for job, p in running:
            self._print("  " + "  ".join(_cells(job, p)))

    def _head(self, running: Sequence[tuple[Job, Progress]]) -> str:
        counts = {state: sum(job.state == state for job in self._jobs) for state in ("done", "failed", "waiting")}
        words = f"{counts['done']} of {len(self._jobs)} runs done, {counts['failed']} failed, {counts['waiting']} waiting"
        left = self._left(running, counts["waiting"])
        return words + (f"; about {clock(left)} left" if left is not None else "")

    def _left(self, running: Sequence[tuple[Job, Progress]], waiting: int) -> float | None:
        """Seconds until the end, from the runs that have shown their pace."""
        left = [p.left_s for _, p in running if p.left_s is not None]
        whole = [job.seconds for job in self._jobs if job.state == "done" and job.seconds is not None]
        if not whole:  # then from the pace of the running ones, without what measuring takes
            whole = [p.left_s * p.total / (p.total - p.done) for _, p in running if p.left_s is not None and p.done < p.total]
        if not left and not whole:
            return None
        return max(max(left, default=0.0), (sum(left) + waiting * (statistics.fmean(whole) if whole else 0.0)) / self._parallel)

    def _print(self, words: str) -> None:
        self._console.print(words, soft_wrap=True, highlight=False, markup=False)


def progress(job: Job) -> Progress:
    """From the run's metrics; the last line may be half written and is then left for the next look."""
    assert job.recipe is not None
    total = sum(stage.epochs for stage in job.recipe.stage)
    found: list[dict[str, Any]] = []
    file = job.folder / METRICS
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    if not found:
        return Progress(0, total, None, None)
    pace = statistics.median(row["seconds"] for row in found)
    accuracy = next((row["test_accuracy"] for row in reversed(found) if "test_accuracy" in row), None)
    return Progress(len(found), total, accuracy, pace * (total - len(found)))


def _table(running: Sequence[tuple[Job, Progress]]) -> RenderableType:
    table = Table("run", "", "epoch", "test accuracy", "left", box=None, pad_edge=False)
    for job, p in running:
        table.add_row(*_cells(job, p))
    return table


def _cells(job: Job, p: Progress) -> list[str]:
    accuracy = f"{p.accuracy:.2f} %" if p.accuracy is not None else ""
    left = clock(p.left_s) if p.left_s is not None and job.doing == "training" else ""
    return [job.name, job.doing, f"{p.done}/{p.total}", accuracy, left]
