"""A recipe at another number of epochs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.recipes import TWO_STAGES, short

from bitfold.errors import ConfigError
from bitfold.training.epochs import shares, with_epochs
from bitfold.training.schedule import lr_factor


@given(st.lists(st.integers(1, 500), min_size=1, max_size=5), st.integers(0, 500))
def test_shares_are_whole_positive_and_complete(parts: list[int], more: int) -> None:
    made = shares(parts, len(parts) + more)
    assert sum(made) == len(parts) + more and min(made) >= 1
    assert shares(parts, sum(parts)) == parts


def test_shares_keep_the_proportion() -> None:
    assert shares([128, 128], 10) == [5, 5] and shares([1, 400], 10) == [1, 9] and shares([400, 1], 10) == [9, 1]


def test_stages_keep_the_shape_of_their_schedules() -> None:
    sets = ["stage.0.schedule=step", "stage.0.milestones=[20, 60]", "stage.0.epochs=80", "stage.0.warmup_epochs=10"]
    recipe = short(*sets, "stage.1.schedule=exponential", "stage.1.gamma=0.9", "stage.1.epochs=40", text=TWO_STAGES)
    first, second = with_epochs(recipe, 12, "t").stage
    assert (first.epochs, first.milestones, first.warmup_epochs) == (8, (2.0, 6.0), 1.0)
    assert second.epochs == 4 and lr_factor(second, 4, 1) == pytest.approx(lr_factor(recipe.stage[1], 40, 1))
    assert with_epochs(recipe, 120, "t") == recipe


def test_fewer_epochs_than_stages_are_refused() -> None:
    with pytest.raises(ConfigError, match="row x: 1 epochs for 2 stages"):
        with_epochs(short(text=TWO_STAGES), 1, "row x")
