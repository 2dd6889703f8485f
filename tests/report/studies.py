"""Rows of an invented study for the tests of its table."""

from typing import Any

from bitfold.bench.rows import Row
from bitfold.bench.timing import Timing

STAMP: dict[str, Any] = {
    "machine": {"cpu": "Some CPU", "isa_active": "avx2"},
    "versions": {},
    "commit": None,
    "date": "2026-01-02T00:00:00Z",
    "command": "",
}


def run(name: str, seed: int, accuracy: float, holdout: int | None = None) -> Row:
    """A run that ended well."""
    machine = {"cpu": "Some CPU", "gpus": ["Some GPU"]}
    details = {
        "study": {"seed": seed, "protocol": "full", "changes": []},
        "recipe": {"data": {"name": "digits"} | ({"holdout": holdout} if holdout is not None else {})},
        "trained": {"machine": machine, "device": "cuda:0", "commit": "abc", "versions": {"torch": "2.6"}, "started": "2026-01-01T10:00"},
        "test_images": 1000,
        "accuracy": accuracy,
        "accuracy_torch": accuracy + 0.5,
        "verify": {"images": 100, "flipped": 3, "codes": 5000, "accumulators": 700, "accumulators_differ": 0},
        "train_seconds": 9.0,
        "epoch_seconds": 2.0 + seed,
        "file_bytes": 12_345,
        "ops": 1_070_000.0,
    }
    timing = Timing(1300.0 + 100 * seed, 1250.0, 1400.0, 1200.0, 2000.0, 50, 1)
    return Row(bench="study", subject="s", contestant=name, threads=1, batch=1, timing=timing, details=details, **STAMP)


def failure(name: str, seed: int, reason: str) -> Row:
    details = {"study": {"seed": seed, "protocol": "full", "changes": []}}
    return Row(bench="study", subject="s", contestant=name, threads=1, batch=1, timing=None, reason=reason, details=details, **STAMP)
