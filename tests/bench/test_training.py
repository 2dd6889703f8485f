import pytest

from bitfold.bench import training
from bitfold.errors import ConfigError


def test_eager_steps_have_rows_with_their_ratio():
    made = training.run("digits_cnn", "adabin", ["eager"], batch=4, image=(1, 8, 8), repeats=5)
    assert [row.contestant for row in made] == ["float eager", "adabin eager"]
    ratio = made[1].timing.median_us / made[0].timing.median_us
    assert made[1].details["times_float"] == pytest.approx(ratio) and made[0].details == {}


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match="unknown mode 'jit'"):
        training.run(modes=["jit"])
