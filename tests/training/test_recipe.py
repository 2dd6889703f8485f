"""Recipes: strictness, overrides, hash, and the text a run keeps."""

from pathlib import Path

import pytest

from bitfold.errors import ConfigError
from bitfold.training.recipe import find, load_recipe, names, parse

TEXT = """
name = "t"
[data]
name = "digits"
batch_size = 10
[model]
name = "digits_cnn"
[[stage]]
method = "float"
epochs = 2
optimizer = "sgd"
lr = 0.1
schedule = "cosine"
[[stage]]
method = "adabin"
epochs = 3
optimizer = "adam"
lr = 0.01
schedule = "step"
milestones = [1]
[stage.options]
center_mode = "code"
"""


def test_reads_and_writes_the_same_recipe() -> None:
    recipe = parse(TEXT, "t.toml")
    assert [s.method for s in recipe.stage] == ["float", "adabin"]
    assert recipe.stage[1].options == {"center_mode": "code"} and recipe.stage[1].milestones == (1.0,)
    assert parse(recipe.toml(), "again") == recipe


def test_overrides_reach_one_stage_or_all_and_are_checked() -> None:
    sets = ["stage.epochs=7", "stage.1.lr = 0.5", "seed=3", "data.train_limit=20", "stage.1.options.maxout=false", "stage.0.compile=true"]
    recipe = parse(TEXT, "t", sets)
    assert [s.epochs for s in recipe.stage] == [7, 7] and [s.lr for s in recipe.stage] == [0.1, 0.5]
    assert recipe.seed == 3 and recipe.data.train_limit == 20 and recipe.stage[1].options["maxout"] is False and recipe.stage[0].compile
    assert parse(TEXT, "t", ["stage.0.schedule=linear", "name=run 1"]).stage[0].schedule == "linear"
    for bad, words in {
        "stage.0.lrr=1": ["unknown key 'stage.0.lrr'", "'stage.0.lr'"],
        "stage.2.lr=1": ["there is no stage.2"],
        "stage.lr=fast": ["stage.0.lr = 'fast'"],
        "seed": ["key=value"],
        "seed.x=1": ["seed"],
        "trainer.lr=1": ["unknown key 'trainer'"],
    }.items():
        with pytest.raises(ConfigError) as caught:
            parse(TEXT, "t", [bad])
        assert all(w in str(caught.value) for w in words), (bad, caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stage.1.momentum=0.9", "stage.1.momentum has no effect here; only optimizer sgd"),
        ("stage.0.milestones=[1]", "only schedule step"),
        ("stage.0.gamma=0.5", "only schedule step or exponential"),
        ("stage.1.milestones=[]", "stage.1.milestones is missing"),
        ("stage.0.warmup_epochs=2", "not below epochs"),
        ("stage.1.betas=[0.9]", "2 are needed"),
        ("stage=[]", "at least one"),
    ],
)
def test_refuses_what_would_have_no_effect(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(TEXT, "t", [override])


def test_hash_ignores_name_and_claim_only() -> None:
    recipe = parse(TEXT, "t")
    assert parse(TEXT, "t", ["name=other"]).hash == recipe.hash
    assert parse(TEXT, "t", ["seed=1"]).hash != recipe.hash


def test_find_by_name_path_and_neither(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(TEXT)
    assert load_recipe(tmp_path / "mine.toml").name == "t"
    assert find("adabin_digits_cnn_digits").is_file() and "adabin_digits_cnn_digits" in names()
    with pytest.raises(ConfigError, match="did you mean 'adabin_digits_cnn_digits'"):
        find("adabin_digit_cnn_digits")
    with pytest.raises(ConfigError, match="not found"):
        find(tmp_path / "other.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(ConfigError, match=r"bad\.toml: not a TOML file"):
        load_recipe(tmp_path / "bad.toml")
