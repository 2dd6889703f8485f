"""``bitfold eval RUN --corruptions``: the options as they are typed, the run and its baseline on the same corrupted images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bitfold.data.corruptions import COMMON, NAMES
from bitfold.errors import ConfigError, unknown
from bitfold.training.loaders import test_loader
from bitfold.training.robustness import Robustness, evaluate_corruptions
from bitfold.training.run import Run


def corruption_rows(
    path: Path,
    data: Path | None,
    corruptions: str,
    severities: str,
    limit: int | None,
    baseline: Path | None,
    note: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Rows of ``Robustness.rows`` for a run.

    ``corruptions``: names with commas, "all", or "all,-frost"; ``severities``: for example 1-5 or 1,3.
    """
    chosen, wanted = _names(corruptions), _severities(severities)

    def measured(folder: Path) -> Robustness:
        run = Run.load(folder)
        spec = run.recipe.data
        recipe = run.recipe if limit is None else replace(run.recipe, data=replace(spec, test_limit=min(limit, spec.test_limit or limit)))
        return evaluate_corruptions(
            run.model(), test_loader(recipe, data), chosen, wanted, note=lambda name: note(f"{run.recipe.name}: {name}")
        )

    result = measured(path)
    return result.rows(measured(baseline) if baseline is not None else None)


def _names(text: str) -> tuple[str, ...]:
    parts = [part.strip() for part in text.split(",")]
    without = {part[1:] for part in parts if part.startswith("-")}
    wanted = [name for part in parts if not part.startswith("-") for name in (COMMON if part == "all" else (part,))]
    for name in (*wanted, *without):
        if name not in NAMES:
            raise unknown("corruption", name, ("all", *NAMES))
    return tuple(name for name in dict.fromkeys(wanted) if name not in without)


def _severities(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ConfigError(f"--severities {text!r}: expected numbers of 1 to 5, for example 1-5 or 1,3")
        found += range(int(first), int(last if dash else first) + 1)
    return tuple(dict.fromkeys(found))
