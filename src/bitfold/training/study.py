"""Studies: several runs that differ in a few named ways, as one TOML file; ``bitfold reproduce`` runs them and draws the table.

A study holds one base recipe and rows of changes to it. What the file may say is in ``docs/guide/reproduce.md``; the fields below are
the whole list, and as in recipes every mistake is refused by name.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitfold.errors import ConfigError, unknown
from bitfold.training.epochs import with_epochs
from bitfold.training.recipe import Recipe, find, from_table, shipped
from bitfold.training.schema import build

FULL = "full"  # the protocol of the study itself


@dataclass(frozen=True, kw_only=True)
class Published:
    """The figure of a paper or its code, and how its protocol differs from the study's. Never our own result."""

    accuracy: float = field(metadata={"min": 0, "max": 100})  # top-1, per cent
    source: str
    difference: str  # "400 epochs, batch 256"; "none" where the protocols agree


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    name: str  # letters, digits, "_", "-", ".", "+": a part of folder names
    set: tuple[str, ...] = ()  # changes to the base, each key=value as for --set; "{epochs}" stands for the epochs of the run
    recipe: str | None = None  # a shipped recipe that takes the place of the base for this row
    published: Published | None = None
    group: str = ""  # a heading over rows that belong together
    note: str = ""  # what the reader of the table should know
    reference: bool = False  # stands beside the others for comparison, as a float twin does, and is no contestant
    follows: str | None = None  # the row whose run with the first seed is this one's teacher; the recipe then needs teacher.weight


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A named variant of the whole study: other epochs, other changes to every row."""

    description: str
    epochs: int | None = field(default=None, metadata={"min": 1})
    set: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Study:
    name: str
    title: str
    description: str  # what is the same for all rows, and what is not
    base: Any = None  # a recipe without name, seed and claim, as TOML holds it
    epochs: int | None = field(default=None, metadata={"min": 1})  # of every row, all stages together; without it as the recipes say
    baseline: str | None = None  # the row that gains are counted from
    row: tuple[StudyRow, ...]
    protocol: dict[str, Protocol] = field(default_factory=dict)

    def find(self, names: Sequence[str] | None) -> list[StudyRow]:
        """The rows ``names`` (default all) in the study's order. ConfigError for an unknown one."""
        known = [row.name for row in self.row]
        for name in names or ():
            if name not in known:
                raise unknown(f"row of study {self.name}", name, known)
        return [row for row in self.row if names is None or row.name in names]

    def variant(self, protocol: str) -> Protocol:
        """The protocol of that name; "full" is the study as it stands."""
        if protocol == FULL:
            return Protocol(description=self.description)
        if protocol not in self.protocol:
            raise unknown(f"protocol of study {self.name}", protocol, [FULL, *self.protocol])
        return self.protocol[protocol]

    def recipe(self, row: StudyRow, seed: int, protocol: str, epochs: int | None, more: Sequence[str], teacher: Path | None) -> Recipe:
        """The recipe of one run. Changes apply in this order: row, protocol, ``more``; then epochs, seed and the teacher's run."""
        variant = self.variant(protocol)
        where = f"study {self.name}: row {row.name}"
        table = dict(self.base) if row.recipe is None else _table(find(row.recipe))
        table.pop("claim", None)
        if teacher is not None:
            table["teacher"] = {**table.get("teacher", {}), "run": str(teacher)}
        table |= {"name": f"{self.name}_{row.name}", "seed": seed}
        total = next((n for n in (epochs, variant.epochs, self.epochs) if n is not None), None)
        if total is None and any("{epochs}" in change for change in row.set):
            raise ConfigError(f"{where}: set says {{epochs}}, but neither study, protocol nor --epochs gives a number of epochs")
        changes = [change.replace("{epochs}", str(total)) for change in row.set]
        recipe = from_table(table, where, [*changes, *variant.set, *more])
        if recipe.seed != seed:
            raise ConfigError(f"{where}: seed={recipe.seed} has no effect here; the study gives every run its seed")
        if recipe.teacher is not None and teacher is None:
            raise ConfigError(f"{where}: teacher.run = {recipe.teacher.run!r}; a row of a study names its teacher by follows = ROW")
        return recipe if total is None else with_epochs(recipe, total, where)


def load_study(path_or_name: str | Path) -> Study:
    """Reads a study file, or a shipped one by its name. Raises ConfigError."""
    path = Path(path_or_name)
    if not path.is_file():
        if path.suffix or len(path.parts) != 1:
            raise ConfigError(f"study file {str(path)!r} not found; give a .toml file or one of: {', '.join(names())}")
        if str(path) not in names():
            raise unknown("study", str(path), names())
        path = shipped("studies") / f"{path}.toml"
    return parse(_table(path), str(path))


def names() -> list[str]:
    """The shipped studies."""
    return sorted(p.stem for p in shipped("studies").glob("*.toml"))


def parse(table: dict[str, Any], where: str) -> Study:
    """A study from what its TOML file holds; rows that point nowhere are refused."""
    study = build(Study, table, where)
    known = [row.name for row in study.row]
    if not known:
        raise ConfigError(f"{where}: row is empty; at least one [[row]] is needed")
    free = [row.name for row in study.row if row.follows is None]
    for row in study.row:
        if not re.fullmatch(r"[\w.+-]+", row.name) or known.count(row.name) > 1:
            raise ConfigError(f"{where}: row name {row.name!r}: allowed are letters, digits, '_', '-', '.', '+', each name once")
        if row.follows is not None and row.follows not in free:
            raise ConfigError(f"{where}: row {row.name}: follows = {row.follows!r}; allowed are rows that follow none: {', '.join(free)}")
        if row.recipe is None and study.base is None:
            raise ConfigError(f"{where}: row {row.name} has no recipe and the study no [base]; one of them is needed")
    if study.base is not None and not isinstance(study.base, dict):
        raise ConfigError(f"{where}: base = {study.base!r} is not a table")
    for key in ("name", "seed", "claim"):
        if study.base is not None and key in study.base:
            raise ConfigError(f"{where}: base.{key} has no effect here; the study gives it")
    if study.baseline is not None and study.baseline not in known:
        raise unknown("baseline row", study.baseline, known)
    if FULL in study.protocol:
        raise ConfigError(f"{where}: protocol.{FULL} is the study itself; choose another name")
    return study


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path}: not a TOML file: {e}") from e
