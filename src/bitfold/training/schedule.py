"""Learning-rate schedules as pure functions of the position in a stage: nothing to save, nothing to resume."""

import math

from bitfold.training.recipe import Stage


def position(stage: Stage, step: int, steps_per_epoch: int) -> float:
    """Epochs done before optimiser step ``step`` (0-based).

    By step it moves with every step; by epoch it is a whole number.
    """
    return step / steps_per_epoch if stage.schedule_by == "step" else step // steps_per_epoch


def progress(stage: Stage, step: int, steps_per_epoch: int) -> float:
    """The methods' clock, from 0 to 1."""
    return position(stage, step, steps_per_epoch) / stage.epochs


def lr_factor(stage: Stage, step: int, steps_per_epoch: int) -> float:
    """What the learning rate is multiplied by for optimiser step ``step`` (0-based) of the stage.

    Warm-up rises linearly and reaches 1 at its end. After it, with t in [0, 1] the done part of the rest: cosine (1 + cos(pi t)) / 2,
    linear 1 - t; step multiplies by gamma at each milestone (epochs from the start of the stage), exponential by gamma each epoch.
    By "next_epoch" epoch e has the value for e + 1 and the last epoch the final one: several official codes step their scheduler at
    the start of an epoch.
    """
    at = position(stage, step, steps_per_epoch) + (stage.schedule_by == "next_epoch")
    if at < stage.warmup_epochs:
        increment = 1.0 / steps_per_epoch if stage.schedule_by == "step" else 1.0
        return min((at + increment) / stage.warmup_epochs, 1.0)
    t = (at - stage.warmup_epochs) / (stage.epochs - stage.warmup_epochs)
    if stage.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * t))
    if stage.schedule == "linear":
        return 1.0 - t
    if stage.schedule == "step":
        return stage.gamma ** sum(at >= m for m in stage.milestones)
    if stage.schedule == "exponential":
        return float(stage.gamma**at)
    return 1.0
