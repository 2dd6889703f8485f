"""The runs of a study as processes: planned, started a few at a time, watched, and each ended by one row.

A job is one process (``bitfold train --resume --json``) that trains and then measures, so that a crash, a refusal or a loss that is not
finite ends that run alone. A lock in the run's folder, inherited by the process, keeps a second command
from training the same run, even after the first one was killed and left its process behind.
"""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

from bitfold.bench import rows
from bitfold.bench.rows import Row
from bitfold.training.checkpoint import replace_atomic
from bitfold.training.recipe import Recipe
from bitfold.training.run import RECIPE, Run
from bitfold.training.study import StudyRow

ROW, LOG, LOCK = "row.jsonl", "train.log", "lock"
MEASURED = "measured.jsonl"  # what the process writes; with the study's words it becomes ROW
POLL_S = 0.25

State = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class Setting:
    """What all runs of one command share: ``parallel`` of them at once, each with ``threads`` CPU threads; the codes of the first
    ``verify_images`` test images are compared; ``eval_every``: epochs between evaluations on the test set in training."""

    data: Path | None
    accelerator: str
    parallel: int
    threads: int
    verify_images: int
    eval_every: int = 1

    def command(self, folder: Path) -> list[str]:
        """Trains, or goes on, in ``folder``; then writes its row."""
        train = ["train", str(folder / RECIPE), "--out", str(folder), "--resume", "--accelerator", self.accelerator]
        train += ["--eval-every", str(self.eval_every)]
        row = ["--json", str(folder / MEASURED), "--limit", str(self.verify_images)]
        data = ["--data", str(self.data)] if self.data is not None else []
        return [sys.executable, "-m", "bitfold", *train, *row, *data]

    def environment(self) -> dict[str, str]:
        compilers = str(max((os.cpu_count() or 1) // self.parallel, 1))  # of torch.compile; its own default is all cores for every run
        return {"TORCHINDUCTOR_COMPILE_THREADS": compilers, **os.environ, "OMP_NUM_THREADS": str(self.threads), "COLUMNS": "200"}


@dataclass(frozen=True)
class Origin:
    """The study and the protocol that a run belongs to: ``protocol`` in words, ``changes`` as given to --set."""

    study: str
    protocol: str
    changes: tuple[str, ...]


@dataclass
class Job:
    """One run of the study. ``recipe`` None: the row's changes were refused, ``reason`` says why."""

    row: StudyRow
    seed: int
    folder: Path
    recipe: Recipe | None
    origin: Origin
    teacher: "Job | None" = None
    state: State = "waiting"
    reason: str = ""
    seconds: float | None = None  # from the start of the process to its end
    _started: float = 0.0
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _lock: IO[str] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def doing(self) -> str:
        """In a word; a running one measures as soon as its training has finished."""
        return ("measuring" if Run.load(self.folder).finished else "training") if self.state == "running" else self.state

    @property
    def ready(self) -> bool:
        return self.state == "waiting" and (self.teacher is None or self.teacher.state in ("done", "failed"))

    def look(self) -> None:
        """The state that the folder shows before anything is started."""
        row = result(self.folder)
        if self.recipe is None:
            self.fail(self.reason)
        elif (self.folder / RECIPE).is_file() and Run.load(self.folder).recipe.hash != self.recipe.hash:
            self.fail(f"{self.folder} holds a run of another recipe; remove that folder, or choose another --out")
        elif row is not None and row.reason is None and Run.load(self.folder).finished:
            self.state = "done"

    def start(self, setting: Setting) -> None:
        """Starts the process, unless its teacher failed or another command has it already."""
        assert self.recipe is not None
        if self.teacher is not None and self.teacher.state == "failed":
            self.fail(f"its teacher {self.teacher.name} failed: {self.teacher.reason}")
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._close()
            self.state, self.reason = "failed", "another process is at work on this run"
            return
        recipe = self.recipe.toml().encode()
        if not (self.folder / RECIPE).is_file():
            replace_atomic(self.folder / RECIPE, lambda f: f.write(recipe))
        (self.folder / MEASURED).unlink(missing_ok=True)
        self.state, self._started = "running", time.monotonic()
        with (self.folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                setting.command(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=setting.environment(),
                pass_fds=(self._lock.fileno(),),
            )

    def poll(self) -> None:
        """Takes the result where the process has ended."""
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return
        self.seconds = time.monotonic() - self._started
        if code != 0:
            self.fail(_last_words(self.folder / LOG, code))
            return
        (row,) = rows.read(self.folder / MEASURED)
        self._keep(row)
        self.state, self.reason = ("done", "") if row.reason is None else ("failed", row.reason)
        self._close()

    def fail(self, reason: str) -> None:
        """Ends the job and keeps the reason as its row; a run of another recipe in its folder keeps its own row."""
        self.state, self.reason = "failed", reason
        self._close()
        if self.recipe is None or not (self.folder / RECIPE).is_file() or Run.load(self.folder).recipe.hash == self.recipe.hash:
            details = {"recipe_hash": self.recipe.hash} if self.recipe is not None else {}
            where: dict[str, Any] = {"bench": "", "subject": "", "contestant": "", "threads": 1, "batch": 1}
            self._keep(Row(**where, timing=None, reason=reason, details=details, **rows.stamp()))

    def _keep(self, row: Row) -> None:
        """Writes the run's row, with the study it belongs to."""
        published = asdict(self.row.published) if self.row.published is not None else None
        study = {"protocol": self.origin.protocol, "changes": list(self.origin.changes), "seed": self.seed, "published": published}
        details = {**row.details, "study": study}
        row = replace(row, bench="study", subject=self.origin.study, contestant=self.row.name, details=details)
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_atomic(self.folder / ROW, lambda f: f.write(rows.lines([row]).encode()))

    def stop(self) -> None:
        """Ends the process; the checkpoint stays."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def result(folder: Path) -> Row | None:
    """The row of a run that has ended, be it a failure; else None."""
    return rows.read(folder / ROW)[0] if (folder / ROW).is_file() else None


def run(jobs: Sequence[Job], setting: Setting, changed: Callable[[Job], None], shown: Callable[[], None]) -> None:
    """Runs all jobs that wait. ``changed`` hears of every start and end, ``shown`` is called a few times a second.
    Whatever interrupts it, no process is left behind."""
    active: list[Job] = []
    try:
        while True:
            for job in active:
                job.poll()
                if job.state != "running":
                    changed(job)
            active = [job for job in active if job.state == "running"]
            while len(active) < setting.parallel and any(job.ready for job in jobs):
                job = next(job for job in jobs if job.ready)
                job.start(setting)
                changed(job)
                if job.state == "running":
                    active.append(job)
            if not active:
                return
            shown()
            time.sleep(POLL_S)
    finally:
        for job in active:
            job.stop()


def _last_words(log: Path, code: int) -> str:
    """Why a process ended: the last line it printed."""
    if code < 0:
        return f"killed by signal {-code}"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("bitfold: ") if lines else f"exit code {code}"
