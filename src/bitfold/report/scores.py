"""The table of a study: rows of ``bitfold.bench.rows`` gathered into one entry a method, with mean and spread over the seeds."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bitfold.bench.rows import Row
from bitfold.errors import ConfigError


@dataclass(frozen=True)
class Figure:
    """A published accuracy in per cent, where it stands, and how its protocol differs."""

    accuracy: float
    source: str
    difference: str


@dataclass(frozen=True)
class Score:
    """Mean and standard deviation (n - 1 in the denominator; None of one value)."""

    mean: float
    std: float | None
    n: int

    @staticmethod
    def of(values: Iterable[float]) -> "Score | None":
        """None of no values."""
        xs = list(values)
        return Score(statistics.fmean(xs), statistics.stdev(xs) if len(xs) > 1 else None, len(xs)) if xs else None

    def text(self, sign: bool = False) -> str:
        mean = f"{self.mean:+.2f}" if sign else f"{self.mean:.2f}"
        return mean if self.std is None else f"{mean} \N{PLUS-MINUS SIGN} {self.std:.2f}"


@dataclass(frozen=True)
class Entry:
    """A row of the study: ``rows`` are its runs, one a seed, failures included. ``reference``: shown, but no contestant."""

    name: str
    rows: tuple[Row, ...]
    group: str = ""
    note: str = ""
    published: Figure | None = None
    reference: bool = False

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The details of the runs that did not fail."""
        return [row.details for row in self.rows if row.reason is None]

    @property
    def failures(self) -> list[str]:
        """One line a reason, with the seeds it ended."""
        seeds: dict[str, list[str]] = {}
        for row in self.rows:
            if row.reason is not None:
                seeds.setdefault(row.reason, []).append(str(row.details["study"]["seed"]))
        return [f"{self.name}, seed {', '.join(each)}: {reason}" for reason, each in seeds.items()]

    @property
    def by_seed(self) -> dict[int, float]:
        """Accuracy of the engine."""
        return {run["study"]["seed"]: run["accuracy"] for run in self.runs}

    @property
    def accuracy(self) -> Score | None:
        return Score.of(self.by_seed.values())

    def mean(self, *path: str) -> float | None:
        """Mean over the runs of one number of their details."""
        values = [_inside(run, path) for run in self.runs]
        return statistics.fmean(values) if values else None

    def total(self, *path: str) -> int:
        return sum(_inside(run, path) for run in self.runs)

    @property
    def latency_us(self) -> float | None:
        """Median of one image in the engine, one thread; of several seeds the least disturbed."""
        return min((row.timing.median_us for row in self.rows if row.timing is not None), default=None)

    def gain(self, base: "Entry") -> Score | None:
        """Over ``base``, paired by seed; None where no seed ran in both."""
        return Score.of(self.by_seed[seed] - base.by_seed[seed] for seed in self.by_seed if seed in base.by_seed)


@dataclass(frozen=True)
class Scores:
    """All entries of one protocol, best first within each group; ``missing``: rows that have no run yet."""

    title: str
    lead: str
    entries: tuple[Entry, ...]
    baseline: Entry | None
    missing: tuple[str, ...]

    @property
    def failures(self) -> list[str]:
        return [words for entry in self.entries for words in entry.failures]

    @property
    def facts(self) -> dict[str, str]:
        """What the runs have in common or differ in, in words."""
        runs = [run for entry in self.entries for run in entry.runs]
        rows = [row for entry in self.entries for row in entry.rows]
        found = {
            "protocol": _both(run["study"]["protocol"] for run in runs),
            "changes": _both("; ".join(run["study"]["changes"]) for run in runs),
            "tested on": _both(f"{run['test_images']:,} {_test_set(run)}" for run in runs),
            "codes compared on": _both(f"{run['verify']['images']:,} of them" for run in runs),
            "trained on": _both(_machine(run["trained"]) for run in runs),
            "measured on": _both(f"{row.machine['cpu']}, {row.machine['isa_active']}" for row in rows),
            "trained from": _both(str(run["trained"]["commit"]) for run in runs),
            "PyTorch": _both(run["trained"]["versions"]["torch"] for run in runs),
            "dates": _span(run["trained"]["started"][:10] for run in runs),
        }
        return {label: words for label, words in found.items() if words}


