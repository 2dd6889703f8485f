"""What a report takes from the folder of a training run, by its documented files alone (no PyTorch needed)."""

import json
from pathlib import Path
from typing import Any

from bitfold.errors import DataError
from bitfold.report.content import Curve, Epoch


def curve(folder: str | Path, name: str) -> Curve:
    """The run's metrics.jsonl, one epoch a row; epochs are counted through all stages. DataError where a row is broken."""
    epochs = []
    for number, line in enumerate(_read(folder, "metrics.jsonl").splitlines(), start=1):
        try:
            row: dict[str, Any] = json.loads(line)
            epochs.append(Epoch(number, row.get("train_loss"), row.get("test_accuracy"), row.get("flip_rate")))
        except (json.JSONDecodeError, AttributeError) as error:
            raise DataError(f"{Path(folder) / 'metrics.jsonl'}, line {number}: not a row of metrics: {error}") from error
    return Curve(name, tuple(epochs))


def recipe(folder: str | Path) -> str:
    """The TOML text."""
    return _read(folder, "recipe.toml")


def facts(folder: str | Path) -> dict[str, str]:
    """Recipe, seed, machine, origin of imported weights, versions, commit, dates and command of run.json, in words."""
    table: dict[str, Any] = json.loads(_read(folder, "run.json"))
    machine, versions = table.get("machine", {}), table.get("versions", {})
    found = {
        "recipe": table.get("recipe"),
        "seed": table.get("seed"),
        "trained on": ", ".join(str(v) for v in (machine.get("cpu"), *machine.get("gpus", [])) if v),
        "trained": " to ".join(str(table[k]) for k in ("started", "finished") if k in table),
        "commit": table.get("commit"),
        "imported": _imported(table["imported"]) if "imported" in table else None,
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items()),
        "command": table.get("command"),
    }
    return {label: str(value) for label, value in found.items() if value not in (None, "")}


def _imported(origin: dict[str, Any]) -> str:
    return f"{origin['file']} ({origin['source']}), SHA-256 {origin['sha256']}"


def _read(folder: str | Path, name: str) -> str:
    path = Path(folder) / name
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder} is not the folder of a run: cannot read {name} ({error.strerror}); `bitfold train` makes one") from error
