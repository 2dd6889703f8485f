import pytest

from bitfold.bench import training
from bitfold.errors import ConfigError


def test_eager_steps_have_rows_with_their_ratio():
    made = training.run("digits_cnn", "adabin", ["eager"], batch=4, image=(1, 8, 8), repeats=5)
    assert [row.contestant for row in made] == ["float eager", "adabin eager"]
    ratio = made[1].timing.median_us / made[0].timing.median_us
    assert made[1].details["times_float"] == pytest.approx(ratio) and made[0].details == {}


def test_a_method_with_a_teacher_has_its_forward_in_the_step():
    made = training.run("digits_cnn", "lcr_bnn", ["eager"], batch=4, image=(1, 8, 8), repeats=5)
    assert made[1].contestant == "lcr_bnn eager" and made[1].details["times_float"] > 1


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match="unknown mode 'jit'"):
        training.run(modes=["jit"])
