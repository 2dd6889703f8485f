"""A recipe at another number of epochs: everything that is counted in epochs moves along, so that the schedule keeps its shape."""

from dataclasses import replace

from bitfold.errors import ConfigError
from bitfold.training.recipe import Recipe, Stage


def with_epochs(recipe: Recipe, total: int, where: str) -> Recipe:
    """``recipe`` with ``total`` epochs over all its stages, shared among them as before (rounded, at least one each).

    Warm-up and milestones scale with their stage; an exponential schedule keeps its last rate (gamma ** (old / new) per epoch).
    Raises ConfigError where there are more stages than epochs.
    """
    before = [stage.epochs for stage in recipe.stage]
    if total < len(before):
        raise ConfigError(f"{where}: {total} epochs for {len(before)} stages; at least one epoch a stage is needed")
    return replace(recipe, stage=tuple(_scaled(s, n) for s, n in zip(recipe.stage, shares(before, total), strict=True)))


def shares(parts: list[int], total: int) -> list[int]:
    """``total`` in whole numbers in proportion to ``parts``, none below 1: cut at the rounded running sums.

    >>> shares([128, 128], 9), shares([1, 400], 10)
    ([4, 5], [1, 9])
    """
    made: list[int] = []
    for i in range(len(parts)):
        cut = round(total * sum(parts[: i + 1]) / sum(parts))
        left = len(parts) - i - 1
        made.append(min(max(cut - sum(made), 1), total - sum(made) - left))
    return made


def _scaled(stage: Stage, epochs: int) -> Stage:
    ratio = epochs / stage.epochs
    return replace(
        stage,
        epochs=epochs,
        warmup_epochs=stage.warmup_epochs * ratio,
        milestones=tuple(m * ratio for m in stage.milestones),
        gamma=stage.gamma ** (1 / ratio) if stage.schedule == "exponential" else stage.gamma,
    )
