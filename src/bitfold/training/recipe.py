"""Recipes: everything that decides a training run, as one TOML file -> frozen dataclasses.

A recipe is complete (no inheritance) and strict: an unknown key, a wrong type or a value out of range is refused. What it means is in
``docs/guide/train.md``; the fields below are the whole list. Files are named ``<method>_<model>_<dataset>.toml``.
"""

import copy
import hashlib
import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import bitfold
from bitfold.errors import ConfigError, unknown
from bitfold.training.schema import build, to_toml


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What the paper reports for this run; never our own result."""

    accuracy: float = field(metadata={"min": 0, "max": 100})  # top-1, per cent
    source: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    name: str  # a data set that bitfold.data knows, or a folder of images
    batch_size: int = field(metadata={"min": 1})  # of all processes together
    drop_last: bool = True  # leave out the last batch of an epoch if it is not full
    augment: tuple[str, ...] = ()  # steps in order: see bitfold.data.augment
    normalize: str = "dataset"  # which mean and standard deviation: see bitfold.data.loader
    train_limit: int | None = field(default=None, metadata={"min": 1})  # only the first n training images, for short protocols
    test_limit: int | None = field(default=None, metadata={"min": 1})
    # the last n training images are not trained on and take the place of the test set, which then stays unseen: for choices
    holdout: int | None = field(default=None, metadata={"min": 1})
    options: dict[str, Any] = field(default_factory=dict)  # of a folder of images: see bitfold.data.folder


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TeacherSpec:
    """A finished run to follow: the task's loss becomes (1 - weight) * task + weight * T^2 * KL(teacher, student), T the temperature."""

    run: str  # folder of the teacher's run
    weight: float = field(metadata={"min": 0, "max": 1})  # 0 where the method's own loss uses the teacher
    temperature: float = field(default=1.0, metadata={"above": 0})


@dataclass(frozen=True, kw_only=True)
class Stage:
    method: str
    options: dict[str, Any] = field(default_factory=dict)  # the method's fields
    keep_float: tuple[str, ...] = ()  # paths of modules that the method leaves alone
    epochs: int = field(metadata={"min": 1})
    init: Literal["previous", "scratch"] = "previous"  # the weights of the stage before, by name; the first stage starts from scratch
    init_except: tuple[str, ...] = ()  # patterns of names that need not match those of the stage before
    label_smoothing: float = field(default=0.0, metadata={"min": 0, "below": 1})
    optimizer: Literal["sgd", "adam", "adamw", "s_adamax"]
    lr: float = field(metadata={"above": 0})
    momentum: float = field(default=0.0, metadata={"min": 0, "below": 1})  # sgd
    nesterov: bool = False  # sgd
    betas: tuple[float, ...] = field(default=(0.9, 0.999), metadata={"min": 0, "below": 1})  # adam, adamw, s_adamax
    weight_decay: float = field(default=0.0, metadata={"min": 0})
    schedule: Literal["cosine", "linear", "step", "exponential", "constant"]
    # how finely the learning rate and the method's progress move; next_epoch: as epoch, the rate one epoch ahead
    schedule_by: Literal["step", "epoch", "next_epoch"] = "step"
    warmup_epochs: float = field(default=0.0, metadata={"min": 0})
    milestones: tuple[float, ...] = field(default=(), metadata={"above": 0})  # step: in epochs
    gamma: float = field(default=0.1, metadata={"above": 0, "max": 1})  # step: the factor at each milestone; exponential: per epoch
    grad_clip: float | None = field(default=None, metadata={"above": 0})  # norm of all gradients together
    ema: float | None = field(
        default=None, metadata={"above": 0, "below": 1}
    )  # decay of averaged weights, which are then evaluated and kept
    precision: Literal[32, "bf16"] = 32
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str
    seed: int = field(default=0, metadata={"min": 0})
    data: DataSpec
    model: ModelSpec
    stage: tuple[Stage, ...]
    teacher: TeacherSpec | None = None
    claim: Claim | None = None

    @property
    def hash(self) -> str:
        """SHA-256 (hex) over all values but ``name`` and ``claim``: equal for recipes that train alike."""
        table = {k: v for k, v in asdict(self).items() if k not in ("name", "claim")}
        return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()

    def toml(self) -> str:
        return to_toml(asdict(self))