def gather(title: str, lead: str, entries: Sequence[Entry], baseline: str | None) -> Scores:
    """Sorts the entries. Raises ConfigError where runs of different test sets would stand in one table."""
    tests = {(run["test_images"], _test_set(run)) for entry in entries for run in entry.runs}
    if len(tests) > 1:
        listed = "; ".join(f"{n:,} {kind}" for n, kind in sorted(tests))
        raise ConfigError(f"these runs cannot stand in one table: {listed}")
    groups = list(dict.fromkeys(entry.group for entry in entries))
    present = [entry for entry in entries if entry.rows]
    return Scores(
        title=title,
        lead=lead,
        entries=tuple(sorted(present, key=lambda e: (groups.index(e.group), e.accuracy is None, -e.accuracy.mean if e.accuracy else 0.0))),
        baseline=next((entry for entry in present if entry.name == baseline and entry.runs), None),
        missing=tuple(entry.name for entry in entries if not entry.rows),
    )


HEAD = (
    "method",
    "accuracy %",
    "gain",
    "published %",
    "difference of its protocol",
    "PyTorch %",
    "codes flipped",
    "accumulators differ",
    "file",
    "million OPs",
    "latency",
    "s per epoch",
    "note",
)


def cells(entry: Entry, scores: Scores) -> list[str]:
    """The texts below HEAD."""
    score = entry.accuracy
    gain = entry.gain(scores.baseline) if scores.baseline is not None else None
    if score is None:
        return [entry.name, "failed", *[""] * (len(HEAD) - 2)]
    torch, seconds, size, ops = (entry.mean(name) for name in ("accuracy_torch", "epoch_seconds", "file_bytes", "ops"))
    assert torch is not None and seconds is not None and size is not None and ops is not None
    figure, failed = entry.published, len(entry.rows) - score.n
    notes = [
        entry.note,
        "for comparison" if entry.reference else "",
        f"{score.n} seeds" if score.n > 1 else "1 seed",
        f"{failed} failed" if failed else "",
    ]
    latency = entry.latency_us
    return [
        entry.name,
        score.text(),
        "baseline" if entry is scores.baseline else gain.text(sign=True) if gain is not None else "",
        f"{figure.accuracy:g} ({figure.source})" if figure is not None else "",
        figure.difference if figure is not None else "",
        f"{torch:.2f}",
        f"{entry.total('verify', 'flipped'):,} of {entry.total('verify', 'codes'):,}",
        f"{entry.total('verify', 'accumulators_differ'):,} of {entry.total('verify', 'accumulators'):,}",
        f"{size / 1000:.1f} kB",
        f"{ops / 1e6:.3g}",
        f"{latency / 1000:.3g} ms" if latency is not None else "",
        f"{seconds:.3g}",
        ", ".join(n for n in notes if n),
    ]


def markdown(scores: Scores) -> str:
    """The page as Markdown: title, lead, table, failures, facts."""
    lines = [f"# {scores.title}", "", scores.lead, "", _line(HEAD), "|" + "---|" * len(HEAD)]
    group = ""
    for entry in scores.entries:
        if entry.group != group:
            group = entry.group
            lines.append(_line([f"**{group}**", *[""] * (len(HEAD) - 1)]))
        lines.append(_line(cells(entry, scores)))
    lines += ["", HOW]
    lines += ["", "Failed:", "", *(f"- {words}" for words in scores.failures)] if scores.failures else []
    lines += ["", f"Not run yet: {', '.join(scores.missing)}."] if scores.missing else []
    lines += ["", *(f"- {label}: {words}" for label, words in scores.facts.items())]
    return "\n".join(lines) + "\n"


HOW = (
    "Accuracy is that of the exported file in the engine, after the last epoch: mean \N{PLUS-MINUS SIGN} standard deviation over the "
    "seeds. Gains over the baseline are paired by seed. One seed says nothing of the spread. OPs: float multiply-accumulates and 1/64 of "
    "the binary ones. Latency: one image, engine, one thread, median."
)


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(t.replace("|", "\\|") for t in texts) + " |"


def _inside(table: dict[str, Any], path: Sequence[str]) -> Any:
    value: Any = table
    for name in path:
        value = value[name]
    return value


def _test_set(run: dict[str, Any]) -> str:
    held = run["recipe"]["data"].get("holdout")
    return "test images" if held is None else "held-out training images (the test set was not used)"


def _machine(trained: dict[str, Any]) -> str:
    gpus = trained["machine"]["gpus"]
    return f"{gpus[0] if trained['device'] != 'cpu' and gpus else trained['machine']['cpu']}, {trained['device']}"


def _both(words: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(w for w in words if w))


def _span(dates: Iterable[str]) -> str:
    found = sorted(set(dates))
    return " to ".join(dict.fromkeys([found[0], found[-1]])) if found else ""
