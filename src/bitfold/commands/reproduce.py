"""``bitfold reproduce``: runs a study's rows, and draws the table of what their folders hold."""

import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bitfold.bench import rows
from bitfold.bench.rows import Row
from bitfold.commands.jobs import Job, Origin, Setting, result, run
from bitfold.commands.watch import Watch
from bitfold.errors import ConfigError
from bitfold.report.scores import Entry, Figure, Scores, cells, gather, markdown
from bitfold.report.study import render
from bitfold.training.checkpoint import replace_atomic
from bitfold.training.study import FULL, Study, StudyRow

RESULTS, MARKDOWN, PAGE = "results.jsonl", "table.md", "table.html"


@dataclass(frozen=True)
class Request:
    """What to run of a study. ``epochs`` None: as the protocol says. ``seeds``: so many, from ``first_seed`` on. ``changes``: further --set
    for every row."""

    study: Study
    protocol: str = FULL
    rows: Sequence[str] | None = None
    epochs: int | None = None
    seeds: int = 1
    first_seed: int = 0
    changes: tuple[str, ...] = ()
    out: Path | None = None

    @property
    def folder(self) -> Path:
        """Of all runs; other epochs or another protocol make another folder."""
        if self.out is not None:
            return self.out
        parts = [self.study.name, self.protocol if self.protocol != FULL else "", f"{self.epochs}ep" if self.epochs is not None else ""]
        return Path("runs") / "-".join(part for part in parts if part)

    @property
    def words(self) -> str:
        """The protocol in a few words."""
        return self.protocol + (f", {self.epochs} epochs" if self.epochs is not None else "")

    def jobs(self) -> list[Job]:
        """The runs that are asked for and the teachers they need, teachers first; each knows what its folder already holds."""
        chosen = self.study.find(self.rows)
        teachers = self.study.find([row.follows for row in chosen if row.follows is not None])
        made = {(row.name, 0): self._job(row, 0, None) for row in teachers}
        for seed in range(self.first_seed, self.first_seed + self.seeds):
            for row in chosen:
                teacher = made[row.follows, 0] if row.follows is not None else None
                made.setdefault((row.name, seed), self._job(row, seed, teacher))
        for job in made.values():
            job.look()
        return list(made.values())

    def _job(self, row: StudyRow, seed: int, teacher: Job | None) -> Job:
        folder = self.folder / f"{row.name}-seed{seed}"
        origin = Origin(self.study.name, self.words, self.changes)
        try:
            followed = teacher.folder if teacher is not None else None
            recipe = self.study.recipe(row, seed, self.protocol, self.epochs, self.changes, followed)
        except ConfigError as e:
            return Job(row, seed, folder, None, origin, reason=str(e))
        return Job(row, seed, folder, recipe, origin, teacher)


def reproduce(request: Request, setting: Setting, console: Console) -> bool:
    """Runs what is not finished, keeps results.jsonl, table.md and table.html up to date; True where nothing failed."""
    score(request, collect(request))  # refuses a folder with runs of another protocol before anything is started
    jobs = request.jobs()
    done = sum(job.state == "done" for job in jobs)
    console.print(f"{request.study.title}: {len(jobs)} runs in {request.folder}, {done} of them done", soft_wrap=True)
    watch = Watch(console, jobs, setting.parallel)

    def changed(job: Job) -> None:
        watch.changed(job)
        if job.state != "running":
            write(request, collect(request))

    for job in jobs:
        if job.state == "failed":
            watch.changed(job)
    with watch, _terminable():
        run(jobs, setting, changed, watch.shown)
    draw(request, collect(request), console)
    return not any(job.state == "failed" for job in jobs)


def collect(request: Request) -> list[Row]:
    """The rows of all runs of the study that the folder holds, whatever was asked for this time."""
    found = []
    for row in request.study.row:
        for folder in sorted(request.folder.glob(f"{row.name}-seed*")):
            measured = result(folder)
            if re.fullmatch(re.escape(row.name) + r"-seed\d+", folder.name) and measured is not None:
                found.append(measured)
    return found


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM (a time limit) ends the processes of the runs, too: inside it raises SystemExit."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def write(request: Request, found: Sequence[Row]) -> Scores:
    """results.jsonl, table.md and table.html in the study's folder."""
    scores = score(request, found)
    request.folder.mkdir(parents=True, exist_ok=True)
    made = {RESULTS: rows.lines(found), MARKDOWN: markdown(scores), PAGE: render(scores)}
    for name, text in made.items():
        _write(request.folder / name, text)
    return scores


def _write(path: Path, text: str) -> None:
    replace_atomic(path, lambda f: f.write(text.encode()))


def score(request: Request, found: Sequence[Row]) -> Scores:
    """The rows under the study's names, figures and words. Raises ConfigError for a row of another study or protocol."""
    study, asked = request.study, (request.words, list(request.changes))
    by_row: dict[str, list[Row]] = {row.name: [] for row in study.row}
    for one in found:
        if one.subject != study.name or one.contestant not in by_row:
            raise ConfigError(f"row {one.contestant!r} of study {one.subject!r} is not one of study {study.name}")
        has = one.details["study"]
        if (has["protocol"], has["changes"]) != asked:
            raise ConfigError(
                f"row {one.contestant}, seed {has['seed']}, is of protocol {has['protocol']} with changes {has['changes']}; asked for was "
                f"{asked[0]} with {asked[1]}: choose another --out, or the same --protocol, --epochs and --set"
            )
        by_row[one.contestant].append(one)
    entries = []
    for row in study.row:
        figure = Figure(row.published.accuracy, row.published.source, row.published.difference) if row.published is not None else None
        entries.append(Entry(row.name, tuple(by_row[row.name]), row.group, row.note, figure, row.reference))
    protocol = study.variant(request.protocol).description
    lead = study.description + (f" Protocol {request.words}: {protocol}" if request.protocol != FULL else "")
    if request.protocol == FULL and request.epochs is not None:
        lead += f" Here: {request.epochs} epochs."
    return gather(study.title, lead, entries, study.baseline)


def draw(request: Request, found: Sequence[Row], console: Console) -> None:
    """Writes the tables and prints the short one."""
    scores = write(request, found)
    shown = Table("", "accuracy %", "gain", "published %", "note", box=None, pad_edge=False)
    for entry in scores.entries:
        name, accuracy, gain, published, *_, note = cells(entry, scores)
        shown.add_row(name, accuracy, gain, published, note)
    console.print(shown)
    for words in scores.failures:
        console.print(f"failed: {words}", soft_wrap=True)
    console.print(f"{request.folder}: {RESULTS}, {MARKDOWN} and {PAGE} written", soft_wrap=True)


def redraw(request: Request, files: Sequence[Path], console: Console) -> None:
    """The tables from kept rows of one or more results.jsonl, into the request's folder; nothing is trained.

    Protocol, epochs and changes are those of the rows where the request names none.
    """
    found = [row for file in files for row in rows.read(file)]
    if found and found[0].bench == "study" and (request.words, request.changes) == (FULL, ()):
        made = found[0].details["study"]
        protocol, _, epochs = made["protocol"].partition(", ")
        request = replace(request, protocol=protocol, epochs=int(epochs.split()[0]) if epochs else None, changes=tuple(made["changes"]))
    draw(request, found, console)


def listing(request: Request) -> list[dict[str, Any]]:
    """One line a run: what is to be changed, and how far it has come."""
    shown = []
    for job in request.jobs():
        state = job.state if job.state != "failed" else f"failed: {job.reason}"
        shown.append({"row": job.row.name, "seed": job.seed, "state": state, "set": " ".join(job.row.set)})
    return shown
