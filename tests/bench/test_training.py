import pytest

from bitfold.bench import training
from bitfold.errors import ConfigError


def test_every_method_stands_beside_its_own_float_twin():
    said: list[str] = []
    made = training.run("digits_cnn", ["adabin", "bireal"], ["eager"], batch=4, image=(1, 8, 8), repeats=5, say=said.append)
    assert [row.contestant for row in made] == ["float eager", "adabin eager", "float eager", "bireal eager"]
    for twin, row in zip(made[::2], made[1::2], strict=True):
        assert row.details == {"times_float": pytest.approx(row.timing.median_us / twin.timing.median_us)}
        assert twin.details == {"beside": row.contestant.split()[0]}
    assert "2 methods, median" in said[-1]


def test_a_method_that_refuses_the_model_keeps_its_row(monkeypatch):
    def refuse(model, method, *rest):
        raise ConfigError(f"{method}: not this one")

    monkeypatch.setattr(training, "_step", refuse)
    (row,) = training.run("digits_cnn", ["adabin"], ["eager"])
    assert row.contestant == "adabin eager" and row.timing is None and row.reason == "float: not this one"


def test_an_unknown_method_is_refused_before_the_first_measurement():
    with pytest.raises(ConfigError, match="unknown method 'adabinn'"):
        training.run("digits_cnn", ["adabin", "adabinn"], ["eager"])


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match="unknown mode 'jit'"):
        training.run(modes=["jit"])
