"""Studies: what a file may say, and the recipe of each run."""

import re
import tomllib
from pathlib import Path

import pytest
from tests.training.studies import table, tiny

from bitfold.errors import ConfigError
from bitfold.training.run import build_model
from bitfold.training.study import load_study, names, parse


def test_rows_change_the_base_and_nothing_else() -> None:
    study = tiny()
    (row,) = study.find(["bireal"])
    recipe = study.recipe(row, 3, "full", None, [], None)
    assert (recipe.name, recipe.seed, recipe.stage[0].method) == ("tiny_bireal", 3, "bireal")
    assert (recipe.data.batch_size, recipe.data.train_limit, recipe.claim, recipe.teacher) == (40, 120, None, None)
    assert study.recipe(study.find(["float"])[0], 3, "full", None, [], None).stage[0].method == "float"  # the base is as it was


def test_epochs_of_call_before_protocol_before_study_move_the_schedule() -> None:
    study, row = tiny(), tiny().row[0]

    def stage(protocol: str, epochs: int | None) -> tuple[float, ...]:
        one = study.recipe(row, 0, protocol, epochs, [], None).stage[0]
        return one.epochs, one.warmup_epochs, *one.milestones

    assert stage("full", None) == (1, 0.25, 0.5)
    assert stage("long", None) == (8, 2.0, 4.0)
    assert stage("long", 2) == (2, 0.5, 1.0)


def test_changes_apply_row_then_protocol_then_call() -> None:
    study, row = tiny(), tiny().row[0]
    assert study.recipe(row, 0, "long", None, [], None).data.train_limit == 60
    assert study.recipe(row, 0, "long", None, ["data.train_limit=80"], None).data.train_limit == 80


def test_a_follower_gets_its_teachers_run() -> None:
    study = tiny()
    (row,) = study.find(["taught"])
    teacher = study.recipe(row, 0, "full", None, [], Path("runs/x")).teacher
    assert teacher is not None and (teacher.run, teacher.weight) == ("runs/x", 0.5)
    with pytest.raises(ConfigError, match=r"teacher.run is missing"):
        study.recipe(row, 0, "full", None, [], None)


def test_a_row_may_take_a_shipped_recipe() -> None:
    study = parse(table('set = ["stage.method=bireal"]', 'recipe = "adabin_digits_cnn_digits"\nset = ["model.options.width=8"]'), "t")
    recipe = study.recipe(study.row[0], 1, "full", 3, [], None)
    assert (recipe.stage[0].method, recipe.data.batch_size, recipe.model.options["width"]) == ("adabin", 100, 8)
    assert (recipe.stage[0].epochs, recipe.seed, recipe.claim) == (3, 1, None)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "bireal"\n', 'name = "a/b"\n', "row name 'a/b'"),
        ('name = "bireal"\n', 'name = "float"\n', "row name 'float'.*each name once"),
        ('baseline = "bireal"', 'baseline = "birael"', "unknown baseline row 'birael'; did you mean 'bireal'"),
        ('follows = "float"', 'follows = "taught"', "row taught: follows = 'taught'; allowed are rows that follow none: bireal, float"),
        ("reference = true", "referenz = true", "unknown key 'row.2.referenz'"),
        ("accuracy = 90.5", "accuracy = 905", "row.1.published.accuracy = 905"),
        ('difference = "more epochs"', "", "row.1.published.difference is missing"),
        ("[protocol.long]", "[protocol.full]", "protocol.full is the study itself"),
        ("[protocol.long]", "[protocol.long]\nepoch = 3", "unknown key 'protocol.long.epoch'"),
        ("[base.data]", "[base]\nseed = 3\n[base.data]", "base.seed has no effect"),
    ],
)
def test_mistakes_are_named(old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(table(old, new), "t.toml")


def test_a_row_without_recipe_needs_a_base() -> None:
    bare = {name: value for name, value in table().items() if name != "base"}
    with pytest.raises(ConfigError, match="row bireal has no recipe and the study no"):
        parse(bare, "t.toml")


def test_mistakes_in_a_request_are_named(tmp_path: Path) -> None:
    study, row = tiny(), tiny().row[0]
    with pytest.raises(ConfigError, match="unknown row of study tiny 'bieral'; did you mean 'bireal'"):
        study.find(["bieral"])
    with pytest.raises(ConfigError, match="unknown protocol of study tiny 'log'; did you mean 'long'"):
        study.recipe(row, 0, "log", None, [], None)
    with pytest.raises(ConfigError, match="row bireal: seed=4 has no effect"):
        study.recipe(row, 0, "full", None, ["seed=4"], None)
    with pytest.raises(ConfigError, match="a row of a study names its teacher by follows"):
        study.recipe(row, 0, "full", None, ["teacher.run=x", "teacher.weight=0"], None)
    with pytest.raises(ConfigError, match="unknown study 'cifar10'"):
        load_study("cifar10")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(ConfigError, match=r"bad\.toml: not a TOML file"):
        load_study(tmp_path / "bad.toml")


def test_the_guides_example_is_a_study() -> None:
    guide = Path(__file__).parents[2] / "docs" / "guide" / "reproduce.md"
    (example,) = re.findall(r"```toml\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    study = parse(tomllib.loads(example), "reproduce.md")
    assert [row.name for row in study.row] == ["float", "bireal", "adabin", "distilled"]
    for row in study.row:
        recipe = study.recipe(row, 0, "short", None, [], Path("t") if row.follows is not None else None)
        build_model(recipe, 0)


LARGE = pytest.mark.slow  # 79 networks of 11 million weights


@pytest.mark.parametrize("name", [pytest.param(n, marks=LARGE) if "resnet18" in n else n for n in names()])
def test_shipped_studies_build(name: str) -> None:
    """Every row of every protocol is a recipe, and its network can be built."""
    study = load_study(name)
    assert study.name == name
    for row in study.row:
        teacher = Path("teacher") if row.follows is not None else None
        for protocol in ("full", *study.protocol):
            recipe = study.recipe(row, 0, protocol, None, [], teacher)
        for i in range(len(recipe.stage)):
            build_model(recipe, i)


def test_epochs_in_a_row_are_those_of_the_run() -> None:
    study = parse(table('set = ["stage.method=bireal"]', 'set = ["stage.method=rbnn", "stage.options.fits={epochs}"]'), "t")
    (row,) = study.find(["bireal"])
    assert study.recipe(row, 0, "long", None, [], None).stage[0].options["fits"] == 8
    assert study.recipe(row, 0, "long", 3, [], None).stage[0].options["fits"] == 3