def load_recipe(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe file, or a shipped one by its name; ``overrides`` are ``key=value``, as for ``--set``. Raises ConfigError.

    >>> load_recipe("adabin_digits_cnn_digits", ["seed=3", "stage.epochs=2"]).stage[0].epochs
    2
    """
    path = find(path_or_name)
    return parse(path.read_text(encoding="utf-8"), str(path), overrides)


def parse(text: str, where: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from TOML text; ``where`` is the file's name for messages."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{where}: not a TOML file: {e}") from e
    return from_table(table, where, overrides)


def from_table(table: dict[str, Any], where: str, overrides: Sequence[str] = ()) -> Recipe:
    """As ``parse``, of what a TOML file holds; ``table`` stays as it is."""
    for override in overrides:
        table = override_table(table, override)
    recipe = build(Recipe, table, where)
    if not recipe.stage:
        raise ConfigError(f"{where}: stage is empty; at least one [[stage]] is needed")
    for i, stage in enumerate(recipe.stage):
        _check_stage(stage, f"{where}: stage.{i}")
    return recipe


def _check_stage(stage: Stage, where: str) -> None:
    """Refuses what the chosen optimiser or schedule would ignore."""
    unused = []
    if stage.optimizer != "sgd":
        unused += [("momentum", stage.momentum != 0.0, "optimizer sgd"), ("nesterov", stage.nesterov, "optimizer sgd")]
    else:
        unused += [("betas", stage.betas != (0.9, 0.999), "optimizer adam, adamw or s_adamax")]
    if stage.schedule != "step":
        unused += [("milestones", stage.milestones != (), "schedule step")]
    if stage.schedule not in ("step", "exponential"):
        unused += [("gamma", stage.gamma != 0.1, "schedule step or exponential")]
    for name, is_set, owner in unused:
        if is_set:
            raise ConfigError(f"{where}.{name} has no effect here; only {owner} uses it")
    if len(stage.betas) != 2:
        raise ConfigError(f"{where}.betas has {len(stage.betas)} numbers; 2 are needed")
    if stage.schedule == "step" and not stage.milestones:
        raise ConfigError(f"{where}.milestones is missing; schedule step needs the epochs at which the learning rate falls")
    if stage.warmup_epochs >= stage.epochs:
        raise ConfigError(f"{where}.warmup_epochs = {stage.warmup_epochs:g} is not below epochs = {stage.epochs}")


def override_table(table: dict[str, Any], override: str) -> dict[str, Any]:
    """A copy of ``table`` with one ``a.b.c=value`` set. ``stage.lr`` means every stage, ``stage.0.lr`` the first."""
    key, equals, text = override.partition("=")
    names = [n.strip() for n in key.split(".")]
    if not equals or not all(names):
        raise ConfigError(f"--set {override!r}: expected key=value, for example stage.0.lr=0.01")
    table = copy.deepcopy(table)
    targets: list[Any] = [table]
    for depth, name in enumerate(names[:-1]):
        targets = [child for t in targets for child in _children(t, name, names[: depth + 1], override)]
    for target in targets:
        for t in target if isinstance(target, list) else [target]:
            if not isinstance(t, dict):
                raise ConfigError(f"--set {override!r}: {'.'.join(names[:-1])} is not a table")
            t[names[-1]] = _value(text.strip())
    return table


def _children(target: Any, name: str, path: Sequence[str], override: str) -> list[Any]:
    if isinstance(target, list):
        if not name.isdigit():
            return [child for item in target for child in _children(item, name, path, override)]
        if int(name) >= len(target):
            raise ConfigError(f"--set {override!r}: there is no {'.'.join(path)}; the recipe has {len(target)}")
        return [target[int(name)]]
    if not isinstance(target, dict):
        raise ConfigError(f"--set {override!r}: {'.'.join(path[:-1])} is not a table")
    return [target.setdefault(name, {})]


def _value(text: str) -> Any:
    """A TOML value; anything that is not one is text, so that ``schedule=cosine`` needs no quotes."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def shipped(kind: str) -> Path:
    """Where the shipped "recipes" or "studies" are: inside an installed package, at the top of a source tree."""
    package = Path(bitfold.__file__).parent
    inside = package / kind
    return inside if inside.is_dir() else package.parents[1] / kind


def names() -> list[str]:
    """The shipped recipes."""
    return sorted(p.stem for p in shipped("recipes").glob("*.toml"))


def find(path_or_name: str | Path) -> Path:
    """The file of a recipe given by path or by shipped name."""
    path = Path(path_or_name)
    if path.is_file():
        return path
    if path.suffix == "" and len(path.parts) == 1:
        if str(path) in names():
            return shipped("recipes") / f"{path}.toml"
        raise unknown("recipe", str(path), names())
    raise ConfigError(f"recipe file {str(path)!r} not found; give a .toml file or one of: {', '.join(names())}")
