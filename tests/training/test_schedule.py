"""Schedules at known positions."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitfold.training.recipe import Stage
from bitfold.training.schedule import lr_factor, progress


def stage(**options: Any) -> Stage:
    return Stage(**{"method": "float", "epochs": 10, "optimizer": "sgd", "lr": 1.0, "schedule": "cosine", **options})


def test_cosine_by_epoch_is_stepped_at_the_end_of_an_epoch() -> None:
    s = stage(epochs=200, schedule_by="epoch")
    values = [lr_factor(s, step, 4) for step in (0, 3, 4, 799)]
    assert values[0] == values[1] == 1.0
    assert values[2] == pytest.approx(0.5 * (1 + math.cos(math.pi / 200)))
    # S3's official code steps at the start: its epoch e trains at our value for e + 1 (s3-shift: 0.0999938 at e = 0 for lr 0.1)
    assert 0.1 * values[2] == pytest.approx(0.0999938, abs=1e-7)
    assert 0.1 * values[3] == pytest.approx(6.17e-6, abs=1e-8)


def test_next_epoch_is_stepped_at_the_start_of_an_epoch() -> None:
    """binarize-by-classification.md 8.8."""
    s = stage(epochs=120, lr=2.5e-3, schedule="linear", schedule_by="next_epoch")
    rates = [s.lr * lr_factor(s, step, 4) for e in (0, 59, 119) for step in (4 * e, 4 * e + 3)]
    assert rates == pytest.approx([2.479167e-3] * 2 + [1.25e-3] * 2 + [0.0] * 2, abs=1e-9)
    assert progress(s, 4 * 59 + 3, 4) == 59 / 120  # the methods' clock is not moved


def test_cosine_by_step_moves_within_an_epoch() -> None:
    s = stage()
    assert lr_factor(s, 0, 4) == 1.0
    assert lr_factor(s, 20, 4) == pytest.approx(0.5)
    assert 0 < lr_factor(s, 39, 4) < 0.002
    assert lr_factor(s, 1, 4) < 1.0


def test_linear_step_exponential_constant() -> None:
    assert lr_factor(stage(schedule="linear"), 10, 4) == pytest.approx(0.75)
    s = stage(schedule="step", milestones=(2.0, 5.0), gamma=0.1)
    assert [lr_factor(s, e * 4, 4) for e in (1, 2, 4, 5)] == pytest.approx([1, 0.1, 0.1, 0.01])
    assert lr_factor(s, 7, 4) == 1.0
    assert lr_factor(stage(schedule="exponential", gamma=0.5, schedule_by="epoch"), 11, 4) == pytest.approx(0.25)
    assert lr_factor(stage(schedule="constant"), 39, 4) == 1.0


def test_warmup_rises_to_one_and_the_rest_has_its_full_schedule() -> None:
    s = stage(warmup_epochs=2.0, schedule="linear")
    assert [lr_factor(s, i, 4) for i in range(9)] == pytest.approx([(i + 1) / 8 for i in range(8)] + [1.0])
    assert lr_factor(s, 24, 4) == pytest.approx(0.5)
    by_epoch = stage(warmup_epochs=2.0, schedule="linear", schedule_by="epoch")
    assert [lr_factor(by_epoch, 4 * e, 4) for e in range(3)] == pytest.approx([0.5, 1.0, 1.0])


@given(
    st.sampled_from(["cosine", "linear", "exponential", "constant"]),
    st.sampled_from(["step", "epoch", "next_epoch"]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(0, 3),
)
def test_factor_and_progress_stay_in_range(kind: str, by: str, epochs: int, steps: int, warmup: float) -> None:
    s = stage(schedule=kind, schedule_by=by, epochs=epochs + 3, warmup_epochs=warmup)
    clock = [progress(s, i, steps) for i in range((epochs + 3) * steps + 1)]
    assert clock == sorted(clock) and clock[0] == 0.0 and clock[-1] == 1.0
    assert all(0.0 <= lr_factor(s, i, steps) <= 1.0 for i in range((epochs + 3) * steps))
